//! Last words that are no ordinary file, and those that never end.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::support::{Agent, Cluster, docker, pod, share, skipped};

fn end(status: &Value, name: &str) -> Value {
    let mut all = status["containerStatuses"].as_array().unwrap().iter();
    let container = all.find(|container| container["name"] == name).unwrap();
    container["state"]["terminated"].clone()
}

fn over(status: &Value) -> bool {
    status["phase"] == "Failed" || status["phase"] == "Succeeded"
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_places_for_last_words_harm_nobody() {
    if skipped() {
        return;
    }
    let (cluster, host) = (Cluster::new(), tempfile::tempdir().unwrap());
    std::fs::write(host.path().join("secret"), "of the host").unwrap();
    std::os::unix::fs::symlink(host.path().join("secret"), host.path().join("link")).unwrap();
    std::fs::create_dir(host.path().join("folder")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(host.path().join("pipe")).status().unwrap().success());
    let agent = Agent::start(&cluster);
    let mut odd = pod(
        "odd",
        &[
            // It tries to put something else in the file's place.
            (
                "exchanges",
                "rm -f /dev/termination-log; ln -sf /etc/passwd /dev/termination-log; echo -n kept > /dev/termination-log; exit 1",
            ),
            ("folder", "exit 1"),
            ("in-folder", "echo -n in a volume > /host/folder/new; exit 1"),
            ("own-pipe", "exit 1"),
            ("binary", "printf 'a\\377b' > /dev/termination-log; exit 1"),
        ],
    );
    odd["spec"]["restartPolicy"] = json!("Never");
    odd["spec"]["volumes"] = json!([{"name": "host", "hostPath": {"path": host.path()}}, {"name": "pipe", "hostPath": {"path": host.path().join("pipe")}}]);
    for (at, path) in [(1, "/tmp"), (2, "/host/folder/new"), (3, "/words")] {
        odd["spec"]["containers"][at]["terminationMessagePath"] = json!(path);
    }
    odd["spec"]["containers"][2]["volumeMounts"] = json!([{"name": "host", "mountPath": "/host"}]);
    odd["spec"]["containers"][3]["volumeMounts"] = json!([{"name": "pipe", "mountPath": "/words"}]);
    agent.want(share(&[odd])).await;
    let status = agent.until("odd", "over", over).await;
    assert_eq!(end(&status, "exchanges")["message"], "kept");
    let folder = end(&status, "folder");
    assert_eq!(
        (&folder["reason"], folder["message"].as_str().is_some_and(|words| words.len() <= 12 * 1024 / 5)),
        (&json!("StartError"), true),
        "{folder}"
    );
    assert_eq!(end(&status, "in-folder")["message"], "in a volume");
    assert_eq!(end(&status, "own-pipe")["message"], Value::Null, "what the pod mounts there is its own, and not read");
    assert_eq!(end(&status, "binary")["message"], "a\u{fffd}b");
    assert_eq!(std::fs::read_to_string(host.path().join("secret")).unwrap(), "of the host");
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_writer_of_last_words_is_cut_short_again_and_again() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let script = |redirect: &str| format!("x=0123456789abcdef; x=$x$x$x$x; x=$x$x$x$x; {redirect}");
    let mut web = pod(
        "web",
        &[
            ("appends", &script("while :; do echo $x >> /dev/termination-log; done")),
            // One descriptor with a place of its own.
            ("holds", &script("exec > /dev/termination-log; while :; do echo $x; done")),
        ],
    );
    web["spec"]["restartPolicy"] = json!("Never");
    agent.want(share(&[web])).await;
    let status = agent.until_ready("web").await;
    let run = cluster.run.path().to_owned();
    let words = |name: &str| {
        let folder = bramble::agent::pods::dir::container(&run, &"uid-web".into(), name, 0);
        std::fs::metadata(folder.join("termination-log")).unwrap()
    };
    let (mut cut, ids) = (0, [0, 1].map(|at| crate::support::container_id(&status, at)));
    for _ in 0..10 {
        // What has been written by then is far more than may stay.
        agent
            .until("web", "much is written", |_| ["appends", "holds"].iter().all(|name| words(name).blocks() * 512 > 128 << 10))
            .await;
        // Held still, so that what is measured is the cut and not the writer.
        docker(&["pause", &ids[0], &ids[1]]);
        let before = words("holds").blocks() * 512;
        cut += bramble::agent::last_words::disk::bound(&run, |_| {}).unwrap();
        let after = words("holds").blocks() * 512;
        assert!(after < before, "{before} {after}");
        docker(&["unpause", &ids[0], &ids[1]]);
    }
    assert_eq!(cut, 20);
    for id in &ids {
        docker(&["kill", id]);
    }
    let status = agent.until("web", "over", over).await;
    for name in ["appends", "holds"] {
        let end = end(&status, name);
        let message = end["message"].as_str().unwrap_or_else(|| panic!("{end}"));
        assert!(message.len() <= 4096 && message.contains("0123456789abcdef"), "{}", message.len());
    }
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_writer_of_last_words_is_cut_while_it_writes() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let run = cluster.run.path().to_owned();
    let stop = tokio_util::sync::CancellationToken::new();
    let watch = tokio::spawn(bramble::agent::last_words::run::watch(run.clone(), stop.clone()));
    let agent = Agent::start(&cluster);
    let script = "x=0123456789abcdef; x=$x$x$x$x; x=$x$x$x$x; while :; do echo $x >> /dev/termination-log; done";
    let mut web = pod("web", &[("appends", script)]);
    web["spec"]["restartPolicy"] = json!("Never");
    agent.want(share(&[web])).await;
    let status = agent.until_ready("web").await;
    let path = bramble::agent::pods::dir::container(&run, &"uid-web".into(), "appends", 0).join("termination-log");
    // A file that is only appended to grows shorter by a cut and by nothing else. The look every 10 s would come once at most.
    let (from, mut cuts, mut before, mut most) = (std::time::Instant::now(), 0, 0, 0);
    while cuts < 5 && from.elapsed() < std::time::Duration::from_secs(9) {
        let length = std::fs::metadata(&path).unwrap().len();
        cuts += usize::from(length < before);
        (before, most) = (length, most.max(length));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    println!("{cuts} cuts within {:.1} s, {} KiB at most", from.elapsed().as_secs_f64(), most >> 10);
    assert!(cuts >= 5, "{cuts} cuts within {:?}, {most} bytes at most", from.elapsed());
    docker(&["kill", &crate::support::container_id(&status, 0)]);
    let status = agent.until("web", "over", over).await;
    let end = end(&status, "appends");
    assert!(end["message"].as_str().is_some_and(|words| words.contains("0123456789abcdef")), "{end}");
    stop.cancel();
    watch.await.unwrap();
    agent.kill().await;
}
