//! `bramble service`: where a service is reached, and what is said when it is not.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::support::{Cluster, Said, deployment};

fn fails(said: Said, words: &[&str]) {
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    for part in words {
        assert!(said.err.contains(part), "{part} in\n{}", said.err);
    }
}

#[test]
fn a_dual_stack_cluster_is_made_once_and_told_at_both_addresses() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--ip-family", "dual"]);
    let node = cluster.get(&["nodes"])["items"][0].clone();
    let parts: Vec<String> = serde_json::from_value(node["spec"]["podCIDRs"].clone()).unwrap();
    let parts: Vec<IpNet> = parts.iter().map(|part| part.parse().unwrap()).collect();
    cluster.apply(&deployment("hello", 1, "hello:1", ""));
    cluster.kubectl(&["expose", "deployment", "hello", "--type=NodePort", "--port=80"]).expect();
    cluster.kubectl(&["patch", "service", "hello", "-p", "{\"spec\":{\"ipFamilyPolicy\":\"RequireDualStack\"}}"]).expect();
    let addresses = cluster.get(&["service", "hello"])["spec"]["clusterIPs"].clone();
    let addresses: Vec<IpAddr> = serde_json::from_value(addresses).unwrap();
    let ([IpNet::V4(_), IpNet::V6(part)], [IpAddr::V4(_), IpAddr::V6(address)]) = (&parts[..], &addresses[..]) else {
        panic!("{parts:?} {addresses:?}")
    };
    assert_eq!((part.addr().octets()[..6].to_vec(), part.prefix_len()), (address.octets()[..6].to_vec(), 64), "of one prefix");
    let said = cluster.bramble(["service", "hello"]).expect();
    let own = node["status"]["addresses"].as_array().unwrap().iter().filter_map(|one| one["address"].as_str());
    // This machine may have no address of IPv6 that others could reach.
    for second in own.filter(|address| address.contains(':')).take(1) {
        assert!(said.contains(&format!("http://[{second}]:")), "{said}");
    }
    let other = cluster.start(&["--ip-family", "ipv4"]);
    assert!(
        other.code == 2 && other.err.contains("speaks IPv4 and IPv6: families of addresses are chosen once"),
        "{}",
        other.err
    );
    assert!(cluster.start(&["--ip-family", "dual"]).expect().contains("master runs already"));
}

#[test]
fn a_service_is_told_with_its_urls_and_why_one_has_none() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let service = |arguments: &[&str]| cluster.bramble(["service"].iter().chain(arguments));
    cluster.apply(&deployment("hello", 2, "hello:1", ""));
    cluster.kubectl(&["expose", "deployment", "hello", "--type=NodePort", "--port=80"]).expect();
    let port = cluster.get(&["service", "hello"])["spec"]["ports"][0]["nodePort"].to_string();

    // It waits for the pods that are about to start.
    let said = service(&["hello", "--url"]);
    assert!(said.err.contains("the nodes are simulated"), "{}", said.err);
    let url = said.expect();
    assert!(url.starts_with("http://") && url.trim_end().ends_with(&format!(":{port}")) && url.lines().count() == 1, "{url}");
    cluster.wait_ready("app=hello", 2, Duration::from_secs(20));
    let table = service(&["hello"]).expect();
    for part in ["NAMESPACE", "default", "hello", "NodePort", "80/TCP", url.trim(), "--url"] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    let told: serde_json::Value = serde_json::from_str(&service(&["hello", "-o", "json"]).expect()).unwrap();
    assert_eq!((&told["ready_endpoints"], &told["type"]), (&2.into(), &"NodePort".into()));
    assert_eq!(told["urls"][0], url.trim());

    let list = service(&["list"]).expect();
    let line = |name: &str| list.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap_or_default().to_owned();
    assert!(line("hello").contains(url.trim()) && line("kubernetes").contains("no node port"), "{list}");
    let told: serde_json::Value = serde_json::from_str(&service(&["list", "-o", "json", "-n", "default"]).expect()).unwrap();
    assert_eq!(told.as_array().unwrap().len(), 2);

    fails(service(&["helo"]), &["there is no service helo in namespace default", "there are hello", "bramble service list"]);
    fails(service(&["hello", "-n", "kube-system"]), &["there is one in default: add -n default"]);
    fails(service(&["kubernetes"]), &["has no node port", "10.96.0.1:443", "kubectl patch service kubernetes"]);
    cluster.kubectl(&["create", "service", "externalname", "far", "--external-name=example.com"]).expect();
    fails(service(&["far"]), &["only another name of example.com"]);

    cluster.kubectl(&["create", "service", "nodeport", "nobody", "--tcp=80"]).expect();
    fails(
        service(&["nobody", "--wait", "1"]),
        &["waiting until", "nobody serves service nobody", "no pod in namespace default", "app=nobody"],
    );
    let stuck = "apiVersion: v1\nkind: Pod\nmetadata: {name: stuck, labels: {app: nobody}}\nspec: {nodeSelector: {no: where}, containers: [{name: c, image: stuck}]}\n";
    cluster.apply(stuck);
    fails(
        service(&["nobody", "--url", "--wait", "0"]),
        &["none of the 1 pods", "stuck is Pending", "kubectl describe pod stuck"],
    );
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: by-hand}\nspec: {type: NodePort, ports: [{port: 445}]}\n");
    fails(service(&["by-hand", "--wait", "0"]), &["no selector, and no endpoints were written"]);
}
