//! Who gets in.

use crate::harness::each_kubectl;

#[test]
fn masters_get_in_nodes_and_strangers_do_not() {
    each_kubectl(|server, admin| {
        admin.run(&["get", "pods"]).ok();
        let node = server.kubectl_as(&admin.program, Some(("bramble-1", Some("system:nodes"))));
        node.run(&["get", "--raw", "/api/v1/pods"])
            .fails("pods is forbidden: User \"bramble-1\" cannot list resource \"pods\" in API group \"\" at the cluster scope");
        node.run(&["get", "--raw", "/readyz"]).says("ok");
        let stranger = server.kubectl_as(&admin.program, None);
        stranger.run(&["get", "--raw", "/api/v1/pods"]).fails("Unauthorized");
        stranger.run(&["get", "--raw", "/livez"]).says("ok");
        admin.run(&["get", "pods", "--as=bob"]).fails("User \"bob\" cannot");
    });
}
