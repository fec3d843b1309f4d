//! Reading logs.

use bramble::agent::runtime::Runtime;
use bramble::link::call::{CallError, Chunks, LogRequest};

use crate::support::{Agent, Cluster, docker, pod, share, skipped};

async fn all(mut chunks: Chunks) -> Result<String, CallError> {
    let mut text = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        text.extend_from_slice(&chunk?);
    }
    Ok(String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_have_a_tail_a_limit_an_end_and_a_past() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let web = pod("talk", &[("app", "for i in 1 2 3 4 5; do echo line-$i; done; sleep 1; echo late; exec sleep 1000")]);
    agent.want(share(&[web])).await;
    let status = agent.until_ready("talk").await;
    let request = LogRequest { pod_uid: "uid-talk".into(), container: "app".into(), ..LogRequest::default() };
    let logs = |request: LogRequest| agent.runtime.logs(request);

    let mut follow = logs(LogRequest { follow: true, ..request.clone() });
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("late\n") {
        seen.extend_from_slice(&follow.recv().await.expect("it goes on while the container runs").unwrap());
    }
    assert_eq!(String::from_utf8(seen).unwrap(), "line-1\nline-2\nline-3\nline-4\nline-5\nlate\n");

    assert_eq!(all(logs(LogRequest { tail_lines: Some(2), ..request.clone() })).await.unwrap(), "line-5\nlate\n");
    assert_eq!(all(logs(LogRequest { limit_bytes: Some(9), ..request.clone() })).await.unwrap(), "line-1\nli");
    assert_eq!(
        all(logs(LogRequest { since_seconds: Some(3600), tail_lines: Some(1), ..request.clone() })).await.unwrap(),
        "late\n"
    );
    let stamped = all(logs(LogRequest { timestamps: true, tail_lines: Some(1), ..request.clone() })).await.unwrap();
    assert!(stamped.starts_with("20") && stamped.ends_with("Z late\n"), "{stamped}");
    let previous = LogRequest { previous: true, ..request.clone() };
    assert!(matches!(all(logs(previous.clone())).await, Err(CallError::NotFound(_))));

    let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    docker(&["kill", &id]);
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), all(follow))
        .await
        .expect("a followed log ends with its container");
    assert_eq!(end.unwrap(), "");
    agent.until("talk", "restarted", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    assert!(all(logs(previous)).await.unwrap().ends_with("late\n"));
}
