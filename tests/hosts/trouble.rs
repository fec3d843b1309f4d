//! Steady traffic through trouble: agents and the master killed, an update, a cut line, an engine that starts again.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, OnHost};
use super::segments::{HOSTS, address};
use super::services::{SOON, wait_page, web, with_client};
use super::support::{BUSYBOX, skipped, wait_until};
use super::talk::{Asked, Steady};

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}
";

/// A pod on the first host that asks, one outside that asks there, and one outside that asks at the second host.
struct Traffic {
    clients: Vec<(&'static str, String, String)>,
}

impl Traffic {
    fn new(cluster: &Cluster, client: &OnHost, outside: &str) -> Self {
        let shop = cluster.get(&["service", "shop"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let clients = vec![
            ("pod on one", client.namespace.clone(), format!("{shop}:80")),
            ("outside by one", outside.to_owned(), format!("{}:30080", address("one"))),
            ("outside by two", outside.to_owned(), format!("{}:30080", address("two"))),
        ];
        for (_, namespace, at) in &clients {
            wait_page(namespace, at);
        }
        Self { clients }
    }

    /// What was asked while something happens, said in a line each.
    fn during(&self, what: &str, trouble: impl FnOnce()) -> Vec<Asked> {
        let every = Duration::from_millis(15);
        let steady: Vec<Steady> =
            self.clients.iter().map(|(name, namespace, at)| Steady::start(name, namespace, at, every)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        trouble();
        let ended = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        let mut all = Vec::new();
        for (name, asked) in steady.into_iter().map(Steady::end) {
            let lost: Vec<&Asked> = asked.iter().filter(|asked| asked.seen.is_err()).collect();
            let slow = asked.iter().filter(|asked| asked.seen.is_ok() && asked.took > Duration::from_millis(900)).count();
            let longest = asked.iter().map(|asked| asked.took).max().unwrap_or_default();
            println!("{what}, {name}: {} asked, {} lost, {slow} beyond 0.9 s, longest {longest:.2?}", asked.len(), lost.len());
            if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
                let at = |asked: &Asked| asked.at.saturating_duration_since(began);
                let of = ended - began;
                println!("    lost from {:.2?} to {:.2?} of {of:.2?}: {:?}", at(first), at(last) + last.took, first.seen);
            }
            assert!(asked.len() > 50, "{name} did ask");
            all.extend(asked);
        }
        all
    }
}

fn lost(asked: &[Asked]) -> Vec<&Asked> {
    asked.iter().filter(|asked| asked.seen.is_err()).collect()
}

#[test]
fn under_steady_traffic_nothing_is_lost_but_what_was_under_way_on_what_broke() {
    if skipped("docker") {
        return;
    }
    let (mut cluster, outside) = with_client("trouble");
    let client = format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: client}}}}
spec:
  nodeName: one
  containers: [{{name: app, image: {BUSYBOX}, command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']}}]
"
    );
    cluster.apply(&(web("web", "first") + SERVICE + &client));
    cluster.wait_pods("app=web", 3, SOON);
    let client = cluster.wait_pods("app=client", 1, SOON).remove(0);
    let traffic = Traffic::new(&cluster, &client, &outside);

    let asked = traffic.during("the second agent killed and started", || {
        cluster.kill_agent(1, Duration::from_secs(2));
        std::thread::sleep(Duration::from_secs(4));
    });
    assert!(lost(&asked).is_empty(), "{:?}", lost(&asked).first());

    let asked = traffic.during("the master killed and started", || {
        cluster.master.kill();
        std::thread::sleep(Duration::from_secs(2));
        cluster.start_master();
        std::thread::sleep(Duration::from_secs(4));
    });
    assert!(lost(&asked).is_empty(), "{:?}", lost(&asked).first());
    cluster.wait_ready();

    let asked = traffic.during("an update", || {
        cluster.apply(&web("web", "second"));
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).good();
        cluster.wait_pods("app=web", 3, SOON);
    });
    assert!(lost(&asked).is_empty(), "{:?}", lost(&asked).first());
    assert!(asked.iter().any(|asked| asked.seen.as_ref().is_ok_and(|seen| seen.starts_with("second"))));

    // Its containers end with it, and come back with it.
    let of_three = cluster.wait_pods("app=web", 3, SOON).into_iter().filter(|pod| pod.host == "three").count();
    assert!(of_three > 0, "a pod is on three");
    traffic.during("the third engine started again", || {
        cluster.dockers[2].stop(false);
        cluster.dockers[2].run();
        std::thread::sleep(Duration::from_secs(1));
        cluster.wait_pods("app=web", 3, SOON);
    });
    let asked = traffic.during("after that", || std::thread::sleep(Duration::from_secs(2)));
    assert!(lost(&asked).is_empty(), "{:?}", lost(&asked).first());

    // What is behind the cut is lost until the master gives the node up; then all is served by the others.
    let began = Instant::now();
    traffic.during("the far segment cut", || {
        cluster.segments.cut();
        wait_until("three is not ready", SOON, || {
            let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).out;
            if nodes.lines().any(|line| line.starts_with("three") && line.contains("NotReady")) { Ok(()) } else { Err(nodes) }
        });
        println!("three was given up after {:.2?}", began.elapsed());
        std::thread::sleep(Duration::from_secs(4));
    });
    let asked = traffic.during("cut still, and given up", || std::thread::sleep(Duration::from_secs(2)));
    assert!(lost(&asked).is_empty(), "{:?}", lost(&asked).first());
    let asked = traffic.during("restored", || {
        cluster.segments.restore();
        cluster.wait_ready();
    });
    assert!(lost(&asked).is_empty(), "{:?}", lost(&asked).first());
    cluster.wait_pods("app=web", 3, SOON);

    assert!(HOSTS.iter().all(|(host, _, _)| cluster.internal_ip(host) == address(host)));
}
