//! Network policies over three hosts, and what goes on while the master is away: names, services, policies, a container that comes back.

use std::time::Duration;

use super::cluster::{Cluster, OnHost};
use super::segments::HOSTS;
use super::services::{SOON, wait_page, web, with_client};
use super::support::{BUSYBOX, skipped, wait_until};
use super::talk::{is_let, page};

/// Until every node holds what the master knows.
const KNOWN: Duration = Duration::from_secs(8);

/// Who may ask, and who may not, on every host.
fn clients() -> String {
    let pod = |host: &str, role: &str| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {role}-{host}, labels: {{app: client, role: {role}}}}}
spec:
  nodeName: {host}
  terminationGracePeriodSeconds: 1
  containers: [{{name: app, image: {BUSYBOX}, command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']}}]
"
        )
    };
    HOSTS.map(|(host, _, _)| pod(host, "friend") + &pod(host, "stranger")).concat()
}

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

const CLOSED: &str = "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
";

const FRIENDS: &str = "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{port: http}]}]
";

/// Waits until from every client every pod is reached, or is not.
#[track_caller]
fn all_of(cluster: &Cluster, clients: &[OnHost], pods: &[OnHost], expected: impl Fn(&OnHost) -> bool + Sync) {
    std::thread::scope(|scope| {
        for client in clients {
            let wanted = expected(client);
            scope.spawn(move || {
                for pod in pods {
                    let at = format!("{}:8080", pod.address);
                    wait_until(&format!("{} reaches the pod on {}: {wanted}", client.name, pod.host), KNOWN, || {
                        if is_let(&client.namespace, &at) == wanted { Ok(()) } else { Err(cluster.state(&pod.host)) }
                    });
                }
            });
        }
    });
}

#[test]
fn policies_hold_over_hosts_and_while_the_master_is_away_all_goes_on() {
    if skipped("docker") {
        return;
    }
    let (mut cluster, _outside) = with_client("policies");
    cluster.apply(&(web("web", "page") + &clients() + SERVICE));
    let pods = cluster.wait_pods("app=web", 3, SOON);
    let clients = cluster.wait_pods("app=client", 6, SOON);
    all_of(&cluster, &clients, &pods, |_| true);
    cluster.apply(CLOSED);
    all_of(&cluster, &clients, &pods, |_| false);
    cluster.apply(FRIENDS);
    let friend = |client: &OnHost| client.name.starts_with("friend");
    all_of(&cluster, &clients, &pods, friend);
    // Probes come from the nodes, each second.
    std::thread::sleep(Duration::from_secs(4));
    cluster.wait_pods("app=web", 3, Duration::from_secs(1));

    cluster.master.kill();
    let began = std::time::Instant::now();
    all_of_away(&cluster, &clients, &pods);
    // A container's end is seen and mended by its node alone; the pod keeps its address, and who asks for it finds it.
    let victim = pods.iter().find(|pod| pod.host == "three").unwrap();
    let docker = &cluster.dockers[2];
    let ask = || docker.docker(&["ps", "-q", "--filter", &format!("name=bramble_app_{}_", victim.name)]);
    let old = ask();
    docker.docker(&["kill", &old]);
    wait_until("the container comes back", SOON, || {
        let now = ask();
        if now.is_empty() || now == old { Err(now) } else { Ok(()) }
    });
    let from = clients.iter().find(|client| client.name == "friend-one").unwrap();
    let at = format!("{}:8080", victim.address);
    wait_page(&from.namespace, &at);
    println!("a container is back while the master is away, {:?} after the master's end", began.elapsed());
    for _ in 0..12 {
        page(&from.namespace, &format!("{}:8080", victim.address), "/cgi-bin/who").unwrap();
    }
    all_of_away(&cluster, &clients, &pods);
    cluster.start_master();
    cluster.wait_ready();
    let again = cluster.wait_pods("app=web", 3, SOON);
    let addresses = |pods: &[OnHost]| pods.iter().map(|pod| pod.address.clone()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(addresses(&again), addresses(&pods));
    all_of(&cluster, &clients, &pods, friend);
}

/// The same, where nothing may change: at once, and by the service's name too.
#[track_caller]
fn all_of_away(cluster: &Cluster, clients: &[OnHost], pods: &[OnHost]) {
    std::thread::scope(|scope| {
        for client in clients {
            let friend = client.name.starts_with("friend");
            scope.spawn(move || {
                for pod in pods {
                    let let_in = is_let(&client.namespace, &format!("{}:8080", pod.address));
                    assert_eq!(let_in, friend, "{} to {}", client.name, pod.host);
                }
                let line = "busybox timeout 5 wget -q -O - http://shop.default.svc.cluster.local/cgi-bin/who";
                assert_eq!(cluster.exec(client, line).out.starts_with("page "), friend, "{} by name", client.name);
            });
        }
    });
}
