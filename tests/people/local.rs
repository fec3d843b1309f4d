//! The commands about the cluster on this machine, run as people run them: twice, in a wrong order, where nothing is.

use std::time::{Duration, Instant};

use super::support::{Cluster, lives, signal, wait_until};
use super::terminal::{Heard, bramble};

#[test]
fn where_no_cluster_is_each_command_says_so_and_makes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let none = home.path().join("none");
    let run = |line: &[&str]| {
        let at = none.display().to_string();
        let (command, rest) = line.split_first().unwrap();
        Heard::from(&mut bramble(home.path(), [*command, "--data-dir", &at].iter().chain(rest)))
    };
    run(&["stop"]).says(0, &["there is no cluster in", "nothing to stop"]);
    run(&["delete"]).says(0, &["there is no cluster in", "nothing to delete"]);
    run(&["status"]).fails(1, "there is no cluster in", "bramble start --data-dir");
    run(&["kubectl", "get", "pods"]).fails(1, "there is no cluster in", "bramble start --data-dir");
    assert!(!none.exists() && !home.path().join("kubeconfig").exists());
    let nowhere = Heard::from(bramble(home.path(), ["status"]).env_remove("HOME"));
    nowhere.fails(2, "HOME is not set", "--data-dir DIR");
    let leds = Heard::from(&mut bramble(home.path(), ["leds", "show", "--data-dir", &none.display().to_string()]));
    leds.fails(1, "there is no cluster in", "bramble start");
    // A folder with something else in it is left alone.
    let thesis = home.path().join("work");
    std::fs::create_dir(&thesis).unwrap();
    std::fs::write(thesis.join("thesis.txt"), "years").unwrap();
    let start = ["start", "--runtime", "simulated", "--data-dir", &thesis.display().to_string()].map(str::to_owned);
    Heard::from(&mut bramble(home.path(), start)).fails(1, "holds something that is no cluster", "--data-dir DIR");
    assert_eq!(std::fs::read_dir(&thesis).unwrap().count(), 1);
}

#[test]
fn start_is_quick_and_harmless_twice_and_says_whom_it_started() {
    let cluster = Cluster::new();
    let from = Instant::now();
    let first = cluster.start(&["--runtime", "simulated"]).expect();
    println!("start of 1 simulated node: {:.2} s", from.elapsed().as_secs_f64());
    assert!(first.starts_with("a new cluster with 1 node, SIMULATED"), "{first}");
    assert!(first.trim_end().ends_with("SIMULATED, nothing really runs"), "{first}");
    let (pids, from) = (cluster.pids(), Instant::now());

    let again = cluster.start(&[]).expect();
    println!("start of one that stands:  {:.2} s", from.elapsed().as_secs_f64());
    assert!(again.contains("master runs already") && !again.contains("started"), "{again}");
    assert_eq!(cluster.pids(), pids, "nobody was started or ended");

    cluster.start(&["--nodes", "3"]).expect();
    let pid = cluster.agent_pid("bramble-2");
    signal(pid, "KILL");
    wait_until("its process is gone", Duration::from_secs(5), || if lives(pid) { Err(pid.to_string()) } else { Ok(()) });
    let status = cluster.bramble(["status"]).out;
    assert!(status.contains("bramble-2  no     not running") || status.contains("bramble-2  yes    not running"), "{status}");
    let third = cluster.start(&[]).expect();
    assert!(third.contains("3 nodes ready; started bramble-2 "), "{third}");
    assert!(!third.contains("bramble-1") && !third.contains("bramble-3"), "only it: {third}");

    // What was chosen once is not changed in silence.
    let other = cluster.start(&["--runtime", "docker"]);
    assert!(other.code == 2 && other.err.contains("the runtime is chosen once"), "{}", other.err);
    let other = cluster.start(&["--api-port", "1"]);
    assert!(other.code == 2 && other.err.contains("ports are chosen once"), "{}", other.err);
    let fewer = cluster.start(&["--nodes", "1"]).expect();
    assert!(fewer.contains("start takes none away"), "{fewer}");

    let from = Instant::now();
    let stopped = cluster.bramble(["stop"]).expect();
    println!("stop of 3 nodes:           {:.2} s", from.elapsed().as_secs_f64());
    assert!(stopped.contains("stopped 4 processes") && stopped.contains("the data stays in"), "{stopped}");
    assert!(cluster.bramble(["stop"]).expect().contains("no process of the cluster was running"));
    let status = cluster.bramble(["status"]).out;
    assert!(status.starts_with("cluster     stopped"), "{status}");
    let kubectl = Heard::from(&mut cluster.kubectl_command(&cluster.kubectl, &["get", "pods"]));
    kubectl.says(1, &["refused"]);
    let from = Instant::now();
    cluster.start(&[]).expect();
    println!("start of 3 that stopped:   {:.2} s", from.elapsed().as_secs_f64());
    // A bound that catches a hang, no measure.
    assert!(from.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_with_the_pid_of_the_first() {
    let cluster = Cluster::started(&["--runtime", "simulated"]);
    let home = tempfile::tempdir().unwrap();
    let file = |path: &str| cluster.dir.join(path).display().to_string();
    let (master, agent) = (cluster.master_pid(), cluster.agent_pid("bramble-1"));
    Heard::from(&mut bramble(home.path(), ["master", "--config", &file("master.toml")])).fails(
        1,
        &format!("another bramble master (pid {master}) already uses"),
        &format!("kill {master}"),
    );
    Heard::from(&mut bramble(home.path(), ["agent", "--config", &file("nodes/bramble-1/agent.toml")])).fails(
        1,
        &format!("another bramble agent (pid {agent}) already uses"),
        &format!("kill {agent}"),
    );
    assert_eq!((cluster.master_pid(), cluster.agent_pid("bramble-1")), (master, agent));
}
