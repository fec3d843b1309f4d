//! What pods use, eviction, logs that are capped, on real Docker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bramble::agent::health::judge::{Pressures, Thresholds};
use bramble::agent::health::run::{Parts, guard};
use bramble::agent::runtime::Runtime;
use bramble::agent::stats::run::Answers;
use bramble::clock::SystemClock;
use bramble::link::call::{LogRequest, Question};
use bramble::link::stats::NodeStats;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::Kind;
use crate::support::{Agent, Cluster, docker, pod, share, skipped};

const BUSY: &str = "trap 'exit 0' TERM; while :; do :; done";
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

#[tokio::test]
async fn a_busy_container_uses_more_than_an_idle_one_and_nobody_else_is_counted() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    agent.want(share(&[pod("work", &[("busy", BUSY), ("idle", IDLE)])])).await;
    agent.until_ready("work").await;
    let answers = Answers::new(Arc::clone(&agent.runtime) as Arc<dyn Runtime>, SystemClock::start());
    for look in ["two looks in one", "by the look before"] {
        let begun = Instant::now();
        let stats: NodeStats = serde_json::from_value(answers.answer(&Question::Stats).await.unwrap()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{look} took {:?}", begun.elapsed());
        let [work] = stats.pods.as_slice() else { panic!("{look}: {stats:?}") };
        let [busy, idle] = work.containers.as_slice() else { panic!("{look}: {stats:?}") };
        assert_eq!((work.name.as_str(), busy.name.as_str(), idle.name.as_str()), ("work", "busy", "idle"));
        assert!(busy.cpu_nanocores > 100_000_000 && busy.cpu_nanocores > 5 * idle.cpu_nanocores, "{look}: {stats:?}");
        assert!((1..64 << 20).contains(&busy.memory_bytes), "{look}: {stats:?}");
        assert!(stats.cpu_nanocores >= busy.cpu_nanocores / 2 && stats.memory_bytes > busy.memory_bytes, "{look}: {stats:?}");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

/// A guard over this agent's pods; what it found, and its end.
fn guarded(
    agent: &Agent,
    pods: &[Value],
    thresholds: Thresholds,
) -> (watch::Receiver<Pressures>, CancellationToken, tokio::task::JoinHandle<()>) {
    let (pressures, found) = watch::channel(Pressures::default());
    let (_, shares) = watch::channel(Some(("store".to_owned(), Arc::new(share(pods)))));
    let stop = CancellationToken::new();
    let parts = Parts {
        runtime: Arc::clone(&agent.runtime) as Arc<dyn Runtime>,
        clock: SystemClock::start(),
        data_dir: "/".into(),
        thresholds,
        shares,
        inputs: agent.inputs(),
        pressures,
        images: None,
    };
    (found, stop.clone(), tokio::spawn(guard(parts, stop)))
}

fn never() -> Thresholds {
    Thresholds {
        memory_bytes: Some(0),
        nodefs_percent: Some(0),
        inodes_percent: 0,
        image_inodes_percent: 0,
        imagefs_percent: Some(0),
        pids_percent: 0,
        transition: Duration::from_secs(300),
    }
}

fn asking(mut pod: Value, priority: i64, resources: Value) -> Value {
    pod["spec"]["priority"] = json!(priority);
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

#[tokio::test]
async fn with_too_little_memory_pods_go_one_by_one_the_least_entitled_first_and_critical_ones_never() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let entitled = json!({"requests": {"memory": "512Mi"}});
    let pods = [
        asking(pod("best-effort", &[("c", IDLE)]), 0, json!({})),
        asking(pod("important", &[("c", IDLE)]), 1000, json!({})),
        asking(pod("burstable", &[("c", IDLE)]), 0, entitled),
        asking(pod("system", &[("c", IDLE)]), 2_000_001_000, json!({})),
    ];
    agent.want(share(&pods)).await;
    for name in ["best-effort", "important", "burstable", "system"] {
        agent.until_ready(name).await;
    }
    // More than any machine has.
    let (mut found, stop, task) = guarded(&agent, &pods, Thresholds { memory_bytes: Some(1 << 50), ..never() });
    let failed = |status: &Value| status["phase"] == "Failed";
    let mut went = Vec::new();
    for name in ["best-effort", "important", "burstable"] {
        let status = agent.until(name, "evicted", failed).await;
        went.push(Instant::now());
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!(status["reason"], "Evicted", "{status:#}");
        assert!(
            message.starts_with("The node was low on resource: memory. Threshold quantity: 1024Ti, available: "),
            "{message}"
        );
        assert_eq!(message.contains("Container c was using "), name != "burstable", "{message}");
        // The next one still runs when this one goes.
        assert!(!failed(&agent.status("system")));
    }
    assert!(went.windows(2).all(|pair| pair[1] - pair[0] > Duration::from_millis(500)), "one at a time");
    assert_eq!(*found.borrow_and_update(), Pressures { memory: true, ..Pressures::default() });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(crate::support::is_ready(&agent.status("system")), "{:#}", agent.status("system"));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_writes_more_than_it_may_is_evicted() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let limit = json!({"limits": {"ephemeral-storage": "4Mi"}});
    let writes = "i=0; while [ $i -lt 8 ]; do cat /bin/busybox > /tmp/f$i; i=$((i+1)); done; while :; do sleep 0.2; done";
    let pods = [asking(pod("writes", &[("c", writes)]), 0, limit.clone()), asking(pod("modest", &[("c", IDLE)]), 0, limit)];
    agent.want(share(&pods)).await;
    agent.until_ready("writes").await;
    agent.until_ready("modest").await;
    let (_found, stop, task) = guarded(&agent, &pods, never());
    let status = agent.until("writes", "evicted", |status| status["phase"] == "Failed").await;
    assert_eq!(status["message"], "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ", "{status:#}");
    assert!(crate::support::is_ready(&agent.status("modest")));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn an_endless_writers_log_stays_bounded_and_readable() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    agent
        .want(share(&[pod(
            "talks",
            &[("c", "i=0; while :; do i=$((i+1)); echo \"line $i of far too many words to keep\"; done")],
        )]))
        .await;
    agent.until_ready("talks").await;
    let filter = format!("label=bramble/cluster={}", cluster.uid);
    let id = docker(&["ps", "-q", "--no-trunc", "--filter", &filter, "--filter", "label=bramble/container=c"]);
    let path = docker(&["inspect", "-f", "{{.LogPath}}", &id]);
    let newest = std::path::Path::new(&path);
    let rotated = newest.with_file_name(format!("{}.1", newest.file_name().unwrap().to_str().unwrap()));
    let files = Kind::chosen().log_files();
    let mut most = 0;
    let begun = Instant::now();
    // Until it has been turned over at least twice.
    let mut turns = std::collections::BTreeSet::new();
    while turns.len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it writes too little: {turns:?}");
        most = most.max(bramble::agent::stats::sysinfo::log_bytes(newest));
        // Of one file that is begun anew, the file itself is another one each time.
        if let Ok(metadata) = std::fs::metadata(if files == 2 { rotated.as_path() } else { newest }) {
            turns.insert(std::os::unix::fs::MetadataExt::ino(&metadata));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((500_000 * files..1_250_000 * files).contains(&most), "1 MB {files} times, and a line: {most}");
    let request = LogRequest { pod_uid: "uid-talks".into(), container: "c".into(), tail_lines: Some(3), ..LogRequest::default() };
    let mut chunks = agent.runtime.logs(request);
    let mut text = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(String::from_utf8_lossy(&text).matches(" of far too many words to keep\n").count(), 3);
}

/// A small file system in memory; gone with the test.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let place = tempfile::tempdir().unwrap();
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(place.path()).status();
        assert!(mount.unwrap().success(), "mounting a tmpfs needs root, as these tests do");
        Self(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_the_kept_share_as_it_was_until_there_is_room() {
    use bramble::agent::disk::{load, save};
    if skipped() {
        return;
    }
    let small = Small::mount();
    let (directory, filler) = (small.0.path(), small.0.path().join("filler"));
    let kept = || load(directory).unwrap().map(|kept| kept.share.pods.len());
    save(directory, "s", &share(&[pod("a", &[("c", IDLE)])])).unwrap();
    assert!(std::fs::write(&filler, vec![0u8; 1 << 20]).is_err(), "filled to the brim");
    let more: Vec<Value> = (0..50).map(|number| pod(&format!("p{number}"), &[("c", IDLE)])).collect();
    let refused = save(directory, "s", &share(&more)).unwrap_err();
    assert!(format!("{}", bramble::error::Chain(&refused)).contains("No space left"), "{refused}");
    assert_eq!(kept(), Some(1), "what was kept before stays");
    std::fs::remove_file(&filler).unwrap();
    save(directory, "s", &share(&more)).unwrap();
    assert_eq!(kept(), Some(50));
}
