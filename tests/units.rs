//! What is installed on a Pi: systemd's units, looked at by systemd's own tools, and run by a real systemd.
//!
//! Needs: systemd (its `systemd-analyze`); for those that run: root, systemd-container, mmdebstrap, binutils, kubectl.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test; it waits in real time

#[path = "units/docker.rs"]
mod docker;
#[path = "units/kernel.rs"]
mod kernel;
#[path = "support/machine.rs"]
mod machine;
#[path = "units/running.rs"]
mod running;
mod support;

use std::path::Path;
use std::process::Command;

const UNITS: [&str; 2] = ["bramble-master.service", "bramble-agent.service"];

fn unit(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).unwrap()
}

/// What `systemd-analyze` says of a unit, and whether it is content.
fn analyzed(verb: &str, arguments: &[&str], name: &str, text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let said = Command::new("systemd-analyze").arg(verb).args(arguments).arg(&path).output().expect("Debian's systemd");
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    (said.status.success(), words)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    for name in UNITS {
        let unit = unit(name);
        // The program stands elsewhere on this machine than on a Pi; all else is checked as it is.
        assert!(unit.contains("ExecStart=/usr/local/bin/bramble "), "{name}");
        let here = unit.replace("/usr/local/bin/bramble", env!("CARGO_BIN_EXE_bramble"));
        let verify = |text: &str| {
            let (good, words) = analyzed("verify", &["--man=no"], name, text);
            let ours = words.lines().any(|line| line.contains("bramble-"));
            (good && !ours, words)
        };
        let (good, words) = verify(&here);
        assert!(good, "{name}: {words}");
        // It would have found something.
        let (good, words) = verify(&here.replace("WatchdogSec=30", "WatchdogSec=thirty"));
        assert!(!good, "{name}: {words}");
    }
}

/// systemd's own measure, 0 to 100; Docker's unit, by which anybody is root, has 96. Where this grows somebody took a wall away.
#[test]
fn what_the_units_may_do_is_no_more_than_was_thought_over() {
    for (name, most) in [("bramble-master.service", "16"), ("bramble-agent.service", "57")] {
        let measure = |threshold: &str, text: &str| {
            analyzed("security", &["--offline=yes", "--no-pager", &format!("--threshold={threshold}")], name, text)
        };
        let (good, words) = measure(most, &unit(name));
        assert!(good, "{name}: {words}");
        let (good, words) = measure(most, &unit(name).replace("RestrictNamespaces=yes\n", ""));
        assert!(!good, "{name} without a wall is worse, and it is seen: {words}");
    }
}

#[test]
fn the_drop_ins_have_only_keys_that_systemd_knows() {
    // 252 knows neither of these two; all others of the file it does.
    for (file, section) in [("backoff.conf", "[Service]"), ("watchdog.conf", "[Manager]")] {
        let text = unit(file);
        let keys: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(keys[0], section, "{file}");
        assert!(keys[1..].iter().filter(|line| !line.is_empty()).all(|line| line.contains("Sec=") || line.contains("Steps=")));
    }
}
