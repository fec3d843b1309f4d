//! liveness, readiness and startup probes, on real Docker.

use std::time::Duration;

use bramble::agent::runtime::{Executed, OUTPUT_LIMIT, Runtime};

use crate::support::{Agent, Cluster, deleted, docker, pod, share, skipped};

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

/// The runtime's id of a pod's only container.
fn id(status: &serde_json::Value) -> String {
    status["containerStatuses"][0]["containerID"].as_str().unwrap().strip_prefix("docker://").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_container_tells_its_code_and_its_words_and_ends_at_its_limit() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let asked = pod("asked", &[("app", "sleep 1000")]);
    agent.want(share(std::slice::from_ref(&asked))).await;
    let id = id(&agent.until_ready("asked").await);
    let second = Duration::from_secs(1);
    let exec = |command: &[&str], limit: Duration| {
        let (runtime, id, command) = (agent.runtime.clone(), id.clone(), words(command));
        async move { runtime.exec(&id, &command, limit).await }
    };

    let said = exec(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], 20 * second).await.unwrap();
    assert_eq!(said.exit_code, Some(3));
    assert!(said.output.contains("out\n") && said.output.contains("err\n"), "{said:?}");

    let flood = exec(&["/bin/busybox", "dd", "if=/dev/zero", "bs=1024", "count=200"], 20 * second).await.unwrap();
    assert_eq!((flood.exit_code, flood.output.len()), (Some(0), OUTPUT_LIMIT));

    let missing = exec(&["/no/such"], 20 * second).await.unwrap();
    assert!(matches!(missing.exit_code, Some(126 | 127)), "{missing:?}");
    assert!(missing.output.contains("/no/such"), "{missing:?}");

    let begun = tokio::time::Instant::now();
    let late = exec(&["/bin/sh", "-c", "echo before; sleep 987; echo after"], 2 * second).await.unwrap();
    assert_eq!(late, Executed { exit_code: None, output: "before\n".to_owned() });
    assert!(begun.elapsed() < 15 * second, "{:?}", begun.elapsed());
    // Neither it nor its child is left.
    let mut left = String::new();
    for _ in 0..100 {
        left = docker(&["top", &id, "-eo", "pid,args"]);
        if !left.contains("sleep 987") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!left.contains("sleep 987") && left.contains("sleep 1000"), "{left}");

    agent.runtime.exec("no-such-container", &words(&["true"]), second).await.unwrap_err();
    agent.want(share(&[deleted(asked)])).await;
    agent.until_gone("asked").await;
}
