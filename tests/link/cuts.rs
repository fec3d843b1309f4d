//! Three cut connections and a broker's restart during 200 state changes: soon afterwards the API says what the runtime says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{agent_moved, port_of};
use super::proxy::Proxy;
use super::support::{
    BUSYBOX, Cluster, busybox_image, cluster_uid, deployment, docker, is_ready, signal, skipped, summary, wait_until,
};

/// DESIGN §7.
const SOON: Duration = Duration::from_secs(10);
/// How long anything may take before the clock runs: a start of a cluster's worth of containers.
const HANG: Duration = Duration::from_secs(90);

/// What was asked of a cluster, and so what there should be.
struct Wanted<'a> {
    cluster: &'a Cluster,
    image: &'a str,
    command: &'a str,
    replicas: usize,
    bare: BTreeSet<String>,
    made: usize,
    changes: AtomicUsize,
}

impl<'a> Wanted<'a> {
    fn new(cluster: &'a Cluster, image: &'a str, command: &'a str) -> Self {
        Self { cluster, image, command, replicas: 0, bare: BTreeSet::new(), made: 0, changes: AtomicUsize::new(0) }
    }

    fn count(&self, changes: usize) {
        self.changes.fetch_add(changes, Ordering::Relaxed);
    }

    fn deploy(&mut self, replicas: usize) {
        self.cluster.apply(&deployment("web", u32::try_from(replicas).unwrap(), self.image, self.command));
        self.count(replicas);
        self.replicas = replicas;
    }

    fn scale(&mut self, replicas: usize) {
        self.cluster.kubectl(&["scale", "deployment", "web", &format!("--replicas={replicas}")]).expect();
        self.count(replicas.abs_diff(self.replicas));
        self.replicas = replicas;
    }

    fn create(&mut self, count: usize) {
        let names: Vec<String> = (self.made..self.made + count).map(|number| format!("bare-{number}")).collect();
        let manifests: Vec<String> = names
            .iter()
            .map(|name| {
                format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: bare}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    \
                     image: {}\n    imagePullPolicy: IfNotPresent\n{}",
                    self.image,
                    self.command.replace("        ", "    ")
                )
            })
            .collect();
        self.cluster.apply(&manifests.join("---\n"));
        self.made += count;
        self.count(count);
        self.bare.extend(names);
    }

    fn delete(&mut self, count: usize) {
        let names: Vec<String> = self.bare.iter().take(count).cloned().collect();
        let mut arguments = vec!["delete", "pod", "--wait=false"];
        arguments.extend(names.iter().map(String::as_str));
        self.cluster.kubectl(&arguments).expect();
        self.bare.retain(|name| !names.contains(name));
        self.count(names.len());
    }

    /// Whether the API has just what was asked for, all of it running and ready; gives the pods.
    fn answered(&self) -> Result<Vec<Value>, String> {
        let pods = self.cluster.get(&["pods"])["items"].as_array().unwrap().clone();
        let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        let good = pods.len() == self.replicas + self.bare.len()
            && self.bare.iter().all(|name| names.contains(name.as_str()))
            && pods.iter().all(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
        if good { Ok(pods) } else { Err(format!("wanted {} and {} bare: {}", self.replicas, self.bare.len(), summary(&pods))) }
    }
}

/// Does both at once.
fn while_doing(act: impl FnOnce(), other: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let other = scope.spawn(other);
        act();
        other.join().unwrap();
    });
}

/// The master, and with it the broker, dies and comes back.
fn restart_master(cluster: &Cluster) {
    signal(cluster.master_pid(), "KILL");
    let from = Instant::now();
    cluster.start(&[]).expect();
    println!("the master was back, with all nodes, after {:.1} s", from.elapsed().as_secs_f64());
}

#[test]
fn the_api_says_what_simulated_nodes_say_after_cuts_and_a_broker_restart() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "3"]);
    let proxy = Proxy::before(port_of(&cluster, "mqtts"));
    let _agent = agent_moved(&cluster, "bramble-2", proxy.port);
    let mut wanted = Wanted::new(&cluster, "web:1", "");
    wanted.deploy(15);
    while_doing(|| wanted.create(20), || proxy.cut());
    wanted.scale(30);
    wanted.delete(10);
    while_doing(|| wanted.scale(10), || proxy.cut_for(Duration::from_secs(3)));
    wanted.create(20);
    restart_master(&cluster);
    wanted.scale(30);
    wanted.delete(15);
    while_doing(|| wanted.create(20), || proxy.stall_for(Duration::from_secs(2)));
    wanted.scale(15);
    wanted.delete(15);
    wanted.scale(35);
    let from = Instant::now();
    let changes = wanted.changes.load(Ordering::Relaxed);
    assert!(changes >= 200 && proxy.cuts() == 3, "{changes} changes, {} cuts", proxy.cuts());
    let pods = wait_until("the API has what was asked for", HANG, || wanted.answered());
    let took = from.elapsed();
    println!(
        "{changes} changes, {} connections: the API agreed {:.1} s after the last change",
        proxy.connections(),
        took.as_secs_f64()
    );
    assert!(took <= SOON, "{took:?}");

    // What the nodes themselves say of how many they run. They say it each 10 s.
    let mut on_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in &pods {
        *on_node.entry(pod["spec"]["nodeName"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut viewer = super::client::Mqtt::viewer(port_of(&cluster, "mqtt"));
    wait_until("the nodes run as many", Duration::from_secs(15), || {
        assert!(viewer.subscribe("bramble/bramble/nodes/+/health"));
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for message in viewer.heard(Duration::from_millis(300)) {
            let health: Value = serde_json::from_slice(&message.payload).unwrap();
            let node = message.topic.split('/').nth(3).unwrap().to_owned();
            said.insert(node, usize::try_from(health["pods"].as_u64().unwrap()).unwrap());
        }
        if said == on_node { Ok(()) } else { Err(format!("API {on_node:?}, nodes {said:?}")) }
    });
    let restarts: Vec<&Value> = pods.iter().map(|pod| &pod["status"]["containerStatuses"][0]["restartCount"]).collect();
    assert!(restarts.iter().all(|count| **count == 0), "nothing was restarted: {restarts:?}");
}

/// A running container as Docker tells of it: pod uid → container id and attempt.
fn in_docker(uid: &str) -> BTreeMap<String, (String, String)> {
    let filter = format!("label=bramble/cluster={uid}");
    let format = "{{.Label \"bramble/pod-uid\"}} {{.ID}} {{.Label \"bramble/attempt\"}} {{.Label \"bramble/container\"}}";
    let said = docker(&["ps", "--no-trunc", "--filter", &filter, "--format", format]).expect();
    let rows = said.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row.get(3).is_some_and(|container| container == "main"))
        .map(|row| (row[0].clone(), (row[1].clone(), row[2].clone())))
        .collect()
}

/// The same as the API tells of it.
fn in_api(pods: &[Value]) -> BTreeMap<String, (String, String)> {
    pods.iter()
        .map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let id = container["containerID"].as_str().unwrap_or_default().trim_start_matches("docker://").to_owned();
            (pod["metadata"]["uid"].as_str().unwrap().to_owned(), (id, container["restartCount"].to_string()))
        })
        .collect()
}

#[test]
fn the_api_says_what_docker_says_after_cuts_kills_and_a_broker_restart() {
    if skipped("docker") {
        return;
    }
    busybox_image();
    let cluster = Cluster::started(&["--runtime", "docker", "--nodes", "2"]);
    let uid = cluster_uid(&cluster);
    let proxy = Proxy::before(port_of(&cluster, "mqtts"));
    let _agent = agent_moved(&cluster, "bramble-2", proxy.port);
    let stays = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n";
    let mut wanted = Wanted::new(&cluster, BUSYBOX, stays);
    // Containers that somebody kills come back, and that is a change that only the node knows of.
    let kill = |wanted: &Wanted, count: usize| {
        let running = in_docker(&uid);
        let ids: Vec<&str> = running.values().take(count).map(|(id, _)| id.as_str()).collect();
        // One may have ended by itself meanwhile: it belonged to a pod that is being deleted.
        wanted.count(ids.iter().filter(|id| docker(&["kill", id]).ok).count());
    };
    wanted.deploy(4);
    wait_until("the first four run", HANG, || wanted.answered());
    while_doing(|| wanted.create(4), || proxy.cut());
    kill(&wanted, 4);
    while_doing(|| wanted.scale(8), || proxy.cut_for(Duration::from_secs(2)));
    wanted.delete(2);
    kill(&wanted, 4);
    // Pods that come and go: some before their containers run, some in the middle of it.
    let churn = |wanted: &mut Wanted| {
        for _ in 0..6 {
            wanted.create(8);
            wanted.delete(8);
        }
    };
    churn(&mut wanted);
    signal(cluster.master_pid(), "KILL");
    // Nobody hears of these.
    kill(&wanted, 3);
    cluster.start(&[]).expect();
    while_doing(
        || {
            kill(&wanted, 3);
            wanted.create(2);
        },
        || proxy.stall_for(Duration::from_secs(2)),
    );
    churn(&mut wanted);
    wanted.scale(6);
    kill(&wanted, 5);
    let from = Instant::now();
    let (mut docker_changed, mut before) = (from, BTreeMap::new());
    let seen = wait_until("the API says what Docker says", HANG, || {
        let runtime = in_docker(&uid);
        if runtime != before {
            docker_changed = Instant::now();
            before.clone_from(&runtime);
        }
        let pods = wanted.answered()?;
        let api = in_api(&pods);
        if api == runtime { Ok(pods) } else { Err(format!("API {api:#?}\nDocker {runtime:#?}")) }
    });
    println!(
        "{} changes, {} cuts, {} connections, {} restarts: agreed {:.1} s after the last change, {:.1} s after the last in Docker",
        wanted.changes.load(Ordering::Relaxed),
        proxy.cuts(),
        proxy.connections(),
        seen.iter().filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64()).sum::<u64>(),
        from.elapsed().as_secs_f64(),
        docker_changed.elapsed().as_secs_f64()
    );
    let changes = wanted.changes.load(Ordering::Relaxed);
    assert!(changes >= 200 && proxy.cuts() == 3, "{changes} changes, {} cuts", proxy.cuts());
    // How long a container takes to start is Docker's to say, and is no matter of the link.
    assert!(docker_changed.elapsed() <= SOON, "{:?}", docker_changed.elapsed());
}
