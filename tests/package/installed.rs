//! Installed, upgraded, removed and purged on a machine with a real systemd.

use std::path::Path;
use std::time::Duration;

use crate::machine::{Machine, Root, stripped};
use crate::package;
use crate::support::{Said, skipped, wait_until};

pub const SOON: Duration = Duration::from_secs(60);
pub const AGENT: &str = "bramble-agent.service";

pub fn install(machine: &Machine, deb: &Path) -> Said {
    machine.run(["dpkg", "--install", "--force-confold", deb.to_str().unwrap()])
}

fn state(machine: &Machine, unit: &str) -> (String, String) {
    let enabled = machine.run(["systemctl", "is-enabled", unit]).out.trim().to_owned();
    (enabled, machine.run(["systemctl", "is-active", unit]).out.trim().to_owned())
}

#[track_caller]
pub fn assert_state(machine: &Machine, unit: &str, enabled: &str, active: &str) {
    assert_eq!(state(machine, unit), (enabled.to_owned(), active.to_owned()), "{unit}");
}

/// Everything on it that bears the name, but what is logged and what dpkg remembers.
pub fn left(machine: &Machine) -> String {
    machine.shell("find / -xdev \\( -path /proc -o -path /sys -o -path /var/log -o -path /var/lib/dpkg -o -path /var/cache -o -path /tmp \\) -prune -o -iname '*bramble*' -print | sort")
}

/// Packages of two versions of the program of this build, with the master in them.
fn packages(folder: &Path) -> [std::path::PathBuf; 2] {
    let program = folder.join("bramble");
    stripped(&program);
    let first = package(folder, "amd64", &program, &["--whole", "--version", "0.1.0"]);
    // Another file, as a new build is.
    let mut bytes = std::fs::read(&program).unwrap();
    bytes.extend_from_slice(b"another build");
    std::fs::write(&program, bytes).unwrap();
    [first, package(folder, "amd64", &program, &["--whole", "--version", "0.2.0"])]
}

#[test]
fn it_is_installed_upgraded_removed_and_purged() {
    if skipped("systemd") {
        return;
    }
    let folder = tempfile::Builder::new().prefix("bramble-package-").tempdir().unwrap();
    let [first, second] = packages(folder.path());
    let machine = Root::debian().boot(&[folder.path()]).booted();

    // Nobody has said how this node joins: nothing starts, and it is said what to do.
    let said = install(&machine, &first).expect();
    assert!(said.contains("write into /etc/bramble/agent.toml how this node joins"), "{said}");
    assert_state(&machine, AGENT, "disabled", "inactive");
    assert_state(&machine, "bramble-master.service", "disabled", "inactive");
    assert_eq!(machine.shell("stat -c '%U %a' /var/lib/bramble"), "bramble 700\n", "the master's user is made");
    // systemd 252 does not know back-off.
    let version = machine.shell("systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'").trim().parse::<u32>().unwrap();
    assert_eq!(machine.run(["test", "-e", "/usr/lib/systemd/system/bramble-agent.service.d/backoff.conf"]).ok, version >= 254);

    // A person says it, and starts both.
    machine.shell("systemctl enable --now bramble-master");
    let token = machine.shell("bramble token create --data-dir /var/lib/bramble");
    let token = token.split("--token ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let config =
        format!("runtime = \"simulated\"\nnode = \"shed\"\n[join]\nmaster = \"https://127.0.0.1:6443\"\ntoken = \"{token}\"\n");
    std::fs::write(machine.path().join("etc/bramble/agent.toml"), &config).unwrap();
    machine.shell("systemctl enable --now bramble-agent");
    let runs = |machine: &Machine| {
        wait_until("the node to be ready", SOON, || {
            let listed = machine.run(["bramble", "node", "list", "--data-dir", "/var/lib/bramble"]);
            if listed.out.contains("Ready") && !listed.out.contains("NotReady") {
                Ok(())
            } else {
                Err(format!("{}{}", listed.out, listed.err))
            }
        });
    };
    runs(&machine);

    // Upgraded: both are new processes, who the node is and what people wrote is as before.
    let pids = |machine: &Machine| [machine.show(AGENT, "MainPID"), machine.show("bramble-master.service", "MainPID")];
    let before = pids(&machine);
    install(&machine, &second).expect();
    let after = pids(&machine);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after && after != "0"), "{before:?} {after:?}");
    assert_state(&machine, AGENT, "enabled", "active");
    runs(&machine);
    assert_eq!(std::fs::read_to_string(machine.path().join("etc/bramble/agent.toml")).unwrap(), config);

    // Switched off by a person: an upgrade leaves it so.
    machine.shell("systemctl disable --now bramble-agent");
    install(&machine, &first).expect();
    assert_state(&machine, AGENT, "disabled", "inactive");
    assert_eq!(state(&machine, "bramble-master.service").1, "active");
    machine.shell("systemctl enable --now bramble-agent");

    // Removed: everything stops, and what was kept is there for the next installation, which goes on by itself.
    machine.run(["dpkg", "--remove", "bramble"]).expect();
    assert_eq!(state(&machine, AGENT).1, "inactive");
    assert!(!machine.path().join("usr/bin/bramble").exists());
    for kept in ["etc/bramble/agent.toml", "var/lib/bramble-agent/join.json", "var/lib/bramble/cluster-uid"] {
        assert!(machine.path().join(kept).exists(), "{kept}");
    }
    install(&machine, &second).expect();
    assert_state(&machine, AGENT, "enabled", "active");
    runs(&machine);

    // Purged: only what pods stored is left.
    machine.shell("mkdir -p /var/lib/bramble-agent/volumes/photos && echo cat >/var/lib/bramble-agent/volumes/photos/1.jpg");
    let said = machine.run(["dpkg", "--purge", "bramble"]).expect();
    assert!(said.contains("/var/lib/bramble-agent/volumes is kept"), "{said}");
    assert_eq!(left(&machine), "/var/lib/bramble-agent\n");
    assert_eq!(machine.shell("cat /var/lib/bramble-agent/volumes/photos/1.jpg; ls -A /var/lib/bramble-agent"), "cat\nvolumes\n");
    assert_eq!(machine.shell("systemctl list-unit-files --no-legend 'bramble*' || true"), "");
}

#[test]
fn a_node_that_was_told_how_to_join_before_starts_at_the_first_installation() {
    if skipped("systemd") {
        return;
    }
    let folder = tempfile::Builder::new().prefix("bramble-package-").tempdir().unwrap();
    let [first, _] = packages(folder.path());
    let root = Root::debian();
    root.write("/etc/bramble/agent.toml", "runtime = \"simulated\"\n[join]\nmaster = \"https://127.0.0.1:6443\"\n");
    let machine = root.boot(&[folder.path()]).booted();
    install(&machine, &first).expect();
    assert_state(&machine, AGENT, "enabled", "active");
    wait_until("what it waits for", SOON, || match machine.show(AGENT, "StatusText") {
        text if text.starts_with("waits for the master: ") => Ok(()),
        text => Err(text),
    });
}
