//! What is installed on a Pi: systemd's units.
#![allow(clippy::unwrap_used)] // a test

use std::path::Path;
use std::process::Command;

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bramble-master.service", "bramble-agent.service"] {
        let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).unwrap();
        // The program stands elsewhere on this machine than on a Pi; all else is checked as it is.
        assert!(unit.contains("ExecStart=/usr/local/bin/bramble "), "{name}");
        let here = unit.replace("/usr/local/bin/bramble", env!("CARGO_BIN_EXE_bramble"));
        let path = folder.path().join(name);
        std::fs::write(&path, here).unwrap();
        let said = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&path).output().expect("Debian's systemd");
        let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        let ours: Vec<&str> = words.lines().filter(|line| line.contains("bramble-")).collect();
        assert!(said.status.success() && ours.is_empty(), "{name}: {words}");
    }
}
