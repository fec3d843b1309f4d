//! A root file system that is only read, as on a Pi whose card is to last: the agent writes in its two folders and nowhere else.
//!
//! Needs: root, for a mount namespace of the agent's own; Docker for the second test.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::home::{Daemon, Home, SOON};
use super::support::{BUSYBOX, Cluster, busybox_image, deployment, signal, skipped, wait_until};

/// Pods in Docker, on a machine that builds something else at the same time.
const LONG: Duration = Duration::from_secs(90);

/// A namespace in which everything is only read but what the kernel makes up (proc, sys, dev) and these folders.
///
/// Of root's rights it has those that its unit leaves it.
fn read_only(but: &[&Path]) -> Command {
    let mut script = String::from("set -e\nmount --make-rprivate /\n");
    for folder in but {
        std::fs::create_dir_all(folder).unwrap();
        script += &format!("mount --bind {0} {0}\n", folder.display());
    }
    // From the innermost outwards; what a folder of ours is mounted on stays.
    script += "findmnt -rno TARGET,FSTYPE | sort -r | while read -r target kind; do\n  case $kind in\n    ext4|xfs|btrfs|overlay|tmpfs|ramfs|f2fs|9p|virtiofs|fuse*|vfat) ;;\n    *) continue ;;\n  esac\n";
    script += &format!(
        "  case $target in {}) continue ;; esac\n",
        but.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join("|")
    );
    script += "  mount -o remount,bind,ro \"$target\" 2>/dev/null || true\ndone\n";
    // It would have been noticed.
    script += "for place in / /etc /tmp /var/lib /root /usr/bin; do if touch $place/bramble-was-here 2>/dev/null; then echo \"$place can be written\"; exit 1; fi; done\n";
    script += &format!("exec setpriv --no-new-privs --bounding-set=-all,{} -- \"$@\"\n", rights());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command
}

/// The unit's CapabilityBoundingSet=, as setpriv takes it.
fn rights() -> String {
    let unit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/bramble-agent.service")).unwrap();
    let lines = unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = lines.flat_map(str::split_whitespace).map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()));
    names.collect::<Vec<_>>().join(",")
}

/// What an agent says that wanted to write where it may not.
#[track_caller]
fn assert_content(agent: &Daemon) {
    let log = agent.log();
    for words in [
        "Read-only file system",
        "os error 30",
        "Operation not permitted",
        "Permission denied",
        "cannot be kept",
        "ERROR",
        "can be written",
    ] {
        assert!(!log.contains(words), "{words}: {log}");
    }
}

fn wait_running(home: &Home, name: &str) {
    wait_until(&format!("{name} to run"), SOON, || {
        let pod = home.get(&["pod", name]);
        if pod["status"]["phase"] == "Running" { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}

#[test]
fn a_node_on_a_root_that_is_only_read_joins_runs_and_starts_again_without_its_master() {
    let mut home = Home::new();
    let token = home.token(&[]);
    let (data, memory) = (home.card("a"), home.dir.path().join("memory"));
    let more = ["--token", &token];
    let start = |home: &Home| {
        let mut command = read_only(&[&data, &memory]);
        command.env("BRAMBLE_RUN_DIR", &memory);
        home.agent_by(command, "a", "shed", "ro", &more)
    };
    let mut agent = start(&home);
    home.wait_ready(&["shed"]);
    home.kubectl(&["run", "web", "--image", "web"]).good();
    wait_running(&home, "web");
    assert_content(&agent);
    agent.stop();
    // It kept its share and who it is: without its master it runs the same.
    home.master.stop();
    let agent = start(&home);
    agent.says("starts with the share that was kept");
    assert_content(&agent);
    let kept: Vec<String> =
        std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for file in ["share.json", "join.json", "pki", "agent.lock"] {
        assert!(kept.iter().any(|name| name == file), "{kept:?}");
    }
}

#[test]
fn pods_in_docker_with_their_files_run_there_and_outlive_the_agent() {
    if skipped("docker") {
        return;
    }
    busybox_image();
    let cluster = Cluster::started(&["--nodes", "1", "--runtime", "docker"]);
    let data = cluster.dir.join("nodes/bramble-1");
    signal(cluster.agent_pid("bramble-1"), "TERM");
    wait_until("the agent that may write everywhere to end", SOON, || {
        let pid = cluster.status()["nodes"][0]["pid"].clone();
        if pid.is_null() { Ok(()) } else { Err(pid.to_string()) }
    });
    // The same agent, as `bramble start` began it.
    let start = || {
        // As on a Pi: /run is in memory, and Docker's socket is there.
        let mut command = read_only(&[&data, Path::new("/run")]);
        command.arg(&cluster.program).args(["agent", "--node", "bramble-1", "--data-dir"]).arg(&data);
        command.arg("--config").arg(data.join("agent.toml"));
        Daemon::spawn(cluster.dir.join("read-only.log"), command)
    };
    let mut agent = start();
    cluster.kubectl(&["create", "configmap", "words", "--from-literal", "greeting=hello"]).expect();
    let more = "        command: [sh, -c, 'cat /v/greeting; echo; sleep 1000']\n        volumeMounts: [{name: v, mountPath: /v}]\n      volumes: [{name: v, configMap: {name: words}}]\n";
    cluster.apply(&deployment("web", 1, BUSYBOX, more));
    let before = cluster.wait_ready("app=web", 1, LONG).remove(0);
    let said = wait_until("its words", SOON, || {
        let said = cluster.kubectl(&["logs", "deployment/web"]);
        if said.out.contains("hello") { Ok(said.out) } else { Err(format!("{}{}", said.out, said.err)) }
    });
    assert_eq!(said, "hello\n");
    assert_content(&agent);
    // Its death is a power cut's for the agent, and nothing for the pod.
    agent.kill();
    let mut agent = start();
    cluster.kubectl(&["create", "configmap", "more", "--from-literal", "greeting=again"]).expect();
    cluster.apply(&deployment("late", 1, BUSYBOX, &more.replace("words", "more")));
    cluster.wait_ready("app=late", 1, LONG);
    let after = cluster.wait_ready("app=web", 1, LONG).remove(0);
    let of = |pod: &Value| pod["status"]["containerStatuses"].clone();
    assert_eq!(of(&before), of(&after), "the same container, never started again");
    cluster.kubectl(&["delete", "deployment", "web", "late"]).expect();
    cluster.wait_ready("app", 0, LONG);
    assert_content(&agent);
    agent.stop();
    assert_content(&agent);
}
