//! The units under a real systemd: start, watchdog, deaths, stop, limits, and what the journal gets.

use std::time::Duration;

use serde_json::Value;

use crate::machine::{Machine, Root};
use crate::support::{skipped, wait_until};
use crate::unit;

const SOON: Duration = Duration::from_secs(60);
const AGENT: &str = "bramble-agent.service";
pub const CONFIG: &str = "runtime = \"simulated\"\nnode = \"shed\"\n[join]\nmaster = \"https://127.0.0.1:6443\"\n";

/// A machine with the program and the agent's unit as they stand in systemd/, and this configuration.
pub fn root(config: &str) -> Root {
    root_of(&[], config)
}

/// The same with these packages of Debian's too.
pub fn root_of(packages: &[&str], config: &str) -> Root {
    let root = Root::debian_with(packages);
    root.install("/usr/local/bin/bramble");
    for name in ["bramble-agent.service", "bramble-master.service"] {
        root.write(&format!("/etc/systemd/system/{name}"), &unit(name));
    }
    root.write("/usr/lib/sysusers.d/bramble.conf", &unit("sysusers.conf"));
    root.write("/usr/lib/tmpfiles.d/bramble.conf", &unit("tmpfiles.conf"));
    root.write("/etc/bramble/agent.toml", config);
    root.write("/etc/bramble/master.toml", "");
    root
}

/// Lines of the journal that have these fields.
pub fn journal(machine: &Machine, matches: &[&str]) -> Vec<Value> {
    // It writes by itself, and later than what it writes about.
    machine.run(["journalctl", "--sync"]).expect();
    let arguments = ["journalctl", "--no-pager", "-o", "json"];
    let said = machine.run(arguments.iter().chain(matches)).expect();
    said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

pub fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["MESSAGE"].as_str()).collect()
}

#[test]
fn the_agent_starts_before_there_is_a_network_and_docker_waits_for_one() {
    if skipped("systemd") {
        return;
    }
    let root = root(CONFIG);
    // As on a Pi whose access point is away: what waits for a network waits, and Docker's unit is as Debian's.
    let waits = "[Unit]\nAfter=network.target\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=sleep infinity\nTimeoutStartSec=infinity\n";
    root.write("/etc/systemd/system/wait-for-network.service", waits);
    root.enable("wait-for-network.service", "network-online.target");
    let docker = "[Unit]\nAfter=network-online.target\nWants=network-online.target\n[Service]\nExecStart=sleep infinity\n";
    root.write("/etc/systemd/system/docker.service", docker);
    root.enable(AGENT, "multi-user.target");
    let machine = root.boot(&[]);
    wait_until("the bus", SOON, || {
        let said = machine.run(["systemctl", "show", "--property", "Version"]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    machine.wait(AGENT, "ActiveState", "active", SOON);
    assert_eq!(machine.show("network-online.target", "ActiveState"), "inactive");
    assert_eq!(machine.show("docker.service", "ActiveState"), "inactive", "it is wanted, and waits");
    assert!(!machine.show("docker.service", "Job").is_empty(), "a start of it is queued");
    // It says what it waits for, where people look.
    wait_until("what it waits for", SOON, || match machine.show(AGENT, "StatusText") {
        text if text.starts_with("waits for the master: ") => Ok(()),
        text => Err(text),
    });
}

#[test]
fn a_node_lives_under_systemd_from_its_start_to_its_end() {
    if skipped("systemd") {
        return;
    }
    let machine = root(CONFIG).boot(&[]).booted();
    machine.shell("systemctl start bramble-master");
    let command = machine.shell("bramble token create --data-dir /var/lib/bramble");
    let token = command.split("--token ").nth(1).unwrap().split_whitespace().next().unwrap();
    machine.shell(&format!("echo 'token = \"{token}\"' >>/etc/bramble/agent.toml"));
    machine.shell("systemctl start bramble-agent");
    wait_until("the node to run", SOON, || match machine.show(AGENT, "StatusText") {
        text if text == "runs" => Ok(()),
        text => Err(text),
    });

    // Limits stand; the kernel holds them where it lets a container have the controller, which cgroup v1 does not.
    assert_eq!(machine.show(AGENT, "MemoryMax"), (128u64 << 20).to_string());
    let held = machine.run(["cat", &format!("/sys/fs/cgroup{}/memory.max", machine.show(AGENT, "ControlGroup"))]);
    if held.ok {
        assert_eq!(held.out.trim(), (128u64 << 20).to_string());
    } else {
        println!("NOT PROVEN: that the kernel holds the limit; it has no cgroup v2 for containers");
    }
    assert_eq!(machine.show(AGENT, "MemoryHigh"), (64u64 << 20).to_string());
    let pid = machine.show(AGENT, "MainPID");
    let status = machine.shell(&format!("cat /proc/{pid}/status"));
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    // CAP_SYS_ADMIN (21), CAP_SYS_TIME (25), CAP_SYS_PTRACE (19), CAP_KILL (5).
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    assert_eq!(bounding & (1 << 21 | 1 << 25 | 1 << 19 | 1 << 5), 0, "{bounding:x}");
    println!("memory of the agent, a debug build: {}", field("VmRSS:"));

    // The journal has fields, and what people read is as it was.
    let of_node = journal(&machine, &["_SYSTEMD_UNIT=bramble-agent.service", "BRAMBLE_NODE=shed"]);
    assert!(messages(&of_node).iter().any(|message| message.starts_with("joined node=\"shed\"")), "{of_node:?}");
    assert!(of_node.iter().all(|line| line["SYSLOG_IDENTIFIER"] == "bramble" && line["_TRANSPORT"] == "journal"));
    assert!(journal(&machine, &["_SYSTEMD_UNIT=bramble-agent.service", "BRAMBLE_NODE=attic"]).is_empty());

    // It hangs: the watchdog ends it, what is left to do for the LEDs is done, and it is started again.
    machine.shell(&format!("kill -STOP {pid}"));
    machine.wait(AGENT, "NRestarts", "1", Duration::from_secs(90));
    machine.wait(AGENT, "ActiveState", "active", SOON);
    let again = machine.show(AGENT, "MainPID");
    assert_ne!(again, pid);
    let of_systemd = journal(&machine, &["UNIT=bramble-agent.service"]);
    assert!(messages(&of_systemd).iter().any(|message| message.contains("Watchdog timeout")), "{:?}", messages(&of_systemd));
    // It is killed: the same. The file says with which result its death was looked after.
    machine.shell(&format!("kill -KILL {again}"));
    machine.wait(AGENT, "NRestarts", "2", SOON);
    machine.wait(AGENT, "ActiveState", "active", SOON);
    wait_until("the node to run again", SOON, || match machine.show(AGENT, "StatusText") {
        text if text == "runs" => Ok(()),
        text => Err(text),
    });

    // It is told to end: in order, within its time, and it stays so.
    machine.shell("systemctl stop bramble-agent");
    assert_eq!((machine.show(AGENT, "Result").as_str(), machine.show(AGENT, "ActiveState").as_str()), ("success", "inactive"));
    assert!(messages(&journal(&machine, &["_SYSTEMD_UNIT=bramble-agent.service"])).contains(&"finished"));
    machine.shell("systemctl stop bramble-master");
    assert_eq!(machine.show("bramble-master.service", "Result"), "success");
}

#[test]
fn after_a_death_that_nobody_asked_for_the_leds_are_looked_after() {
    if skipped("systemd") {
        return;
    }
    let root = root(CONFIG);
    // What stands for the program writes down how it was called by `ExecStopPost=`.
    let script = "#!/bin/sh\nif [ \"$1\" = leds ]; then echo \"$* $SERVICE_RESULT\" >>/run/called; exit 0; fi\nexec /usr/local/bin/bramble.real \"$@\"\n";
    root.install("/usr/local/bin/bramble.real");
    root.write("/usr/local/bin/bramble", script);
    let machine = root.boot(&[]).booted();
    let called = || machine.run(["cat", "/run/called"]).out;
    machine.shell("systemctl start bramble-agent");
    assert_eq!(called(), "");
    machine.shell(&format!("kill -KILL {}", machine.show(AGENT, "MainPID")));
    machine.wait(AGENT, "NRestarts", "1", SOON);
    assert_eq!(called(), "leds died --config /etc/bramble/agent.toml signal\n");
    machine.wait(AGENT, "ActiveState", "active", SOON);
    machine.shell("systemctl stop bramble-agent");
    assert_eq!(called().lines().last(), Some("leds died --config /etc/bramble/agent.toml success"));
}

#[test]
fn a_wrong_configuration_is_told_as_an_error_and_not_tried_again() {
    if skipped("systemd") {
        return;
    }
    let machine = root("nodes = \"shed\"\n").boot(&[]).booted();
    assert!(!machine.run(["systemctl", "start", "bramble-agent"]).ok);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!((machine.show(AGENT, "ActiveState").as_str(), machine.show(AGENT, "NRestarts").as_str()), ("failed", "0"));
    let errors = journal(&machine, &["_SYSTEMD_UNIT=bramble-agent.service", "PRIORITY=3"]);
    assert!(messages(&errors).iter().any(|message| message.contains("nodes")), "{errors:?}");
}
