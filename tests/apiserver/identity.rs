//! Who gets in.

use crate::harness::each_kubectl;

#[test]
fn masters_get_in_nodes_and_strangers_do_not() {
    each_kubectl(|server, admin| {
        admin.run(&["get", "pods"]).ok();
        let node = server.kubectl_as(&admin.program, "bramble-1", Some("system:nodes"));
        node.run(&["get", "--raw", "/api/v1/pods"])
            .fails("pods is forbidden: User \"bramble-1\" cannot list resource \"pods\" in API group \"\" at the cluster scope");
        node.run(&["get", "--raw", "/readyz"]).says("ok");
        // A name and a password are no credentials here; without them kubectl would ask.
        let stranger = server.kubectl_with(&admin.program, "nobody", "{username: nobody, password: none}");
        stranger.run(&["get", "--raw", "/api/v1/pods"]).fails("Unauthorized");
        stranger.run(&["get", "--raw", "/livez"]).says("ok");
        // A token that is none is refused whatever it asks for, as upstream does.
        let liar = server.kubectl_with(&admin.program, "liar", "{token: nonsense}");
        liar.run(&["get", "--raw", "/api/v1/pods"]).fails("Unauthorized");
        liar.run(&["get", "--raw", "/livez"]).fails("Unauthorized");
        admin.run(&["get", "pods", "--as=bob"]).fails("User \"bob\" cannot");
    });
}
