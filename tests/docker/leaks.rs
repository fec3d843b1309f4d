//! Random trouble: pods made, edited, deleted and forgotten, containers killed and removed by people, agents that die, a Docker that
//! hangs. Afterwards nothing is left that belongs to no pod, and nothing is missing that belongs to one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bramble::agent::pods::dir;
use bramble::agent::runtime::Runtime;
use bramble::agent::volumes::disk;
use bramble::api::{Object, Uid};
use bramble::link::share::Share;
use bramble::rng::Rng;
use serde_json::{Value, json};

use crate::faults::{STAYS, hasty};
use crate::left::{Seen, containers, is_held_by_docker_alone, wrong_networks};
use crate::proxy::{Mood, Proxy};
use crate::support::{Agent, BUSYBOX, Cluster, deleted, docker, docker_command, pod, share, skipped, socket};

/// Pods at one time.
const MOST: usize = 8;
/// Config maps that pods mount.
const MAPS: usize = 3;

/// What happens in one step.
#[derive(Debug)]
enum Step {
    Create(String),
    Delete(String),
    /// Taken from the share without a word: another master's doing, or a forced deletion.
    Forget(String),
    Edit(String, Edit),
    EditMap(usize),
    /// A person's `docker kill`, or `docker rm -f`; a number that picks the container.
    Kill(u64),
    Remove(u64),
    /// The agent dies in the middle of whatever it does, and another one starts.
    Crash,
    Docker(Mood, u64),
}

/// What the API lets people change in a pod.
#[derive(Debug)]
enum Edit {
    Image,
    InitImage,
    Deadline,
    Toleration,
    Labels,
}

/// The steps that a seed gives, each with its pause: nothing in them depends on what happens.
fn plan(seed: u64, steps: u64) -> Vec<(Step, u64)> {
    let mut live: Vec<String> = Vec::new();
    let mut made = 0;
    let plan = (0..steps).map(|number| {
        let mut rng = Rng::seeded(seed, &format!("step {number}"));
        let some = rng.below(live.len());
        let what = rng.below(16);
        let edit = match rng.below(5) {
            0 | 1 => Edit::Image,
            2 => Edit::InitImage,
            3 => Edit::Deadline,
            _ if rng.below(2) == 0 => Edit::Toleration,
            _ => Edit::Labels,
        };
        let step = match what {
            0..=4 if live.len() < MOST => {
                made += 1;
                live.push(format!("p{made}"));
                Step::Create(format!("p{made}"))
            }
            5 | 6 if !live.is_empty() => Step::Delete(live.remove(some)),
            7 if !live.is_empty() => Step::Forget(live.remove(some)),
            8 | 9 if !live.is_empty() => Step::Edit(live[some].clone(), edit),
            10 => Step::EditMap(rng.below(MAPS)),
            11 => Step::Kill(rng.bits()),
            12 => Step::Remove(rng.bits()),
            13 | 14 => Step::Crash,
            _ => Step::Docker(if rng.below(2) == 0 { Mood::Hang } else { Mood::Cut }, rng.below(400) as u64),
        };
        (step, rng.below(400) as u64)
    });
    plan.collect()
}

/// The world of one run: what is wanted, and where.
struct World {
    seed: u64,
    cluster: Cluster,
    place: tempfile::TempDir,
    pods: BTreeMap<String, Value>,
    /// What each config map says.
    maps: Vec<u64>,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let cluster = Cluster::new();
        let place = tempfile::tempdir().unwrap();
        for folder in ["host", "volumes"] {
            std::fs::create_dir(place.path().join(folder)).unwrap();
        }
        let seen = Seen::watch(docker_command, &cluster.uid);
        Self { seed, cluster, place, pods: BTreeMap::new(), maps: vec![0; MAPS], seen }
    }

    /// Where the volume of a pod's claim lies.
    fn volume(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join("volumes").join(format!("default_data-{name}_{}", &uid_of_volume(name)[..8]))
    }

    /// One of the shapes that pods have: what of it runs, what it mounts, how it is asked and told.
    fn shape(&self, name: &str) -> Value {
        let mut rng = Rng::seeded(self.seed, name);
        let mut made = match rng.below(4) {
            0 => pod(name, &[("main", STAYS), ("beside", STAYS)]),
            1 => pod(name, &[("main", "sleep 0.3; exit 1")]),
            2 => pod(name, &[("main", "trap '' TERM; while :; do sleep 1000 & wait $!; done")]),
            _ => pod(name, &[("main", STAYS)]),
        };
        let (mut volumes, mut mounts, mut first) = (Vec::new(), Vec::new(), Vec::new());
        let mut mount = |name: &str, source: Value| {
            let mut volume = source;
            volume["name"] = json!(name);
            volumes.push(volume);
            mounts.push(json!({"name": name, "mountPath": format!("/{name}")}));
        };
        if rng.below(3) == 0 {
            mount("scratch", json!({"emptyDir": {}}));
            first.push(json!({"name": "first", "image": BUSYBOX, "command": ["/bin/sh", "-c", "echo hello > /scratch/a"],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}));
        }
        if rng.below(4) == 0 {
            mount("quick", json!({"emptyDir": {"medium": "Memory"}}));
        }
        if rng.below(2) == 0 {
            mount("conf", json!({"configMap": {"name": format!("c{}", rng.below(MAPS))}}));
        }
        if rng.below(4) == 0 {
            mount("host", json!({"hostPath": {"path": self.place.path().join("host"), "type": "Directory"}}));
        }
        if rng.below(4) == 0 {
            mount("data", json!({"persistentVolumeClaim": {"claimName": format!("data-{name}")}}));
        }
        if rng.below(4) == 0 {
            first.push(
                json!({"name": "sidecar", "image": BUSYBOX, "restartPolicy": "Always", "command": ["/bin/sh", "-c", STAYS]}),
            );
        }
        let main = &mut made["spec"]["containers"][0];
        if rng.below(3) == 0 {
            main["readinessProbe"] = json!({"exec": {"command": ["/bin/ls", "/bin"]}, "periodSeconds": 1, "timeoutSeconds": 20});
            main["livenessProbe"] = json!({"exec": {"command": ["/bin/ls", "/bin"]}, "periodSeconds": 1, "timeoutSeconds": 20,
                "failureThreshold": 10});
        }
        if rng.below(3) == 0 {
            main["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/sleep", "0.1"]}},
                "preStop": {"exec": {"command": ["/bin/sleep", "0.3"]}}});
        }
        main["volumeMounts"] = json!(mounts);
        made["spec"]["volumes"] = json!(volumes);
        made["spec"]["initContainers"] = json!(first);
        made
    }

    fn share(&self) -> Share {
        let mut share = share(&self.pods.values().cloned().collect::<Vec<_>>());
        let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
        for (number, said) in self.maps.iter().enumerate() {
            let map =
                json!({"metadata": {"name": format!("c{number}"), "namespace": "default"}, "data": {"said": said.to_string()}});
            share.config_maps.insert(format!("default/c{number}"), object(map));
        }
        for name in self.pods.keys() {
            let volume = json!({
                "metadata": {"name": format!("pv-{name}"), "uid": uid_of_volume(name),
                    "annotations": {"pv.kubernetes.io/provisioned-by": "bramble/local"}},
                "spec": {"claimRef": {"namespace": "default", "name": format!("data-{name}"), "uid": "u"},
                    "local": {"path": self.volume(name)}},
            });
            share.claims.insert(format!("default/data-{name}"), object(volume));
        }
        share
    }

    fn edit(&mut self, name: &str, edit: &Edit) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        let generation = pod["metadata"]["generation"].as_u64().unwrap_or(1) + 1;
        pod["metadata"]["generation"] = json!(generation);
        // Another name of the same image is another spec: the container is replaced.
        let image = if generation % 2 == 0 { format!("docker.io/library/{BUSYBOX}") } else { BUSYBOX.to_owned() };
        match edit {
            Edit::Image => pod["spec"]["containers"][0]["image"] = json!(image),
            Edit::InitImage => {
                for container in pod["spec"]["initContainers"].as_array_mut().unwrap() {
                    container["image"] = json!(image);
                }
            }
            Edit::Deadline => pod["spec"]["activeDeadlineSeconds"] = json!(100_000 + generation),
            Edit::Toleration => {
                pod["spec"]["tolerations"] = json!([{"key": format!("k{generation}"), "operator": "Exists"}]);
            }
            Edit::Labels => pod["metadata"]["labels"] = json!({"generation": generation.to_string()}),
        }
    }

    /// Whether everything is there that belongs to a pod, and nothing else; all that is wrong.
    fn wrong(&self, ready: &BTreeSet<&str>) -> Vec<String> {
        let mut wrong = Vec::new();
        let (running, all) =
            (containers(docker_command, &self.cluster.uid, false), containers(docker_command, &self.cluster.uid, true));
        self.seen.note(&all);
        for name in ready {
            let spec = &self.pods[*name]["spec"];
            let lasting = spec["initContainers"].as_array().unwrap().iter().filter(|one| one["restartPolicy"] == "Always");
            let lasting = spec["containers"].as_array().unwrap().iter().chain(lasting).map(|one| one["name"].as_str().unwrap());
            for container in lasting.chain(["SANDBOX"]) {
                let prefix = format!("bramble_{container}_{name}_");
                let count = running.iter().filter(|(_, name)| name.starts_with(&prefix)).count();
                if count != 1 {
                    wrong.push(format!("{prefix} runs {count} times"));
                }
            }
        }
        for (_, name) in &all {
            if !self.pods.contains_key(name.split('_').nth(2).unwrap_or_default()) {
                wrong.push(format!("{name} belongs to no pod"));
            }
        }
        wrong.extend(self.seen.strays(&running));
        self.wrong_volumes(ready, &mut wrong);
        wrong.extend(wrong_networks(docker_command, &self.cluster.uid, &running));
        wrong
    }

    fn wrong_volumes(&self, ready: &BTreeSet<&str>, wrong: &mut Vec<String>) {
        let owned = |pod: &str, volume: &str| format!("{pod} {volume}");
        let mut expected = BTreeSet::new();
        for (name, pod) in &self.pods {
            let volumes = pod["spec"]["volumes"].as_array().unwrap();
            expected.extend(
                volumes
                    .iter()
                    .filter(|volume| volume["emptyDir"].is_object())
                    .map(|volume| owned(name, volume["name"].as_str().unwrap())),
            );
            let directory = dir::pod(self.cluster.run.path(), &Uid(format!("uid-{name}")));
            if let Some(map) = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()) {
                let said = std::fs::read_to_string(directory.join("volumes/conf/said")).unwrap_or_default();
                let says = self.maps[map[1..].parse::<usize>().unwrap()].to_string();
                if said != says {
                    wrong.push(format!("{name} reads {said:?} where {map} says {says:?}"));
                }
            }
            let claims = volumes.iter().any(|volume| volume["persistentVolumeClaim"].is_object());
            if ready.contains(name.as_str()) && claims && !self.volume(name).is_dir() {
                wrong.push(format!("{} is missing", self.volume(name).display()));
            }
        }
        let format = "{{.Label \"bramble/pod-name\"}} {{.Label \"bramble/volume\"}}";
        let filter = format!("label=bramble/cluster={}", self.cluster.uid);
        let there = docker(&["volume", "ls", "--format", format, "--filter", &filter]);
        let there: Vec<&str> = there.lines().collect();
        wrong.extend(there.iter().filter(|one| !expected.contains(**one)).map(|one| format!("volume of no pod: {one}")));
        wrong.extend(expected.iter().filter(|one| !there.contains(&one.as_str())).map(|one| format!("missing volume: {one}")));
        for uid in disk::pods(self.cluster.run.path()).unwrap() {
            if !self.pods.contains_key(uid.0.trim_start_matches("uid-")) {
                wrong.push(format!("directory of no pod: {uid}"));
            }
        }
    }

    /// Waits until nothing is wrong.
    async fn until_right(&self, ready: &BTreeSet<&str>, when: &str) {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let wrong = self.wrong(ready);
            if wrong.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "seed {}, {when}:\n{}", self.seed, wrong.join("\n"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn uid_of_volume(name: &str) -> String {
    format!("{:08x}-0000", name.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))))
}

/// Does something to a container that may be gone by then.
fn harm(args: &[&str]) {
    let done = docker_command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(done.is_ok(), "the docker command");
}

/// `BRAMBLE_STEPS` steps (100 when not given; 1,000 for a release) from `BRAMBLE_SEED` (chance when not given; always printed).
#[tokio::test(flavor = "multi_thread")]
async fn after_random_trouble_nothing_is_left_and_nothing_is_missing() {
    if skipped() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("BRAMBLE_SEED").unwrap_or_else(|| Rng::from_os("seed").bits() % 1_000_000);
    let steps = number("BRAMBLE_STEPS").unwrap_or(100);
    eprintln!("BRAMBLE_SEED={seed} BRAMBLE_STEPS={steps}");
    let plan = plan(seed, steps);
    let mut world = World::new(seed);
    let proxy = Proxy::start(&socket());
    let mut agent = Agent::start_on(hasty(&world.cluster, &proxy));
    let begun = Instant::now();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (at, (step, pause)) in plan.iter().enumerate() {
        // As the master does: a pod whose end was reported leaves the share.
        world.pods.retain(|name, pod| {
            pod["metadata"]["deletionTimestamp"].is_null() || !agent.report(name).is_some_and(|report| report.gone)
        });
        eprintln!("{:7.1} s {at}: {step:?}", begun.elapsed().as_secs_f64());
        let kind: String = format!("{step:?}").chars().take_while(char::is_ascii_alphabetic).collect();
        *counts.entry(kind).or_default() += 1;
        match step {
            Step::Create(name) => drop(world.pods.insert(name.clone(), world.shape(name))),
            Step::Delete(name) => {
                if let Some(pod) = world.pods.get_mut(name) {
                    *pod = deleted(pod.take());
                }
            }
            Step::Forget(name) => drop(world.pods.remove(name)),
            Step::Edit(name, edit) => world.edit(name, edit),
            Step::EditMap(map) => world.maps[*map] = at as u64,
            Step::Kill(pick) | Step::Remove(pick) => {
                let found = containers(docker_command, &world.cluster.uid, true);
                world.seen.note(&found);
                if let Some((id, _)) = found.get(usize::try_from(pick % found.len().max(1) as u64).unwrap()) {
                    let words: &[&str] = if matches!(step, Step::Kill(_)) { &["kill"] } else { &["rm", "-f"] };
                    harm(&[words, &[id.as_str()]].concat());
                }
            }
            Step::Crash => {
                agent.kill().await;
                agent = Agent::start_on(hasty(&world.cluster, &proxy));
            }
            Step::Docker(mood, for_so_long) => {
                proxy.set(*mood);
                tokio::time::sleep(Duration::from_millis(*for_so_long)).await;
                proxy.set(Mood::Pass);
            }
        }
        agent.want(world.share()).await;
        tokio::time::sleep(Duration::from_millis(*pause)).await;
    }
    let mut told = String::new();
    for (kind, count) in counts {
        write!(told, "{count} {kind}, ").unwrap();
    }
    eprintln!("{told}in {:.0} s", begun.elapsed().as_secs_f64());

    // Those that are told to end may take their time; then all that is there is what is wanted.
    for name in world.pods.keys().cloned().collect::<Vec<_>>() {
        if !world.pods[&name]["metadata"]["deletionTimestamp"].is_null() {
            agent.until_gone(&name).await;
            world.pods.remove(&name);
        }
    }
    agent.want(world.share()).await;
    let mut ready = BTreeSet::new();
    for (name, pod) in &world.pods {
        if pod["spec"]["containers"][0]["command"][2].as_str().unwrap().contains("exit 1") {
            agent.until(name, "crashing", |status| status["containerStatuses"][0]["restartCount"].as_u64() > Some(0)).await;
        } else {
            agent.until_ready(name).await;
            ready.insert(name.as_str());
        }
    }
    world.until_right(&ready, "with its pods").await;

    world.pods.clear();
    agent.want(world.share()).await;
    world.until_right(&BTreeSet::new(), "without pods").await;
    // Not the agent's own, which was made not to wait for an engine.
    world.cluster.runtime().teardown().await.unwrap();
    let left: Vec<String> =
        world.cluster.left().into_iter().filter(|line| !is_held_by_docker_alone(docker_command, line)).collect();
    assert_eq!(left, Vec::<String>::new(), "seed {seed}");
    agent.kill().await;
    eprintln!("nothing left, nothing missing; {} containers were made", world.seen.count());
}
