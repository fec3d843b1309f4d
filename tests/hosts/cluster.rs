//! Whole clusters: a master on the first host, and on each of the three an agent and a Docker of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::delay::Delay;
use super::home::{Daemon, Said, said};
use super::own_docker::OwnDocker;
use super::segments::{HOSTS, Segments, address};
use super::support::{BUSYBOX, is_ready, kubectls, skipped, summary, wait_until};

const BRAMBLE: &str = env!("CARGO_BIN_EXE_bramble");
/// Three Dockers and three agents on one machine take their time.
const SOON: Duration = Duration::from_secs(90);

/// The master on the first host, with its data and its configuration in a folder.
fn master(segments: &Segments, dir: &Path) -> Daemon {
    let mut command = segments.hosts.enter("one", BRAMBLE);
    command.arg("master").arg("--config").arg(dir.join("master/master.toml"));
    Daemon::spawn(dir.join("master.log"), command)
}

/// What may be of a cluster in the network of a host.
pub fn kernel(segments: &Segments, host: &str) -> String {
    let look = "ip -o link | sed 's/^[0-9]*: //' | cut -d: -f1 | grep -v '^veth' | sort; ip route; nft list tables; iptables -S DOCKER-USER";
    segments.hosts.inside(host, look)
}

/// A cluster of three hosts. What is first here ends first.
pub struct Cluster {
    pub agents: Vec<Daemon>,
    pub master: Daemon,
    /// Of host `one`, `two`, `three`.
    pub dockers: Vec<OwnDocker>,
    pub segments: Segments,
    /// What was in the network of each host before its agent came.
    pub before: Vec<String>,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// All of it, once the three nodes (named as their hosts) are ready; the label tells it from others.
    pub fn start(label: &str) -> Self {
        let segments = Segments::new(label);
        let dir = tempfile::Builder::new().prefix("bramble-hosts-").tempdir().unwrap();
        let dockers = std::thread::scope(|scope| {
            let started = HOSTS.map(|(host, _, _)| {
                let namespace = segments.hosts.name(host);
                scope.spawn(move || OwnDocker::start_in(&namespace))
            });
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let data = dir.path().join("master");
        std::fs::create_dir(&data).unwrap();
        let config = format!("data_dir = {:?}\nmqtt.viewer_listen = \"off\"\n", data.display().to_string());
        std::fs::write(data.join("master.toml"), config).unwrap();
        let before = HOSTS.map(|(host, _, _)| kernel(&segments, host)).into();
        let master = master(&segments, dir.path());
        let mut cluster = Self { agents: Vec::new(), master, dockers, segments, before, dir };
        cluster.wait_master();
        let made = cluster.bramble(&["token", "create", "-o", "json"]).good();
        let token = serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned();
        for index in 0..HOSTS.len() {
            let agent = cluster.agent(index, &["--token", &token]);
            cluster.agents.push(agent);
        }
        cluster.wait_ready();
        cluster
    }

    /// An agent on the host with this number; it has joined before, or gets a token.
    pub fn agent(&self, index: usize, more: &[&str]) -> Daemon {
        let host = HOSTS[index].0;
        let board = self.dir.path().join(format!("board-{host}"));
        std::fs::create_dir_all(board.join("etc")).unwrap();
        std::fs::write(board.join("etc/machine-id"), format!("{host}\n")).unwrap();
        let config = self.dir.path().join(format!("{host}.toml"));
        let text = format!(
            "docker.socket = {:?}\nhealth.interval_seconds = 2\n[join]\nidentity_root = {:?}\n",
            self.dockers[index].socket(),
            board.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        // What stands in `/sys` is of the network namespace that it was mounted in; cgroups stay this machine's.
        let own_sys = "mount --rbind /sys/fs/cgroup \"$0\" && mount -t sysfs sysfs /sys && mount --move \"$0\" /sys/fs/cgroup && exec \"$@\"";
        let aside = self.dir.path().join(format!("cgroup-{host}"));
        std::fs::create_dir_all(&aside).unwrap();
        let mut command = self.segments.hosts.enter(host, "unshare");
        command.args(["--mount", "--", "sh", "-c", own_sys]).arg(&aside).arg(BRAMBLE);
        command.args(["agent", "--runtime", "docker", "--node", host, "--config"]).arg(config);
        command.arg("--data-dir").arg(self.dir.path().join(format!("card-{host}")));
        command.args(["--join", &format!("https://{}:6443", address("one"))]).args(more);
        Daemon::spawn(self.dir.path().join(format!("{host}.log")), command)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("master")
    }

    /// Starts the master again, once it has ended.
    pub fn start_master(&mut self) {
        self.master = master(&self.segments, self.dir.path());
        self.wait_master();
    }

    fn wait_master(&self) {
        wait_until("the master answers", SOON, || {
            let said = self.bramble(&["token", "list"]);
            if said.code == 0 { Ok(()) } else { Err(said.err) }
        });
    }

    /// Kills an agent and starts it again after a while.
    pub fn kill_agent(&mut self, index: usize, away: Duration) {
        self.agents[index].kill();
        std::thread::sleep(away);
        self.agents[index] = self.agent(index, &[]);
    }

    /// `bramble GROUP COMMAND …` about the master, on its host.
    pub fn bramble(&self, arguments: &[&str]) -> Said {
        let (head, rest) = arguments.split_at(2);
        let mut command = self.segments.hosts.enter("one", BRAMBLE);
        command.args(head).arg("--data-dir").arg(self.data()).args(rest);
        said(command)
    }

    /// The newest kubectl, as administrator, on the master's host.
    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        self.kubectl_in(&self.segments.hosts.name("one"), "https://127.0.0.1:6443", arguments)
    }

    /// The same in a network namespace, at this address of the API.
    pub fn kubectl_in(&self, namespace: &str, server: &str, arguments: &[&str]) -> Said {
        let pki = self.data().join("pki");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", Path::new("/var/run/netns").join(namespace).display())).arg("--");
        command.arg(kubectls().pop().unwrap().1).args(arguments).arg(format!("--server={server}"));
        for (flag, file) in [
            ("certificate-authority", "ca.crt"),
            ("client-certificate", "bramble-admin.crt"),
            ("client-key", "bramble-admin.key"),
        ] {
            command.arg(format!("--{flag}={}", pki.join(file).display()));
        }
        command.arg(format!("--cache-dir={}", self.dir.path().join("cache").display())).env("KUBECONFIG", "/dev/null");
        said(command)
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let file = self.dir.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.kubectl(&["apply", "-f", &file.display().to_string()]).good()
    }

    /// `kubectl get … -o json`.
    #[track_caller]
    pub fn get(&self, what: &[&str]) -> Value {
        let all = [&["get"], what, &["-o", "json"]].concat();
        serde_json::from_str(&self.kubectl(&all).good()).unwrap()
    }

    /// Waits until the three nodes are ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until("three nodes are ready", SOON, || {
            let nodes = self.kubectl(&["get", "nodes", "--no-headers"]).out;
            let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready")).count();
            if ready == HOSTS.len() { Ok(()) } else { Err(nodes) }
        });
    }

    /// The ready pods of a selector, once they are so many and no other is there.
    #[track_caller]
    pub fn wait_pods(&self, selector: &str, count: usize, most: Duration) -> Vec<OnHost> {
        wait_until(&format!("{count} pods of {selector}"), most, || {
            let pods = self.get(&["pods", "-l", selector]);
            let pods = pods["items"].as_array().unwrap();
            let ready = pods.iter().filter(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
            if ready.count() != count || pods.len() != count {
                return Err(summary(pods));
            }
            Ok(pods.iter().map(|pod| self.on_host(pod)).collect())
        })
    }

    fn on_host(&self, pod: &Value) -> OnHost {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, host) = (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]));
        let docker = &self.dockers[HOSTS.iter().position(|(known, _, _)| *known == host).unwrap()];
        let filter = format!("name=bramble_SANDBOX_{name}_");
        let sandbox = docker.docker(&["ps", "-q", "--filter", &filter]);
        let process = docker.docker(&["inspect", "--format", "{{.State.Pid}}", &sandbox]);
        OnHost { name, host, address: text(&pod["status"]["podIP"]), namespace: format!("/proc/{process}/ns/net") }
    }

    /// For who wonders why: what the cluster knows, and what is in the kernel of the host whose name is at the end.
    pub fn state(&self, place: &str) -> String {
        let known = self.kubectl(&["get", "pods,endpointslices,services", "-A", "-o", "wide"]).out;
        let host = place.rsplit(' ').next().filter(|host| HOSTS.iter().any(|known| known.0 == *host)).unwrap_or("one");
        format!("{known}\n{}", self.segments.hosts.inside(host, "nft list ruleset; ip route; ip -br addr"))
    }

    /// What a line of shell in the container `app` of a pod prints, with what it complains of.
    pub fn exec(&self, pod: &OnHost, line: &str) -> Said {
        let docker = &self.dockers[HOSTS.iter().position(|(known, _, _)| *known == pod.host).unwrap()];
        let id = docker.docker(&["ps", "-q", "--filter", &format!("name=bramble_app_{}_", pod.name)]);
        let mut command = Command::new("docker");
        command.args(["-H", &format!("unix://{}", docker.socket()), "exec", &id, "sh", "-c", &format!("{{ {line}; }} 2>&1")]);
        said(command)
    }

    /// The address of the pod `on-NODE`.
    pub fn pod_ip(&self, node: &str) -> String {
        self.get(&["pod", &format!("on-{node}")])["status"]["podIP"].as_str().unwrap().to_owned()
    }

    /// Waits until the pod `on-FROM` gets the page of the pod `on-TO`. Asked of the engine: it works without the master.
    #[track_caller]
    pub fn wait_reaches(&self, from: &str, to: &str, most: Duration) {
        let (index, address) = (HOSTS.iter().position(|(host, _, _)| *host == from).unwrap(), self.pod_ip(to));
        let docker = &self.dockers[index];
        let container = docker.docker(&["ps", "-q", "--filter", "name=bramble_app_"]);
        let process = docker.docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
        let url = format!("http://{address}:8080/");
        wait_until(&format!("the pod on {from} gets the page of {to}"), most, || {
            // In the pod's network. Not `wget -T`: in Debian's static busybox it crashes.
            let mut command = Command::new("nsenter");
            command.args(["-t", &process, "-n", "timeout", "1", "busybox", "wget", "-q", "-O", "-", &url]);
            let said = said(command);
            if said.out == format!("from-{to}\n") {
                return Ok(());
            }
            let mut command = Command::new("nsenter");
            command.args(["-t", &process, "-n", "sh", "-c", "ip -br addr; ip route"]);
            Err(format!("{url} {}: {}{}\n{}", said.code, said.out, said.err, super::home::said(command).out))
        });
    }

    /// Makes a service of all pods `on-NODE`; its address.
    fn service_of_each(&self) -> String {
        self.apply(
            "apiVersion: v1
kind: Service
metadata: {name: each}
spec: {selector: {app: each}, ports: [{port: 80, targetPort: 8080}]}
",
        );
        wait_until("three pods serve", SOON, || {
            let slices = self.get(&["endpointslices", "-l", "kubernetes.io/service-name=each"]);
            let count = slices["items"][0]["endpoints"].as_array().map_or(0, Vec::len);
            if count == HOSTS.len() { Ok(()) } else { Err(slices.to_string()) }
        });
        self.get(&["service", "each"])["spec"]["clusterIP"].as_str().unwrap().to_owned()
    }

    /// What a host gets from this URL.
    #[track_caller]
    fn node_gets(&self, host: &str, url: &str) -> String {
        let mut command = self.segments.hosts.run(host, "timeout");
        command.args(["5", "busybox", "wget", "-q", "-O", "-", url]);
        said(command).good()
    }

    /// The `InternalIP` that the master knows of a node.
    pub fn internal_ip(&self, node: &str) -> String {
        let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        self.kubectl(&["get", "node", node, "-o", path]).out
    }
}

/// A pod that runs, and where.
#[derive(Debug, Clone)]
pub struct OnHost {
    pub name: String,
    pub host: String,
    pub address: String,
    /// The file of its network namespace.
    pub namespace: String,
}

#[test]
fn three_hosts_with_a_docker_each_run_a_pod_each_and_a_new_address_is_known_within_five_seconds() {
    if skipped("docker") {
        return;
    }
    let began = Instant::now();
    let cluster = Cluster::start("whole");
    println!("three hosts are ready after {:?}", began.elapsed());
    for (host, _, address) in HOSTS {
        assert_eq!(cluster.internal_ip(host), address);
    }
    let pod = |host: &str| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: on-{host}, labels: {{app: each}}}}
spec:
  nodeName: {host}
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {BUSYBOX}
    command: [sh, -c, 'mkdir -p /www; echo from-{host} > /www/index.html; exec httpd -f -p 8080 -h /www']
"
        )
    };
    cluster.apply(&HOSTS.map(|(host, _, _)| pod(host)).concat());
    wait_until("a pod on each", SOON, || {
        let pods = cluster.get(&["pods", "-l", "app=each"]);
        let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        let ready = pods["items"].as_array().unwrap().iter().filter(ready).count();
        if ready == HOSTS.len() { Ok(()) } else { Err(pods.to_string()) }
    });
    for docker in &cluster.dockers {
        assert_eq!(docker.docker(&["ps", "-q"]).lines().count(), 2, "its pod and that one's sandbox");
    }
    println!("pods run after {:?}", began.elapsed());
    // Every pod reaches every pod, on its node, across the segment and across the router; so does every node.
    let ranges: BTreeSet<String> =
        HOSTS.iter().map(|(host, _, _)| cluster.pod_ip(host).rsplit_once('.').unwrap().0.to_owned()).collect();
    assert_eq!(ranges.len(), HOSTS.len(), "each node has a range of its own: {ranges:?}");
    for (from, _, _) in HOSTS {
        for (to, _, _) in HOSTS {
            cluster.wait_reaches(from, to, Duration::from_secs(5));
            let url = format!("http://{}:8080/", cluster.pod_ip(to));
            assert_eq!(cluster.node_gets(from, &url), format!("from-{to}\n"), "node {from} to a pod of {to}");
        }
    }
    // A new lease, beyond the router.
    let moved = Instant::now();
    cluster.segments.readdress("three", "10.78.2.33");
    wait_until("the new address is known", Duration::from_secs(5), || {
        let now = cluster.internal_ip("three");
        if now == "10.78.2.33" { Ok(()) } else { Err(now) }
    });
    println!("the new address is known to the master after {:?}", moved.elapsed());
    for (from, to) in [("one", "three"), ("three", "two")] {
        cluster.wait_reaches(from, to, Duration::from_secs(5).saturating_sub(moved.elapsed()));
    }
    println!("and to all nodes after {:?}", moved.elapsed());
    cluster.wait_ready();
    // The line is cut for longer than a node may be silent, and restored.
    cluster.segments.cut();
    wait_until("three is not ready", SOON, || {
        let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).out;
        if nodes.lines().any(|line| line.starts_with("three") && line.contains("NotReady")) { Ok(()) } else { Err(nodes) }
    });
    // What the nodes know is enough.
    cluster.wait_reaches("one", "two", SOON);
    cluster.segments.restore();
    cluster.wait_reaches("one", "three", Duration::from_secs(5));
    cluster.wait_ready();
    assert_eq!(cluster.dockers[2].docker(&["ps", "-q"]).lines().count(), 2, "its pod ran on");
    // The line takes its time: pods, services and the nodes' link go over it all the same.
    let url = format!("http://{}:80/", cluster.service_of_each());
    {
        let delay = Delay::start(&cluster.segments.hosts.name("router"), Duration::from_millis(50));
        cluster.wait_reaches("one", "three", Duration::from_secs(5));
        // The service is new: its rules come by the same line.
        wait_until("the service is known on one", SOON, || {
            let mut ask = cluster.segments.hosts.run("one", "timeout");
            ask.args(["5", "busybox", "wget", "-q", "-O", "-", &url]);
            let said = said(ask);
            if said.code == 0 { Ok(()) } else { Err(said.err) }
        });
        let answered: BTreeSet<String> = (0..40).map(|_| cluster.node_gets("one", &url)).collect();
        assert_eq!(answered, HOSTS.map(|(host, _, _)| format!("from-{host}\n")).into(), "all of them serve");
        cluster.wait_ready();
        assert!(delay.end().packets > 100);
    }
    // A person asks for encryption to and from one node.
    cluster.kubectl(&["annotate", "node", "two", "bramble/overlay=wireguard"]).good();
    wait_until("the way to two is a tunnel", Duration::from_secs(10), || {
        let routes = cluster.segments.hosts.inside("one", "ip route show proto 98");
        if routes.contains(" dev bwg-") { Ok(()) } else { Err(routes) }
    });
    for (from, to) in [("one", "two"), ("two", "three"), ("three", "two"), ("one", "three")] {
        cluster.wait_reaches(from, to, Duration::from_secs(10));
    }
    let key =
        cluster.kubectl(&["get", "node", "two", "-o", r"jsonpath={.metadata.annotations.bramble/wireguard-public-key}"]).out;
    assert_eq!(key.len(), 44, "{key:?}: 32 bytes in base64");
    println!("and all of it took {:?}", began.elapsed());
}
