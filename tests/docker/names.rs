//! Whom pods ask for names: the file of each policy, and a pod that asks the node.

use std::sync::Arc;
use std::time::Duration;

use bramble::agent::dns::{NameServer, run};
use bramble::agent::node_network::NodeNetwork;
use bramble::agent::runtime::docker::DockerRuntime;
use bramble::api::Object;
use bramble::clock::SystemClock;
use bramble::link::network::ClusterNetwork;
use bramble::link::share::Share;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::Kind;
use crate::support::{Agent, Cluster, docker, pod, share, shell, skipped};

const STAYS: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_gives_the_file_that_the_kubelet_writes() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let files = tempfile::tempdir().unwrap();
    let host = files.path().join("resolv.conf");
    std::fs::write(&host, "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch home\noptions ndots:1 timeout:3\n").unwrap();
    let here = NameServer::Here { address: [10, 244, 3, 1].into(), domain: "shed.example".into() };
    let (told, name_server) = watch::channel(NameServer::NotYet);
    let mut settings = cluster.settings();
    settings.resolv_conf = vec![files.path().join("none"), host];
    settings.name_server = Some(name_server);
    let agent = Agent::start_on(DockerRuntime::new(settings));
    let with = |name: &str, fields: Value| {
        let mut made = pod(name, &[("a", STAYS), ("b", STAYS)]);
        made["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        made
    };
    let config = json!({"nameservers": ["192.0.2.9"], "searches": ["home", "more.example"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]});
    let mut plain = with("plain", json!({"subdomain": "lights"}));
    plain["spec"]["containers"][1]["securityContext"] = json!({"readOnlyRootFilesystem": true});
    let many: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
    let pods = [
        plain,
        with("merged", json!({"dnsPolicy": "ClusterFirst", "dnsConfig": config})),
        with("host", json!({"dnsPolicy": "Default"})),
        with("net", json!({"hostNetwork": true})),
        with("both", json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
        with("own", json!({"dnsPolicy": "None", "dnsConfig": config})),
        with("many", json!({"dnsConfig": {"searches": many}})),
    ];
    agent.want(share(&pods)).await;
    // They wait until it is known whom they ask.
    tokio::time::sleep(Duration::from_millis(500)).await;
    told.send_replace(here);
    let cluster_names = "search default.svc.shed.example svc.shed.example shed.example home";
    for (name, expected) in [
        ("plain", format!("{cluster_names}\nnameserver 10.244.3.1\noptions ndots:5")),
        ("merged", format!("{cluster_names} more.example\nnameserver 10.244.3.1\nnameserver 192.0.2.9\noptions ndots:2 rotate")),
        ("host", "search home\nnameserver 192.0.2.53\noptions ndots:1 timeout:3".into()),
        ("net", "search home\nnameserver 192.0.2.53\noptions ndots:1 timeout:3".into()),
        ("both", format!("{cluster_names}\nnameserver 10.244.3.1\noptions ndots:5")),
        ("own", "search home more.example\nnameserver 192.0.2.9\noptions ndots:2 rotate".into()),
    ] {
        let status = agent.until_ready(name).await;
        for at in [0, 1] {
            assert_eq!(shell(&status, at, "cat /etc/resolv.conf"), expected, "{name}");
        }
    }
    let status = agent.until_ready("plain").await;
    assert!(shell(&status, 0, "cat /etc/hosts").contains("plain.lights.default.svc.shed.example"));
    assert_eq!(shell(&status, 1, "echo x >> /etc/resolv.conf || echo no"), "no");
    let status = agent.until_ready("many").await;
    let searches = shell(&status, 0, "cat /etc/resolv.conf").lines().next().unwrap().split(' ').count();
    assert_eq!(searches, 33);
    let about = |reason: &str| agent.events().into_iter().filter(|event| event.reason == reason).collect::<Vec<_>>();
    let forming = about("DNSConfigForming");
    assert!(forming.len() == 1 && forming[0].message.starts_with("Search Line limits were exceeded"), "{forming:?}");
    assert!(about("MissingClusterDNS").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_no_names_says_so_and_pods_have_the_hosts_servers() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let files = tempfile::tempdir().unwrap();
    let host = files.path().join("resolv.conf");
    std::fs::write(&host, "nameserver 192.0.2.53\n").unwrap();
    let (_told, name_server) = watch::channel(NameServer::Host);
    let mut settings = cluster.settings();
    settings.resolv_conf = vec![host];
    settings.name_server = Some(name_server);
    let agent = Agent::start_on(DockerRuntime::new(settings));
    agent.want(share(&[pod("lonely", &[("a", STAYS)])])).await;
    let status = agent.until_ready("lonely").await;
    assert_eq!(shell(&status, 0, "cat /etc/resolv.conf"), "nameserver 192.0.2.53");
    assert!(agent.reasons().iter().any(|reason| reason == "MissingClusterDNS"), "{:?}", agent.reasons());
}

/// The cluster's network as it is on this engine: its own range stands in for that of all pods.
fn net(range: &str) -> Share {
    let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
    let named = |name: &str, spec: Value| {
        (format!("default/{name}"), object(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})))
    };
    let network = ClusterNetwork {
        pods: range.into(),
        services: "10.96.0.0/16".into(),
        domain: "cluster.local".into(),
        ..ClusterNetwork::default()
    };
    Share {
        network: Some(network),
        services: [
            named("web", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]})),
            named("alias", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"})),
        ]
        .into(),
        ..Share::default()
    }
}

/// The real way: a program in a pod, the pod's file, the bridge, the node's name server, the share. (busybox' own resolver: a static
/// C library finds no names in an image that has no C library.)
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_finds_services_by_their_names_at_its_node() {
    // Podman's network is in a namespace that is not the test's.
    if skipped() || Kind::chosen() == Kind::Podman {
        return;
    }
    let cluster = Cluster::new();
    let (told, name_server) = watch::channel(NameServer::Host);
    let mut settings = cluster.settings();
    settings.name_server = Some(name_server);
    let agent = Agent::start_on(DockerRuntime::new(settings));
    // The first pod makes the network.
    let first = pod("first", &[("a", STAYS)]);
    agent.want(share(std::slice::from_ref(&first))).await;
    agent.until_ready("first").await;
    let id = docker(&["network", "ls", "-q", "--filter", &format!("label=bramble/cluster={}", cluster.uid)]);
    let word = |what: &str| docker(&["network", "inspect", "-f", what, id.trim()]);
    let range = word("{{(index .IPAM.Config 0).Subnet}}");
    let gateway = word("{{(index .IPAM.Config 0).Gateway}}");
    let network =
        NodeNetwork { range: range.parse().unwrap(), gateway: gateway.parse().unwrap(), bridge: Some("bridge".into()), v6: None };
    let (_net, net_is) = watch::channel(Arc::new(net(&range)));
    let (_network, network_is) = watch::channel(Some(network));
    let stop = CancellationToken::new();
    let mut serving = told.subscribe();
    let parts = run::Parts {
        port: run::PORT,
        net: net_is,
        network: network_is,
        serving: told,
        resolv_conf: Vec::new(),
        upstream_port: 53,
        clock: SystemClock::start(),
    };
    let task = tokio::spawn(run::serve(parts, stop.clone()));
    let here = serving.wait_for(|server| matches!(server, NameServer::Here { .. }));
    tokio::time::timeout(Duration::from_secs(10), here).await.unwrap().unwrap();
    agent.want(share(&[first, pod("second", &[("a", STAYS)])])).await;
    let status = agent.until_ready("second").await;
    for (name, expected) in [
        ("web", "10.96.0.7"),
        ("web.default.svc.cluster.local", "10.96.0.7"),
        ("alias", "10.96.0.7"),
        ("-type=ptr 7.0.96.10.in-addr.arpa", "web.default.svc.cluster.local"),
    ] {
        // busybox' nslookup looks below `search` for names without dots only.
        let said = shell(&status, 0, &format!("/bin/busybox nslookup {name} 2>&1 || true"));
        let said_whole = said.lines().skip_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        assert!(said_whole.contains(expected), "{name}: {said}");
    }
    stop.cancel();
    task.await.unwrap();
}
