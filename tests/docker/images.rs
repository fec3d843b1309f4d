//! Images that are not to be had.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::{Agent, Cluster, pod, share, skipped};

/// Debian's registry on loopback.
struct Registry {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = crate::engine::Engine::start().registry_port();
        let config = folder.path().join("config.yml");
        let data = folder.path().join("data");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
                data.display()
            ),
        )
        .unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's docker-registry is installed");
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        Self { child, port, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_told_in_the_registrys_words() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let registry = Registry::start();
    let mut missing = pod("missing", &[("app", "")]);
    missing["spec"]["containers"][0]["image"] = json!(format!("127.0.0.1:{}/no/such:1", registry.port));
    let mut never = pod("never", &[("app", "")]);
    never["spec"]["containers"][0]["image"] = json!("bramble-test-absent:1");
    never["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let mut off = pod("off", &[("app", "")]);
    // Nobody listens on the discard port.
    off["spec"]["containers"][0]["image"] = json!("127.0.0.1:9/no/such:1");
    agent.want(share(&[missing, never, off])).await;
    for (name, reason, words) in [
        ("missing", "ImagePullBackOff", "not found"),
        ("off", "ImagePullBackOff", "connection refused"),
        ("never", "ErrImageNeverPull", "pull policy of Never"),
    ] {
        let status =
            agent.until(name, reason, |status| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason).await;
        let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words) || message.contains("unknown"), "{name}: {message}");
    }
    let events = agent.events();
    assert!(events.iter().any(|event| event.reason == "Failed" && event.message.starts_with("Failed to pull image")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_image_can_have_is_told_and_nothing_is_fetched() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let named = |name: &str, image: &str| {
        let mut pod = pod(name, &[("app", "exec sleep 1000")]);
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    agent.want(share(&[named("upper", "UPPER case!!"), named("colons", "a:b:c")])).await;
    for name in ["upper", "colons"] {
        let invalid =
            |status: &serde_json::Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "InvalidImageName";
        let status = agent.until(name, "InvalidImageName", invalid).await;
        let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().to_owned();
        assert!(
            message.starts_with("Failed to apply default image tag") && message.contains("invalid reference format"),
            "{message}"
        );
    }
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let mut reasons = agent.reasons();
    reasons.sort();
    assert_eq!(reasons, ["Failed", "Failed", "InspectFailed", "InspectFailed"]);
    // The person corrects it.
    agent.want(share(&[named("upper", crate::support::BUSYBOX), named("colons", "a:b:c")])).await;
    agent.until_ready("upper").await;
    agent.kill().await;
}
