//! Pods with an IPv6 address beside the one of IPv4. On a machine of its own, as in `node_network.rs`.

use bramble::agent::node_network::NodeNetwork6;
use bramble::agent::pod_network::{PodNetwork, PodNetwork6};
use serde_json::{Value, json};

use crate::engine::Kind;
use crate::node_network::{Node, Outside, PEER, end, host, network, on_a_machine_of_its_own, seen_by};
use crate::support::{Cluster, docker, pod, share, shell};

/// As the machine is towards the host outside, and that.
const UPLINK: &str = "fd99::1";
const OUTSIDE: &str = "fd99::2";

/// A node's part of both networks: `10.201.N.0/24`, `fd00:c9:0:10N::/64`.
fn both(number: u8) -> PodNetwork {
    let own = NodeNetwork6::of_range(format!("fd00:c9:0:10{number}::/64").parse().unwrap()).unwrap();
    let v6 = Some(PodNetwork6 { own, pods: "fd00:c9:0:100::/56".parse().unwrap() });
    PodNetwork { v6, ..network(&format!("10.201.{number}.0/24")) }
}

fn addresses(status: &Value) -> (String, String) {
    let at = |index: usize| status["podIPs"][index]["ip"].as_str().unwrap_or_default().to_owned();
    assert_eq!(status["podIP"], at(0), "{status:#}");
    (at(0), at(1))
}

#[test]
fn pods_have_addresses_of_both_families_and_reach_each_other_by_both() {
    on_a_machine_of_its_own("dual_stack::two_nodes_of_both_families");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the body of the test above, on a machine of its own"]
async fn two_nodes_of_both_families() {
    let outside = Outside::plug_in();
    host(&format!("ip addr add {UPLINK}/64 dev up0 nodad"));
    outside.run(&format!("ip addr add {OUTSIDE}/64 dev eth0 nodad"));
    let cluster = Cluster::new();
    // As on a host whose firewall forwards nothing by itself.
    host("ip6tables-nft -P FORWARD DROP");
    let folder = tempfile::tempdir().unwrap();

    // The first node was there when the cluster had IPv4 only, and has nobody on its network.
    let mut one = Node::start(&cluster, folder.path(), "test-1", Some(network("10.201.1.0/24")));
    one.until_v6(None).await;
    assert!(!host("nft list tables").contains("ip6 bramble"));
    one.wanted.send_replace(Some(both(1)));
    let mut two = Node::start(&cluster, folder.path(), "test-2", Some(both(2)));
    for (node, number) in [(&mut one, 1), (&mut two, 2)] {
        node.until_v6(both(number).v6.map(|v6| v6.own)).await;
    }
    assert_eq!(host("cat /proc/sys/net/ipv6/conf/all/forwarding"), "1");

    let mut web = pod("web", &[("app", PEER)]);
    let field = |path: &str| json!({"name": path.replace('.', "_"), "valueFrom": {"fieldRef": {"fieldPath": path}}});
    web["spec"]["containers"][0]["env"] = json!([field("status.podIP"), field("status.podIPs")]);
    let (beside, there) = (pod("beside", &[("app", PEER)]), pod("there", &[("app", PEER)]));
    one.agent.want(share(&[web.clone(), beside.clone()])).await;
    two.agent.want(share(std::slice::from_ref(&there))).await;
    let (a, b, c) =
        (one.agent.until_ready("web").await, one.agent.until_ready("beside").await, two.agent.until_ready("there").await);
    one.until_guarded6().await;
    two.until_guarded6().await;
    let ((a4, a6), (_, b6), (_, c6)) = (addresses(&a), addresses(&b), addresses(&c));
    for (status, prefix) in [(&a, "fd00:c9:0:101::"), (&b, "fd00:c9:0:101::"), (&c, "fd00:c9:0:102::")] {
        let (four, six) = addresses(status);
        let number = four.rsplit_once('.').unwrap().1.parse::<u8>().unwrap();
        assert_eq!(six, format!("{prefix}{number:x}"), "the same number in both");
        assert_eq!(shell(status, 0, "busybox ip -6 -o addr show dev eth0 scope global").matches(&six).count(), 1);
    }
    assert_eq!(shell(&a, 0, "echo $status_podIP $status_podIPs"), format!("{a4} {a4},{a6}"));
    let hosts = shell(&a, 0, "cat /etc/hosts");
    // Podman names the sandbox behind it.
    let names = |address: &str| hosts.lines().filter(|line| line.split_whitespace().take(2).eq([address, "web"])).count();
    assert_eq!((names(&a4), names(&a6)), (1, 1), "{hosts}");

    // Pods to pods on one bridge and on two, each as itself; the node to pods.
    for (from, to, itself) in [(&a, &b6, &a6), (&b, &a6, &b6), (&a, &c6, &a6), (&c, &a6, &c6)] {
        assert_eq!(&seen_by(from, &format!("[{to}]")), itself);
    }
    shell(&a, 0, &format!("busybox ping -6 -c1 -W3 {b6} && busybox ping -6 -c1 -W3 {c6}"));
    host(&format!("busybox timeout 10 busybox wget -qO- http://[{c6}]:9000/cgi-bin/peer"));

    // To the outside as the node, which is all that the outside knows the way to.
    let www = folder.path().join("www/cgi-bin");
    std::fs::create_dir_all(&www).unwrap();
    std::fs::write(www.join("peer"), "#!/bin/sh\necho; echo $REMOTE_ADDR\n").unwrap();
    host(&format!("chmod 755 {}", www.join("peer").display()));
    let mut server = outside.serve(&folder.path().join("www"));
    assert_eq!((seen_by(&a, &format!("[{OUTSIDE}]")), seen_by(&c, &format!("[{OUTSIDE}]"))), (UPLINK.into(), UPLINK.into()));
    server.kill().unwrap();
    server.wait().unwrap();

    end(&cluster, [(one, vec![web, beside]), (two, vec![there])]).await;
    let left = host("nft list tables; ip6tables-nft -S");
    assert!(!left.contains("bramble"), "{left}");
    if Kind::chosen() == Kind::Docker {
        assert_eq!(docker(&["network", "ls", "-q", "--filter", "driver=bridge"]), "");
    }
}
