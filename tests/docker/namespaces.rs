//! Names, name servers, processes and ports: what a pod shares with the host, among its containers, and with nobody.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Agent, Cluster, deleted, pod, share, shell, skipped};

const STAYS: &str = "exec sleep 1000";

/// A namespace as the kernel numbers it.
fn own_namespace(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

fn namespace(status: &Value, at: usize, kind: &str) -> String {
    let listed = shell(status, at, &format!("ls -l /proc/self/ns/{kind}"));
    listed.rsplit(' ').next().unwrap().to_owned()
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What is said at a port of this machine.
fn said(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

async fn until_said(port: u16, words: &str) {
    for _ in 0..1200 {
        if said(port).as_deref() == Some(words) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("port {port} never said {words}: {:?}", said(port));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_containers_see_the_pods_names_and_name_servers() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut settings = cluster.settings();
    let files = tempfile::tempdir().unwrap();
    let resolv_conf = files.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 192.0.2.53\nsearch home\noptions ndots:1 timeout:3\n").unwrap();
    settings.resolv_conf = vec![resolv_conf];
    let agent = Agent::start_on(bramble::agent::runtime::docker::DockerRuntime::new(settings));
    let mut named = pod("named", &[("a", STAYS), ("b", STAYS)]);
    named["spec"]["hostname"] = json!("lamp");
    named["spec"]["subdomain"] = json!("lights");
    named["spec"]["hostAliases"] =
        json!([{"ip": "192.0.2.7", "hostnames": ["printer", "scanner"]}, {"ip": "2001:db8::7", "hostnames": ["six"]}]);
    named["spec"]["dnsPolicy"] = json!("None");
    named["spec"]["dnsConfig"] = json!({
        "nameservers": ["192.0.2.9"], "searches": ["shed.example"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
    });
    let mut full = pod("full", &[("a", STAYS)]);
    full["spec"]["subdomain"] = json!("lights");
    full["spec"]["setHostnameAsFQDN"] = json!(true);
    full["spec"]["dnsConfig"] = json!({"searches": ["more.example"], "options": [{"name": "ndots", "value": "4"}]});
    agent.want(share(&[named, full])).await;

    let status = agent.until_ready("named").await;
    let ip = status["podIP"].as_str().unwrap().to_owned();
    for at in [0, 1] {
        assert_eq!(shell(&status, at, "hostname"), "lamp");
        let hosts = shell(&status, at, "cat /etc/hosts");
        let line = |address: &str, name: &str| {
            hosts.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(address) && words.any(|word| word == name)
            })
        };
        assert!(line("192.0.2.7", "printer") && line("192.0.2.7", "scanner") && line("2001:db8::7", "six"), "{hosts}");
        assert!(line(&ip, "lamp.lights.default.svc.cluster.local") && line(&ip, "lamp"), "{hosts}");
        let resolv = shell(&status, at, "cat /etc/resolv.conf");
        assert!(resolv.contains("search shed.example\n") && resolv.contains("ndots:2") && resolv.contains("rotate"), "{resolv}");
        assert!(!resolv.contains("home"), "{resolv}");
    }
    let status = agent.until_ready("full").await;
    assert_eq!(shell(&status, 0, "hostname"), "full.lights.default.svc.cluster.local");
    let resolv = shell(&status, 0, "cat /etc/resolv.conf");
    assert!(resolv.contains("search home more.example"), "{resolv}");
    assert!(resolv.contains("ndots:4") && resolv.contains("timeout:3") && !resolv.contains("ndots:1"), "{resolv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_hosts_is_the_hosts() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut host = pod("host", &[("a", STAYS)]);
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        host["spec"][key] = json!(true);
    }
    host["spec"]["hostAliases"] = json!([{"ip": "192.0.2.7", "hostnames": ["printer"]}]);
    let own = pod("own", &[("a", STAYS)]);
    agent.want(share(&[host, own])).await;
    let (host, own) = (agent.until_ready("host").await, agent.until_ready("own").await);
    for kind in ["net", "pid", "ipc"] {
        assert_eq!(namespace(&host, 0, kind), own_namespace(kind), "{kind}");
        assert_ne!(namespace(&own, 0, kind), own_namespace(kind), "{kind}");
    }
    assert_eq!(host["podIP"], host["hostIP"]);
    assert_eq!(shell(&host, 0, "hostname"), std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    assert!(shell(&host, 0, "cat /etc/hosts").contains("printer"));
    let me = format!("cat /proc/{}/comm", std::process::id());
    assert_eq!(shell(&host, 0, &me), std::fs::read_to_string("/proc/self/comm").unwrap().trim(), "it sees this very test");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_share_processes_see_each_other_and_the_sandbox_reaps() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut shared = pod("shared", &[("a", "exec sleep 4321"), ("b", STAYS)]);
    shared["spec"]["shareProcessNamespace"] = json!(true);
    agent.want(share(&[shared, pod("apart", &[("a", "exec sleep 4321"), ("b", STAYS)])])).await;
    let (shared, apart) = (agent.until_ready("shared").await, agent.until_ready("apart").await);
    let sees = |status: &Value| shell(status, 1, "cat /proc/[0-9]*/cmdline | /bin/busybox tr '\\0' ' '").contains("sleep 4321");
    assert!(sees(&shared) && !sees(&apart));
    assert_eq!(namespace(&shared, 0, "pid"), namespace(&shared, 1, "pid"));
    assert_eq!(namespace(&shared, 0, "ipc"), namespace(&shared, 1, "ipc"));
    assert_eq!(namespace(&apart, 0, "ipc"), namespace(&apart, 1, "ipc"), "IPC is the pod's in any case");

    // An orphan's end is taken by the sandbox, which is everybody's init.
    let zombies = "for at in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; z=$(cat /proc/[0-9]*/stat 2> /dev/null | /bin/busybox grep -c ') Z '); \
                   [ \"$z\" = 0 ] && break; done; echo zombies $z";
    let orphan = format!("( sleep 0.1 & ) ; {zombies}");
    assert_eq!(shell(&shared, 0, &orphan), "zombies 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_node_leads_to_the_pod_and_to_one_pod_only() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let port = free_port();
    let serves = |name: &str, port: u16| {
        let mut pod = pod(name, &[("app", &format!("exec nc -ll -p 80 -e echo {name}"))]);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": port, "hostIP": "127.0.0.1"}]);
        pod
    };
    let (first, second) = (serves("first", port), serves("second", port));
    agent.want(share(std::slice::from_ref(&first))).await;
    agent.until_ready("first").await;
    until_said(port, "first").await;

    // Another pod wants the same one: it waits, knows for whom, and gets it in the end.
    agent.want(share(&[first.clone(), second.clone()])).await;
    let words = format!("host port {port}/TCP is already allocated: pod default/first has it");
    let status = agent
        .until("second", "waiting for the port", |status| {
            status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().is_some_and(|message| message.contains(&words))
        })
        .await;
    assert_eq!(status["phase"], "Pending");
    let told = |name: &str, words: &str| {
        agent
            .events()
            .iter()
            .any(|event| event.name == name && event.reason == "FailedCreatePodSandBox" && event.message.contains(words))
    };
    assert!(told("second", &words), "{:#?}", agent.events());
    until_said(port, "first").await;
    agent.want(share(&[deleted(first), second])).await;
    agent.until_gone("first").await;
    agent.until_ready("second").await;
    until_said(port, "second").await;

    // Somebody outside has it: the port is named, and taken when it is free.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = outside.local_addr().unwrap().port();
    agent.want(share(&[serves("third", taken)])).await;
    let words = format!("host port {taken}/TCP is taken by another program on this node");
    for _ in 0..1200 {
        if told("third", &words) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told("third", &words), "{:#?}", agent.events());
    drop(outside);
    agent.until_ready("third").await;
    until_said(taken, "third").await;
}
