//! The Debian package: what is in it, and what it does to a machine with a real systemd.
//!
//! Needs: dpkg-dev's dpkg-deb, lintian; for what runs: root, systemd-container, mmdebstrap, binutils; for Pis' own: what `foreign` says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test; it waits in real time

#[path = "package/foreign.rs"]
mod foreign;
#[path = "package/installed.rs"]
mod installed;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/shipped.rs"]
mod shipped;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Said, skipped};

/// Runs a program of Debian's.
fn said(program: &str, arguments: &[&str]) -> Said {
    Said::of(Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}")))
}

/// Makes a package of a program, without pressing it together.
fn package(folder: &Path, arch: &str, program: &Path, more: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("cross/deb.sh"));
    command.args(["--arch", arch, "--program"]).arg(program).arg("--output").arg(folder).args(more);
    let made = Said::of(command.env("DEB_COMPRESSION", "none").output().unwrap());
    PathBuf::from(made.expect().trim())
}

/// What is in a package: path → mode, owner and kind as `dpkg-deb -c` gives them.
fn contents(package: &Path) -> BTreeMap<String, String> {
    let listed = said("dpkg-deb", &["-c", package.to_str().unwrap()]).expect();
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[5].trim_start_matches('.').to_owned(), format!("{} {}", words[0], words[1]))
    };
    listed.lines().map(entry).collect()
}

fn field(package: &Path, name: &str) -> String {
    said("dpkg-deb", &["-f", package.to_str().unwrap(), name]).expect().trim().to_owned()
}

/// What stands for a program: an ELF file's beginning for this processor, and nothing that runs.
fn dummy(folder: &Path, machine: u8) -> PathBuf {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[16] = 2;
    bytes[18] = machine;
    let path = folder.join(format!("program-{machine}"));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn packages_for_pis_have_the_program_the_unit_and_what_people_write_and_no_master() {
    let folder = tempfile::tempdir().unwrap();
    for (arch, machine) in [("arm64", 183), ("armhf", 40)] {
        let package = package(folder.path(), arch, &dummy(folder.path(), machine), &[]);
        assert_eq!(
            package.file_name().unwrap().to_str().unwrap(),
            format!("bramble-agent_{}_{arch}.deb", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!((field(&package, "Architecture").as_str(), field(&package, "Depends").as_str()), (arch, "systemd"));
        let contents = contents(&package);
        for (path, mode) in [
            ("/usr/bin/bramble", "-rwxr-xr-x root/root"),
            ("/usr/lib/systemd/system/bramble-agent.service", "-rw-r--r-- root/root"),
            // A token may be in it.
            ("/etc/bramble/agent.toml", "-rw------- root/root"),
            ("/usr/share/bramble/backoff.conf", "-rw-r--r-- root/root"),
            ("/usr/share/doc/bramble-agent/copyright", "-rw-r--r-- root/root"),
        ] {
            assert_eq!(contents.get(path).map(String::as_str), Some(mode), "{path} in {contents:?}");
        }
        assert!(contents.values().all(|entry| entry.ends_with("root/root")), "{contents:?}");
        assert!(!contents.keys().any(|path| path.contains("master") || path.contains("/usr/local")), "{contents:?}");
        let unpacked = folder.path().join(arch);
        said("dpkg-deb", &["-R", package.to_str().unwrap(), unpacked.to_str().unwrap()]).expect();
        let unit = std::fs::read_to_string(unpacked.join("usr/lib/systemd/system/bramble-agent.service")).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/bramble agent ") && !unit.contains("/usr/local"), "{unit}");
        assert_eq!(std::fs::read_to_string(unpacked.join("DEBIAN/conffiles")).unwrap(), "/etc/bramble/agent.toml\n");
        for script in ["postinst", "prerm", "postrm"] {
            let path = unpacked.join("DEBIAN").join(script);
            assert!(!std::fs::read_to_string(&path).unwrap().contains('@'), "{script}");
            said("sh", &["-n", path.to_str().unwrap()]).expect();
        }
    }
}

#[test]
fn a_program_for_another_processor_becomes_no_package() {
    let folder = tempfile::tempdir().unwrap();
    let arm64 = dummy(folder.path(), 183);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("cross/deb.sh"));
    command.args(["--arch", "armhf", "--program"]).arg(&arm64).arg("--output").arg(folder.path());
    let refused = Said::of(command.output().unwrap());
    assert!(refused.code == 2 && refused.err.contains("is not for armhf"), "{}", refused.err);
}

#[test]
fn lintian_finds_no_error_in_it() {
    if skipped("systemd") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("bramble");
    machine::stripped(&program);
    for more in [Vec::new(), vec!["--whole"]] {
        let package = package(folder.path(), "amd64", &program, &more);
        // Ours is no upload to Debian: no request for packaging is closed, and the program links what cargo says.
        let tags = "no-manual-page,bogus-mail-host,bogus-mail-host-in-debian-changelog,statically-linked-binary,embedded-library,uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";
        let found = said("lintian", &["--fail-on", "error", "--suppress-tags", tags, package.to_str().unwrap()]);
        println!("{}", found.out);
        assert!(found.ok, "{}{}", found.out, found.err);
    }
}
