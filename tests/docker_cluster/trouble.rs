//! Random trouble for a whole cluster: people make, change and delete, containers are killed and removed by hand, and the agent and the
//! master die at any moment. Afterwards nothing is left that belongs to no pod, and nothing is missing that belongs to one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bramble::agent::volumes::disk;
use bramble::rng::Rng;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::left::{Seen, containers, is_held_by_docker_alone, wrong_networks};
use crate::on_docker;
use crate::support::{BUSYBOX, Cluster, cluster_uid, docker, is_ready, lives, signal, wait_until};

/// Pods at one time, besides those of the deployment.
const MOST: usize = 6;
/// Config maps that pods mount.
const MAPS: usize = 3;
const NODE: &str = "bramble-1";
/// As long as a loaded machine may take until everything meets.
const MEETS: Duration = Duration::from_secs(120);
const STAYS: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// What happens in one step.
#[derive(Debug)]
enum Step {
    Create(String),
    Delete(String),
    /// `kubectl delete --force`: the API forgets it before the node has ended it.
    Force(String),
    /// Another image, so the container is replaced.
    EditImage(String),
    EditLabels(String),
    EditMap(usize),
    Scale(usize),
    /// Another template: the deployment rolls.
    Roll,
    /// A person's `docker kill`, or `docker rm -f`; a number that picks the container.
    Kill(u64),
    Remove(u64),
    /// A daemon dies by SIGKILL in the middle of whatever it does, and is started again after so many steps.
    AgentDies(usize),
    MasterDies(usize),
}

/// The steps that a seed gives, each with its pause in milliseconds: nothing in them depends on what happens.
fn plan(seed: u64, steps: usize) -> Vec<(Step, u64)> {
    let (mut plan, mut live, mut made) = (Vec::new(), Vec::<String>::new(), 0);
    for number in 0..steps {
        let mut rng = Rng::seeded(seed, &format!("step {number}"));
        let some = rng.below(live.len());
        let step = match rng.below(18) {
            0 => Step::Kill(rng.bits()),
            1 => Step::Remove(rng.bits()),
            2 => Step::MasterDies(rng.below(3)),
            3 | 4 => Step::AgentDies(rng.below(3)),
            5 => Step::Scale(rng.below(4)),
            6 => Step::Roll,
            7 | 8 if !live.is_empty() => Step::Delete(live.remove(some)),
            9 if !live.is_empty() => Step::Force(live.remove(some)),
            10 if !live.is_empty() => Step::EditImage(live[some].clone()),
            11 if !live.is_empty() => Step::EditLabels(live[some].clone()),
            12..=16 if live.len() < MOST => {
                made += 1;
                let name = format!("p{made}");
                live.push(name.clone());
                Step::Create(name)
            }
            _ => Step::EditMap(rng.below(MAPS)),
        };
        plan.push((step, rng.below(900) as u64));
    }
    plan
}

/// One of the shapes that pods have. `lasts` in its labels tells what is to be seen of it in the end.
fn shape(seed: u64, name: &str) -> Value {
    let mut rng = Rng::seeded(seed, name);
    let container = |name: &str, script: &str| json!({"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]});
    let (lasts, policy, mut main) = match rng.below(6) {
        0 => ("crashes", "Always", vec![container("main", "sleep 0.3; exit 1")]),
        1 => ("ends", "Never", vec![container("main", "sleep 0.5")]),
        2 => ("stays", "Always", vec![container("main", "trap '' TERM; while :; do sleep 1000 & wait $!; done")]),
        3 => ("stays", "Always", vec![container("main", STAYS), container("beside", STAYS)]),
        _ => ("stays", "Always", vec![container("main", STAYS)]),
    };
    let (mut volumes, mut mounts, mut first) = (Vec::new(), Vec::new(), Vec::new());
    let mut mount = |name: &str, mut volume: Value| {
        volume["name"] = json!(name);
        volumes.push(volume);
        mounts.push(json!({"name": name, "mountPath": format!("/{name}")}));
    };
    if lasts != "ends" {
        if rng.below(3) == 0 {
            mount("scratch", json!({"emptyDir": {}}));
            let mut init = container("first", "echo hello > /scratch/a");
            init["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
            first.push(init);
        }
        if rng.below(4) == 0 {
            mount("quick", json!({"emptyDir": {"medium": "Memory"}}));
        }
        if rng.below(2) == 0 {
            mount("conf", json!({"configMap": {"name": format!("c{}", rng.below(MAPS))}}));
        }
        if rng.below(3) == 0 {
            mount("data", json!({"persistentVolumeClaim": {"claimName": format!("data-{name}")}}));
        }
        if rng.below(4) == 0 {
            let mut sidecar = container("sidecar", STAYS);
            sidecar["restartPolicy"] = json!("Always");
            first.push(sidecar);
        }
    }
    if rng.below(3) == 0 {
        let asks = json!({"exec": {"command": ["ls", "/bin"]}, "periodSeconds": 1, "timeoutSeconds": 20, "failureThreshold": 10});
        main[0]["readinessProbe"] = asks.clone();
        main[0]["livenessProbe"] = asks;
    }
    if rng.below(3) == 0 {
        main[0]["lifecycle"] =
            json!({"postStart": {"exec": {"command": ["sleep", "0.1"]}}, "preStop": {"exec": {"command": ["sleep", "0.3"]}}});
    }
    main[0]["volumeMounts"] = json!(mounts);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"lasts": lasts}},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 1, "volumes": volumes, "initContainers": first, "containers": main},
    })
}

fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    object.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn engine() -> Command {
    Command::new("docker")
}

/// A daemon that dies and comes back.
struct Mortal {
    arguments: Vec<String>,
    log: PathBuf,
    alive: Option<Daemon>,
    /// The step at which it comes back.
    back_at: usize,
}

impl Mortal {
    fn new(cluster: &Cluster, kind: &str, name: &str, config: &str) -> Self {
        let config = cluster.dir.join(config).to_string_lossy().into_owned();
        let log = cluster.dir.join(format!("logs/{name}.log"));
        Self { arguments: [kind, "--config", &config].map(str::to_owned).to_vec(), log, alive: None, back_at: 0 }
    }

    fn start(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.alive.get_or_insert_with(|| Daemon::bramble(&self.log, &arguments));
    }

    fn die(&mut self, back_at: usize) {
        if let Some(daemon) = self.alive.take() {
            daemon.kill();
            self.back_at = back_at;
        }
    }

    /// It ended without being killed: what no trouble excuses.
    fn check(&mut self, seed: u64) {
        assert!(!self.alive.as_mut().is_some_and(Daemon::ended), "seed {seed}: {:?} ended by itself", self.arguments);
    }
}

struct World {
    seed: u64,
    // Before the cluster: they end before it is deleted.
    agent: Mortal,
    master: Mortal,
    seen: Seen,
    uid: String,
    cluster: Cluster,
    /// What of the API was refused because the master was away, and what was done.
    refused: u32,
    done: u32,
}

impl World {
    fn new(seed: u64, cluster: Cluster) -> Self {
        let uid = cluster_uid(&cluster);
        // From now on both are ours to kill.
        let pids = cluster.pids();
        for pid in &pids {
            signal(*pid, "KILL");
        }
        wait_until("both are dead", MEETS, || if pids.iter().any(|pid| lives(*pid)) { Err(format!("{pids:?}")) } else { Ok(()) });
        let mut agent = Mortal::new(&cluster, "agent", NODE, &format!("nodes/{NODE}/agent.toml"));
        let mut master = Mortal::new(&cluster, "master", "master", "master.toml");
        agent.start();
        master.start();
        let seen = Seen::watch(engine, &uid);
        Self { seed, agent, master, seen, uid, cluster, refused: 0, done: 0 }
    }

    /// Asks the API, which may be away, and may die before it answers.
    fn ask(&mut self, arguments: &[&str], input: &Value) {
        let arguments = [arguments, &["--request-timeout=10s"]].concat();
        let said = match input {
            Value::Null => self.cluster.kubectl(&arguments),
            input => self.cluster.kubectl_in(&self.cluster.kubectl, &arguments, &input.to_string()),
        };
        if said.ok {
            self.done += 1;
            return;
        }
        self.refused += 1;
        // A master that lives does what it is asked, or says that there is no such thing.
        let excused = self.master.alive.is_none()
            || [
                "connection refused",
                "was refused",
                "NotFound",
                "not found",
                "EOF",
                "connection reset",
                "TLS handshake",
                "starting",
            ]
            .iter()
            .any(|words| said.err.contains(words));
        assert!(excused, "seed {}: kubectl {arguments:?}: {}", self.seed, said.err);
    }

    fn step(&mut self, at: usize, step: &Step) {
        let none = Value::Null;
        match step {
            Step::Create(name) => {
                let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": format!("data-{name}")},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
                let pod = shape(self.seed, name);
                let claims = list(&pod, "/spec/volumes").iter().any(|volume| volume["persistentVolumeClaim"].is_object());
                let items = if claims { vec![claim, pod] } else { vec![pod] };
                self.ask(&["create", "-f", "-"], &json!({"apiVersion": "v1", "kind": "List", "items": items}));
            }
            Step::Delete(name) | Step::Force(name) => {
                let (pod, claim) = (format!("pod/{name}"), format!("pvc/data-{name}"));
                let mut words = vec!["delete", &pod, &claim, "--wait=false", "--ignore-not-found"];
                if matches!(step, Step::Force(_)) {
                    words.extend(["--force", "--grace-period=0"]);
                }
                self.ask(&words, &none);
            }
            Step::EditImage(name) => {
                // Another name of the same image is another spec.
                let image = if at.is_multiple_of(2) { format!("docker.io/{BUSYBOX}") } else { BUSYBOX.to_owned() };
                self.ask(&["set", "image", &format!("pod/{name}"), &format!("main={image}")], &none);
            }
            Step::EditLabels(name) => self.ask(&["label", "--overwrite", "pod", name, &format!("step={at}")], &none),
            Step::EditMap(map) => {
                let patch = json!({"data": {"said": at.to_string()}}).to_string();
                self.ask(&["patch", "configmap", &format!("c{map}"), "-p", &patch], &none);
            }
            Step::Scale(replicas) => self.ask(&["scale", "deployment/many", &format!("--replicas={replicas}")], &none),
            Step::Roll => self.ask(&["set", "env", "deployment/many", &format!("ROUND={at}")], &none),
            Step::Kill(pick) | Step::Remove(pick) => {
                let found = containers(engine, &self.uid, true);
                self.seen.note(&found);
                if let Some((id, _)) = found.get(usize::try_from(pick % found.len().max(1) as u64).unwrap()) {
                    let mut words = if matches!(step, Step::Kill(_)) { vec!["kill"] } else { vec!["rm", "-f"] };
                    words.push(id);
                    // It may be gone by then.
                    let _ = docker(&words);
                }
            }
            Step::AgentDies(steps) => self.agent.die(at + steps),
            Step::MasterDies(steps) => self.master.die(at + steps),
        }
        for daemon in [&mut self.agent, &mut self.master] {
            daemon.check(self.seed);
            if daemon.back_at <= at {
                daemon.start();
            }
        }
    }

    /// All that is wrong: with what the API says, and with what is here of it.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let said = self.cluster.kubectl(&["get", "pods,pv,configmaps,deployments", "-o", "json", "--request-timeout=10s"]);
        let Ok(all) = serde_json::from_str::<Value>(&said.out) else { return vec![said.err] };
        let of = |kind: &str| list(&all, "/items").iter().filter(|item| item["kind"] == kind).collect::<Vec<_>>();
        let pods: BTreeMap<&str, &Value> = of("Pod").into_iter().map(|pod| (text(pod, "/metadata/uid"), pod)).collect();
        let (running, there) = (containers(engine, &self.uid, false), containers(engine, &self.uid, true));
        self.seen.note(&there);
        for pod in pods.values() {
            wrong_pod(pod, &running, &mut wrong);
        }
        for (_, name) in &there {
            if !pods.contains_key(name.split('_').nth(4).unwrap_or_default()) {
                wrong.push(format!("{name} belongs to no pod"));
            }
        }
        for one in of("Deployment") {
            if one["spec"]["replicas"].as_u64() != Some(one["status"]["readyReplicas"].as_u64().unwrap_or_default()) {
                wrong.push(format!("the deployment: {}", one["status"]));
            }
        }
        wrong.extend(self.seen.strays(&running));
        wrong.extend(wrong_networks(engine, &self.uid, &running));
        self.wrong_volumes(&pods, &of("PersistentVolume"), &of("ConfigMap"), &mut wrong);
        wrong
    }

    fn wrong_volumes(&self, pods: &BTreeMap<&str, &Value>, volumes: &[&Value], maps: &[&Value], wrong: &mut Vec<String>) {
        let node = self.cluster.dir.join("nodes").join(NODE);
        let mut scratch = BTreeSet::new();
        for (uid, pod) in pods {
            for volume in list(pod, "/spec/volumes") {
                if volume["emptyDir"].is_object() {
                    scratch.insert(format!("{uid} {}", text(volume, "/name")));
                }
                if let Some(map) = volume["configMap"]["name"].as_str() {
                    let says = maps.iter().find(|one| one["metadata"]["name"] == map).map_or("", |one| text(one, "/data/said"));
                    let file = node.join(format!("run/pods/{uid}/volumes/conf/said"));
                    let reads = std::fs::read_to_string(&file).unwrap_or_default();
                    if reads != says {
                        wrong.push(format!("{} reads {reads:?} where {map} says {says:?}", text(pod, "/metadata/name")));
                    }
                }
            }
        }
        let format = "{{.Label \"bramble/pod-uid\"}} {{.Label \"bramble/volume\"}}";
        let filter = format!("label=bramble/cluster={}", self.uid);
        let here = docker(&["volume", "ls", "--format", format, "--filter", &filter]).expect();
        let here: BTreeSet<String> = here.lines().map(str::to_owned).collect();
        wrong.extend(here.difference(&scratch).map(|one| format!("volume of no pod: {one}")));
        wrong.extend(scratch.difference(&here).map(|one| format!("missing volume: {one}")));
        let directories = disk::pods(&node.join("run")).unwrap();
        let strange = directories.iter().filter(|uid| !pods.contains_key(uid.0.as_str()));
        wrong.extend(strange.map(|uid| format!("directory of no pod: {uid}")));

        let wanted: BTreeSet<PathBuf> = volumes.iter().map(|volume| text(volume, "/spec/local/path").into()).collect();
        let entries = std::fs::read_dir(node.join("volumes")).into_iter().flatten().flatten();
        let made: BTreeSet<PathBuf> = entries.map(|entry| entry.path()).collect();
        wrong.extend(made.difference(&wanted).map(|one| format!("directory of no claim: {}", one.display())));
        for volume in volumes {
            let claim = text(volume, "/spec/claimRef/name");
            let stays = pods.values().any(|pod| {
                list(pod, "/spec/volumes").iter().any(|one| one["persistentVolumeClaim"]["claimName"] == claim) && is_ready(pod)
            });
            let path: PathBuf = text(volume, "/spec/local/path").into();
            if stays && !made.contains(&path) {
                wrong.push(format!("missing directory of {claim}: {}", path.display()));
            }
        }
    }

    /// Both daemons live, and after a while nothing is wrong.
    fn until_right(&mut self, when: &str) {
        self.agent.start();
        self.master.start();
        let begun = Instant::now();
        loop {
            let wrong = self.wrong();
            self.agent.check(self.seed);
            self.master.check(self.seed);
            if wrong.is_empty() {
                break;
            }
            assert!(begun.elapsed() < MEETS, "seed {}, {when}:\n{}", self.seed, wrong.join("\n"));
            std::thread::sleep(Duration::from_millis(300));
        }
        eprintln!("{when}: right after {:.1} s", begun.elapsed().as_secs_f64());
    }

    /// That the eyes are open: what belongs to no pod, and no node takes for its own, is seen as too much.
    fn sees_strangers(&self) {
        let (name, volume) = (format!("bramble_main_ghost_default_{}-0_0", self.uid), format!("ghost-{}", self.uid));
        let label = format!("bramble/cluster={}", self.uid);
        docker(&["run", "-d", "--network", "none", "--name", &name, "--label", &label, BUSYBOX, "sleep", "600"]).expect();
        docker(&["volume", "create", "--label", &label, "--label", "bramble/volume=ghost", &volume]).expect();
        let wrong = self.wrong();
        docker(&["rm", "-f", &name]).expect();
        docker(&["volume", "rm", &volume]).expect();
        for words in ["ghost_default", "volume of no pod:  ghost"] {
            assert!(wrong.iter().any(|line| line.contains(words)), "{words:?} is not seen in {wrong:#?}");
        }
    }

    /// The processes of this cluster on this machine, besides those in containers.
    fn processes(&self) -> Vec<String> {
        let here = self.cluster.dir.to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let commands = entries.filter_map(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&command).replace('\0', " "))
        });
        commands.filter(|command| command.contains("bramble") && command.contains(&here)).collect()
    }
}

/// What is to be seen of a pod, by the shape that it has.
fn wrong_pod(pod: &Value, running: &[(String, String)], wrong: &mut Vec<String>) {
    let name = text(pod, "/metadata/name");
    let status = &pod["status"];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        wrong.push(format!("{name} is still being deleted"));
        return;
    }
    match text(pod, "/metadata/labels/lasts") {
        "crashes" => {
            if status["containerStatuses"][0]["restartCount"].as_u64() < Some(1) {
                wrong.push(format!("{name} should crash again and again: {status}"));
            }
        }
        "ends" => {
            // Failed, where a person has killed or removed it.
            if !["Succeeded", "Failed"].contains(&text(status, "/phase")) {
                wrong.push(format!("{name} should have ended: {status}"));
            }
        }
        _ => {
            if !is_ready(pod) {
                wrong.push(format!("{name} is not ready: {status}"));
            }
            let sidecars = list(pod, "/spec/initContainers").iter().filter(|one| one["restartPolicy"] == "Always");
            let lasting = list(pod, "/spec/containers").iter().chain(sidecars).map(|one| text(one, "/name"));
            for container in lasting.chain(["SANDBOX"]) {
                let prefix = format!("bramble_{container}_{name}_default_{}_", text(pod, "/metadata/uid"));
                let count = running.iter().filter(|(_, name)| name.starts_with(&prefix)).count();
                if count != 1 {
                    wrong.push(format!("{prefix} runs {count} times"));
                }
            }
        }
    }
}

/// `BRAMBLE_STEPS` steps (30 when not given; 300 for a release) from `BRAMBLE_SEED` (chance when not given; always printed).
#[test]
fn after_random_trouble_with_whole_daemons_nothing_is_left_and_nothing_is_missing() {
    let Some(cluster) = on_docker(&[]) else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("BRAMBLE_SEED").unwrap_or_else(|| Rng::from_os("seed").bits() % 1_000_000);
    let steps = usize::try_from(number("BRAMBLE_STEPS").unwrap_or(30)).unwrap();
    eprintln!("BRAMBLE_SEED={seed} BRAMBLE_STEPS={steps}");
    for map in 0..MAPS {
        cluster.kubectl(&["create", "configmap", &format!("c{map}"), "--from-literal=said=0"]).expect();
    }
    cluster.apply(&crate::support::deployment(
        "many",
        2,
        BUSYBOX,
        "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n",
    ));
    let mut world = World::new(seed, cluster);
    let begun = Instant::now();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (at, (step, pause)) in plan(seed, steps).iter().enumerate() {
        eprintln!("{:7.1} s {at}: {step:?}", begun.elapsed().as_secs_f64());
        let kind: String = format!("{step:?}").chars().take_while(char::is_ascii_alphabetic).collect();
        *counts.entry(kind).or_default() += 1;
        world.step(at, step);
        std::thread::sleep(Duration::from_millis(*pause));
        if at + 1 == steps / 2 {
            world.until_right("half way");
            world.sees_strangers();
        }
    }
    eprintln!(
        "{counts:?}, {} requests done and {} refused, in {:.0} s",
        world.done,
        world.refused,
        begun.elapsed().as_secs_f64()
    );
    assert!(world.done > 0, "seed {seed}: the API refused everything");
    world.until_right("with its pods");
    world.cluster.kubectl(&["delete", "deployments,pods,pvc", "--all", "--wait=false"]).expect();
    world.until_right("without pods");
    assert_eq!(world.cluster.kubectl(&["get", "pods,pv,pvc", "-o", "name"]).expect(), "");
    let processes = world.processes();
    assert_eq!(processes.len(), 2, "an agent and a master: {processes:#?}");
    eprintln!("nothing left, nothing missing; {} containers were made", world.seen.count());

    let World { agent, master, cluster, uid, .. } = world;
    drop((agent, master));
    cluster.bramble(["delete"]).expect();
    let all = ["ps -aq", "volume ls -q", "network ls -q"].map(|words| {
        let filter = format!("label=bramble/cluster={uid}");
        let words: Vec<&str> = words.split(' ').chain(["--filter", &filter]).collect();
        let kind = words[0].to_owned();
        docker(&words).expect().lines().map(|id| format!("{kind} {id}")).collect::<Vec<_>>()
    });
    let left: Vec<String> = all.into_iter().flatten().filter(|line| !is_held_by_docker_alone(engine, line)).collect();
    assert_eq!(left, Vec::<String>::new(), "seed {seed}");
    assert!(!cluster.dir.exists(), "seed {seed}: {} is left", cluster.dir.display());
}
