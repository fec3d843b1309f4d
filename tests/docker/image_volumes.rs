//! Volumes that are an image's files, on engines that mount no images themselves.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bramble::agent::pods::dir;
use bramble::agent::runtime::Runtime as _;
use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::tar::Tar;
use bramble::agent::volumes::disk::unpack::{UnpackError, unpack};
use bramble::api::Uid;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::proxy::{Mood, Proxy};
use crate::registry::{PASSWORD, Registry, Wishes, waiting};
use crate::support::{Agent, Cluster, deleted, docker, docker_command, pod, share, shell, skipped, socket};

/// Whether the engine mounts images by itself: then none of this is needed, nor done.
fn mounts_images() -> bool {
    let version = docker(&["version", "--format", "{{.Server.APIVersion}}"]);
    let (major, minor) = version.split_once('.').unwrap();
    let mounts = (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) >= (1, 48);
    if mounts {
        eprintln!("this engine (API {version}) mounts images itself");
    }
    mounts
}

/// Images of one test, gone with it: made before the cluster, they go after its containers.
struct Images {
    names: Vec<String>,
    _engine: Engine,
}

impl Images {
    fn new() -> Self {
        Self { names: Vec::new(), _engine: Engine::start() }
    }

    /// Imports an image of these files.
    fn import(&mut self, name: &str, files: Tar) -> String {
        let mut import = docker_command()
            .args(["import", "-", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the docker command");
        import.stdin.take().unwrap().write_all(&files.finish()).unwrap();
        assert!(import.wait().unwrap().success());
        self.names.push(name.to_owned());
        name.to_owned()
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = docker_command().args(["image", "rm", "-f", name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// Files that make an image another one than all others.
fn files(own: &str) -> Tar {
    let mut tar = Tar::default();
    tar.directory("data", 0o755);
    tar.file("data/own", 0o644, own.as_bytes());
    tar.file("data/tool", 0o755, &std::fs::read("/bin/busybox").expect("busybox-static is installed"));
    tar.link("door", "/etc");
    tar
}

/// A pod that mounts an image's files in these places, each a part of it or all.
fn mounting(name: &str, image: &str, policy: &str, places: &[(&str, &str)]) -> Value {
    let mut made = pod(name, &[("app", "sleep 1000")]);
    made["spec"]["volumes"] = json!([{"name": "model", "image": {"reference": image, "pullPolicy": policy}}]);
    made["spec"]["containers"][0]["volumeMounts"] = places
        .iter()
        .map(|(path, part)| json!({"name": "model", "mountPath": path, "subPath": part, "readOnly": true}))
        .collect();
    made
}

/// What lies where images are unpacked.
fn there(cluster: &Cluster) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(cluster.settings().image_dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// What of this cluster is in the engine, but its network.
fn left(cluster: &Cluster) -> Vec<String> {
    cluster.left().into_iter().filter(|line| !line.starts_with("network")).collect()
}

/// How many containers there are that images are read from.
fn readers(cluster: &Cluster) -> usize {
    let of_cluster = format!("label=bramble/cluster={}", cluster.uid);
    docker(&["ps", "-aq", "--filter", &of_cluster, "--filter", "label=bramble/image-volume"]).lines().count()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_files_are_seen_and_cannot_be_written_or_run_and_lead_nowhere() {
    if skipped() {
        return;
    }
    let mut images = Images::new();
    if mounts_images() {
        return;
    }
    let cluster = Cluster::new();
    let image = images.import(&format!("bramble-test-files-{}:1", cluster.uid), files(&cluster.uid));
    let agent = Agent::start(&cluster);
    let web = mounting("web", &image, "IfNotPresent", &[("/all", ""), ("/part", "data"), ("/one", "data/own")]);
    let out = mounting("out", &image, "IfNotPresent", &[("/out", "door")]);
    let none = mounting("none", &image, "IfNotPresent", &[("/none", "no/such")]);
    agent.want(share(&[web.clone(), out.clone(), none.clone()])).await;
    let status = agent.until_ready("web").await;
    let say = |script: &str| shell(&status, 0, script);
    assert_eq!(say("cat /all/data/own; echo; cat /part/own; echo; cat /one"), [cluster.uid.as_str(); 3].join("\n"));
    assert_eq!(say("ls -A /all"), "data\ndoor", "what the engine puts into each container is not the image's");
    for path in ["/all/new", "/all/data/own", "/part/own", "/one"] {
        assert_eq!(say(&format!("(echo x > {path}) 2>&1 | grep -c 'Read-only' || true")), "1", "{path}");
    }
    for tool in ["/all/data/tool", "/part/tool"] {
        assert_eq!(say(&format!("{tool} true 2>&1 | grep -c 'ermission denied' || true")), "1", "{tool}");
    }
    // A link leads where it says in the container, and a part of a volume leads nowhere out of it.
    assert_eq!(say("ls -A /all/door/ | grep -c hosts"), "1");
    for (name, words) in [("out", "leads out of the volume"), ("none", "does not exist in the volume")] {
        let told = waiting(&agent, name, "CreateContainerError").await;
        assert!(told.contains(words) && told.contains("failed to prepare the volumeMount"), "{told}");
    }
    agent.want(share(&[deleted(web), deleted(out), deleted(none)])).await;
    for name in ["web", "out", "none"] {
        agent.until_gone(name).await;
    }
    until("nothing is unpacked", || there(&cluster).is_empty()).await;
    assert_eq!(left(&cluster), Vec::<String>::new());
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_share_what_was_unpacked_once_and_the_last_takes_it_away() {
    if skipped() {
        return;
    }
    let mut images = Images::new();
    if mounts_images() {
        return;
    }
    let cluster = Cluster::new();
    let image = images.import(&format!("bramble-test-shared-{}:1", cluster.uid), files(&cluster.uid));
    let agent = Agent::start(&cluster);
    let [first, second] = ["first", "second"].map(|name| mounting(name, &image, "IfNotPresent", &[("/all", "")]));
    agent.want(share(&[first.clone(), second.clone()])).await;
    agent.until_ready("first").await;
    let status = agent.until_ready("second").await;
    let unpacked = there(&cluster);
    assert_eq!(unpacked.len(), 1, "{unpacked:?}");
    let folder = unpacked.first().unwrap().clone();
    let marked = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let before = marked(&folder);
    // Another image takes the name: the pods' volumes stay what they are.
    images.names.push(docker(&["image", "inspect", "--format", "{{.Id}}", &image]));
    let other = images.import(&image, files("another one"));
    assert_eq!(other, image);
    agent.want(share(&[deleted(first), second.clone()])).await;
    agent.until_gone("first").await;
    assert_eq!(there(&cluster), unpacked, "the other one has it");
    // So it is for the agent that comes after this one.
    let said = agent.past();
    agent.kill().await;
    let agent = Agent::start(&cluster);
    agent.input(bramble::agent::node::Input::Past(said)).await;
    agent.want(share(std::slice::from_ref(&second))).await;
    agent.until_ready("second").await;
    agent.runtime.tidy().await.unwrap();
    assert_eq!((there(&cluster), marked(&folder)), (unpacked, before));
    assert_eq!(shell(&status, 0, "cat /all/data/own"), cluster.uid);
    // Its container is started anew: with the same files.
    docker(&["kill", &crate::support::container_id(&status, 0)]);
    let again = agent
        .until("second", "restarted", |status| {
            status["containerStatuses"][0]["restartCount"] == 1 && crate::support::is_ready(status)
        })
        .await;
    assert_eq!(shell(&again, 0, "cat /all/data/own"), cluster.uid);
    agent.want(share(&[deleted(second)])).await;
    agent.until_gone("second").await;
    until("nothing is unpacked", || there(&cluster).is_empty()).await;
    assert_eq!(left(&cluster), Vec::<String>::new());
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_unpacks_leaves_nothing_half() {
    if skipped() {
        return;
    }
    let mut images = Images::new();
    if mounts_images() {
        return;
    }
    let cluster = Cluster::new();
    let mut tar = files(&cluster.uid);
    tar.file("large", 0o644, &vec![1; 12 << 20]);
    let image = images.import(&format!("bramble-test-large-{}:1", cluster.uid), tar);
    let proxy = Proxy::start(&socket());
    let mut settings = cluster.settings();
    settings.socket = proxy.socket.to_string_lossy().into_owned();
    let agent = Agent::start_on(DockerRuntime::new(settings));
    let web = mounting("web", &image, "IfNotPresent", &[("/all", "")]);
    // What a node makes once, the sandbox's image above all, is not to trickle.
    let plain = pod("plain", &[("app", "sleep 1000")]);
    agent.want(share(std::slice::from_ref(&plain))).await;
    agent.until_ready("plain").await;
    proxy.set(Mood::Trickle);
    agent.want(share(&[plain.clone(), web.clone()])).await;
    let half = || there(&cluster).into_iter().find(|path| path.join("large").exists());
    until("it unpacks", || half().is_some()).await;
    let name = half().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with(".new-"), "{name}");
    agent.kill().await;
    drop(proxy);
    until("what was half is gone", || there(&cluster).is_empty()).await;
    let readers = || readers(&cluster);
    assert_eq!(readers(), 1, "nobody was there to remove it");
    // What an agent leaves that has not the time for it.
    let planted = cluster.settings().image_dir.join(format!(".new-{}-1-1", "a".repeat(64)));
    std::fs::create_dir(&planted).unwrap();
    std::fs::write(planted.join("half"), b"x").unwrap();
    let agent = Agent::start(&cluster);
    agent.want(share(&[deleted(plain), web.clone()])).await;
    let status = agent.until_ready("web").await;
    agent.until_gone("plain").await;
    assert_eq!(shell(&status, 0, "stat -c %s /all/large"), (12 << 20).to_string());
    // As the agent does at its start, and each 5 minutes.
    agent.runtime.tidy().await.unwrap();
    assert!(!planted.exists());
    assert_eq!((readers(), there(&cluster).len()), (0, 1));
    // An agent that lives would make it anew.
    let runtime = std::sync::Arc::clone(&agent.runtime);
    agent.kill().await;
    runtime.teardown().await.unwrap();
    assert_eq!((left(&cluster), there(&cluster).len()), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_ends_the_unpacking_for_it_and_another_one_gets_the_files() {
    if skipped() {
        return;
    }
    let mut images = Images::new();
    if mounts_images() {
        return;
    }
    let cluster = Cluster::new();
    // At 16 KiB each 5 ms this takes 30 s and more.
    const LARGE: usize = 96 << 20;
    let mut tar = files(&cluster.uid);
    tar.file("large", 0o644, &vec![1; LARGE]);
    let image = images.import(&format!("bramble-test-leaves-{}:1", cluster.uid), tar);
    let proxy = Proxy::start(&socket());
    let mut settings = cluster.settings();
    settings.socket = proxy.socket.to_string_lossy().into_owned();
    let run_dir = settings.run_dir.clone();
    let agent = Agent::start_on(DockerRuntime::new(settings));
    let plain = pod("plain", &[("app", "sleep 1000")]);
    agent.want(share(std::slice::from_ref(&plain))).await;
    agent.until_ready("plain").await;
    proxy.set(Mood::Trickle);
    let [first, second, waits] = ["first", "second", "waits"].map(|name| mounting(name, &image, "IfNotPresent", &[("/all", "")]));
    let unpacks = || there(&cluster).into_iter().any(|path| path.join("large").exists());
    agent.want(share(&[plain.clone(), first.clone()])).await;
    until("it unpacks", unpacks).await;
    let begun = Instant::now();
    agent.want(share(&[plain.clone(), deleted(first)])).await;
    agent.until_gone("first").await;
    let took = begun.elapsed();
    eprintln!("gone after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    until("what was half is gone", || there(&cluster).is_empty()).await;
    assert_eq!(readers(&cluster), 0);
    // One that waits for its turn goes as well, and who unpacks is not disturbed by that; then that one goes.
    agent.want(share(&[plain.clone(), second.clone()])).await;
    until("it unpacks", unpacks).await;
    let half = there(&cluster);
    let waiting = mounting("goes", &image, "IfNotPresent", &[("/all", "")]);
    agent.want(share(&[plain.clone(), second.clone(), waits.clone(), waiting.clone()])).await;
    for name in ["waits", "goes"] {
        let claim = dir::image_volume(&run_dir, &Uid::from(format!("uid-{name}").as_str()), "model");
        until("it waits for the files", || claim.exists()).await;
    }
    agent.want(share(&[plain.clone(), second.clone(), waits.clone(), deleted(waiting)])).await;
    agent.until_gone("goes").await;
    assert_eq!(there(&cluster), half, "the unpacking goes on");
    agent.want(share(&[plain.clone(), deleted(second), waits.clone()])).await;
    agent.until_gone("second").await;
    proxy.set(Mood::Pass);
    let status = agent.until_ready("waits").await;
    assert_eq!(shell(&status, 0, "stat -c %s /all/large"), LARGE.to_string());
    assert_eq!((readers(&cluster), there(&cluster).len()), (0, 1));
    for event in agent.events().iter().filter(|event| ["first", "second", "goes"].contains(&event.name.as_str())) {
        assert!(["Pulled", "Pulling"].contains(&event.reason.as_str()), "{event:#?}");
    }
    agent.want(share(&[deleted(plain), deleted(waits)])).await;
    for name in ["plain", "waits"] {
        agent.until_gone(name).await;
    }
    until("nothing is unpacked", || there(&cluster).is_empty()).await;
    assert_eq!(left(&cluster), Vec::<String>::new());
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_waited_for_and_a_private_one_takes_the_pods_secret() {
    if skipped() {
        return;
    }
    let mut images = Images::new();
    let cluster = Cluster::new();
    let mut registry = Registry::start(Wishes { password: true, ..Wishes::default() });
    registry.put("model", "1", ("amd64", ""), &[files(&cluster.uid).finish()]);
    let private = registry.image("model:1");
    let late = format!("bramble-test-late-{}:1", cluster.uid);
    let agent = Agent::start(&cluster);
    let mut with = mounting("with", &private, "Always", &[("/all", "")]);
    with["spec"]["imagePullSecrets"] = json!([{"name": "good"}]);
    let without = mounting("without", &registry.image("other:1"), "IfNotPresent", &[("/all", "")]);
    let mut all = share(&[with, without, mounting("late", &late, "Never", &[("/all", "")])]);
    all.secrets.insert("default/good".into(), registry.login(PASSWORD));
    agent.want(all).await;
    let status = agent.until_ready("with").await;
    assert_eq!(shell(&status, 0, "cat /all/data/own"), cluster.uid);
    let words = waiting(&agent, "without", "ImagePullBackOff").await;
    assert!(words.contains(&format!("registry {} wants other credentials", registry.image("").trim_end_matches('/'))), "{words}");
    let words = waiting(&agent, "late", "ErrImageNeverPull").await;
    assert_eq!(words, format!("Container image \"{late}\" is not present with pull policy of Never"));
    images.import(&late, files("late"));
    let status = agent.until_ready("late").await;
    assert_eq!(shell(&status, 0, "cat /all/data/own"), "late");
    let events = agent.events();
    let pulled = |event: &&bramble::link::message::NodeEvent| event.name == "with" && event.reason == "Pulling";
    let pulled: Vec<_> = events.iter().filter(pulled).map(|event| event.message.as_str()).collect();
    assert_eq!(pulled, [format!("Pulling image \"{private}\"")], "{events:#?}");
    agent.kill().await;
}

/// A small disk of this test, gone with it.
struct Small(tempfile::TempDir);

impl Small {
    fn mounted() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(folder.path()).status();
        assert!(mount.unwrap().success());
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_in_words_and_nothing_is_left_on_it() {
    if skipped() {
        return;
    }
    let mut images = Images::new();
    if mounts_images() {
        return;
    }
    let cluster = Cluster::new();
    let small = Small::mounted();
    let image = images.import(&format!("bramble-test-full-{}:1", cluster.uid), files(&cluster.uid));
    let mut settings = cluster.settings();
    settings.image_dir = small.0.path().join("images");
    let agent = Agent::start_on(DockerRuntime::new(settings));
    let web = mounting("web", &image, "IfNotPresent", &[("/all", "")]);
    agent.want(share(std::slice::from_ref(&web))).await;
    let words = waiting(&agent, "web", "CreateContainerError").await;
    let wanted = format!("cannot unpack image \"{image}\": the node's disk is too full for the image's files: they need");
    assert!(words.contains(&wanted) && words.contains("MiB are free"), "{words}");
    assert!(agent.events().iter().any(|event| event.reason == "Failed" && event.message.contains("too full")));
    assert_eq!(std::fs::read_dir(small.0.path().join("images")).unwrap().count(), 0);
    agent.want(share(&[deleted(web)])).await;
    agent.until_gone("web").await;
    assert_eq!(left(&cluster), Vec::<String>::new());
    agent.kill().await;
    // It fills up in the middle.
    let mut tar = Tar::default();
    tar.file("large", 0o644, &vec![1; 10 << 20]);
    let full = unpack(tar.finish().as_slice(), small.0.path(), 0, || true);
    assert!(matches!(full, Err(UnpackError::Full)), "{full:?}");
}
