//! Configurations with faults: all of them at once, each with its place, its key and what is expected; exit 2.

use std::path::Path;

use super::terminal::{Heard, bramble};

fn check(home: &Path, daemon: &str, file: &str, flags: &[&str], variables: &[(&str, &str)]) -> Heard {
    let mut command = bramble(home, [daemon, "--check", "--config", file]);
    Heard::from(command.args(flags).envs(variables.iter().copied()))
}

#[test]
fn every_fault_of_a_file_is_told_with_file_key_and_what_is_expected() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let agent = at(
        "agent.toml",
        "node = 'Bad Name'\ncluster_uid = 7\ncolour = 'red'\n[mqtt]\nbroker = 'http://x'\nbrokr = 'y'\n[health]\ninterval_seconds = 'often'\n\
         [capacity]\ncpus = -1\n[leds]\nenabled = 'maybe'\n",
    );
    let told = check(home.path(), "agent", &agent, &[], &[]);
    told.says(
        2,
        &[
            "8 faults",
            &format!("{agent}: node: expected a DNS-1123 label"),
            "cluster_uid: expected the cluster's uid",
            "found the number 7",
            &format!("{agent}: mqtt.broker: expected a URL like \"mqtts://host:8883\""),
            "found the text \"http://x\"",
            "capacity.cpus: expected a number of cores above 0",
            "health.interval_seconds: expected a whole number of seconds",
            "leds.enabled: expected true or false, found the text \"maybe\"",
            &format!("{agent}: colour: unknown key"),
            "mqtt.brokr: unknown key; did you mean `mqtt.broker`?",
            "what to do: ",
        ],
    );
    assert_eq!(told.out, "", "nothing is good about it");

    let master = at(
        "master.toml",
        "[api]\nlisten = 'nowhere'\nport = 6443\n[node]\nlost_seconds = 1\n[mqtt]\nviewer_listen = '0.0.0.0:1883'\nbroker = 5\n[tls]\nca = 'x.pem'\n",
    );
    check(home.path(), "master", &master, &[], &[]).says(
        2,
        &[
            &format!("{master}: api.listen: expected an address with a port"),
            "api.port: unknown key",
            "node.lost_seconds: expected at least 2",
            "mqtt.viewer_listen: expected a loopback address",
            "mqtt.broker: expected a URL",
            "tls.key: expected a PEM file, since other files of [tls] are named",
        ],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_the_one_fault_that_is_told() {
    let home = tempfile::tempdir().unwrap();
    let torn = home.path().join("torn.toml");
    std::fs::write(&torn, "node = [\n").unwrap();
    let missing = home.path().join("missing.toml");
    for (file, expected) in [
        (torn.as_path(), "expected TOML: TOML parse error at line 1"),
        (missing.as_path(), "expected a file that can be read: No such file"),
        (home.path(), "expected a file that can be read: Is a directory"),
    ] {
        for daemon in ["agent", "master"] {
            let told = check(home.path(), daemon, &file.display().to_string(), &[], &[]);
            told.says(2, &["the configuration has a fault\n", &format!("{}: {expected}", file.display())]);
        }
    }
}

#[test]
fn variables_are_faulted_by_their_names_and_flags_win_over_them() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("agent.toml");
    std::fs::write(&file, "node = 'pi'\ncluster_uid = 'u'\nruntime = 'simulated'\n[mqtt]\nbroker = 'mqtts://there:1'\n").unwrap();
    let file = file.display().to_string();
    let agent = |flags: &[&str], variables: &[(&str, &str)]| check(home.path(), "agent", &file, flags, variables);
    agent(&[], &[]).says(0, &["the configuration is good"]);
    let wrong =
        [("BRAMBLE_MQTT__BROKER", "gopher://x"), ("BRAMBLE_HEALTH__INTERVAL_SECONDS", "0"), ("BRAMBLE_MQTT__BORKER", "y")];
    agent(&[], &wrong).says(
        2,
        &[
            "BRAMBLE_MQTT__BROKER: mqtt.broker: expected a URL like",
            "BRAMBLE_HEALTH__INTERVAL_SECONDS: health.interval_seconds: expected a whole number of seconds, 1 to 1000000",
            "BRAMBLE_MQTT__BORKER: mqtt.borker: unknown key; did you mean `mqtt.broker`?",
        ],
    );
    agent(&["--broker", "mqtts://good:1"], &wrong[..1]).says(0, &["good"]);
    agent(&["--runtime", "podman"], &[]).says(2, &["--runtime: runtime: expected \"docker\" or \"simulated\""]);
    // What else begins with the prefix is nobody's business.
    agent(&[], &[("BRAMBLE_LOG", "debug"), ("BRAMBLE_SKIP", "docker")]).says(0, &["good"]);
    let master = |flags: &[&str], variables: &[(&str, &str)]| {
        Heard::from(bramble(home.path(), ["master", "--check"]).args(flags).envs(variables.iter().copied()))
    };
    master(&[], &[("BRAMBLE_API__LISTEN", "x")]).says(2, &["BRAMBLE_API__LISTEN: api.listen: expected an address"]);
    master(&["--api-listen", "127.0.0.1:0"], &[("BRAMBLE_API__LISTEN", "x")]).says(0, &["good"]);
}

#[test]
fn a_board_that_nobody_knows_is_told_with_the_boards_there_are() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("agent.toml");
    std::fs::write(&file, "node = 'pi'\ncluster_uid = 'u'\nruntime = 'simulated'\nboard = 'toaster'\n").unwrap();
    let data = home.path().join("data").display().to_string();
    let told = Heard::from(&mut bramble(
        home.path(),
        ["agent", "--check", "--config", &file.display().to_string(), "--data-dir", &data],
    ));
    told.fails(2, "there is no board \"toaster\"", "generic, rpi-1, rpi-2b");
}

#[test]
fn wrong_usage_is_exit_2_with_the_usage_and_help_is_exit_0() {
    let home = tempfile::tempdir().unwrap();
    for (line, parts) in [
        ("frobnicate", &["unrecognized subcommand 'frobnicate'", "--help"][..]),
        ("start --nodes 0", &["'0'", "1..=1000"]),
        ("start --runtime podman", &["possible values: auto, docker, simulated"]),
        ("start --cpus 0", &["number of cores above 0"]),
        ("start --memory 3x", &["512m, 2g or 2Gi"]),
        ("start --api-port 70000", &["70000"]),
        ("start --nodse 3", &["--nodes"]),
        ("status -o yaml", &["possible values: text, json"]),
        ("leds", &["show", "test", "check"]),
        ("", &["Usage: bramble", "start", "status", "stop", "delete", "kubectl", "leds"]),
    ] {
        Heard::from(&mut bramble(home.path(), super::terminal::words(line))).says(2, parts);
    }
    for line in ["--help", "--version", "start --help", "agent --help", "leds show --help", "completion bash"] {
        Heard::from(&mut bramble(home.path(), super::terminal::words(line))).says(0, &["bramble"]);
    }
}
