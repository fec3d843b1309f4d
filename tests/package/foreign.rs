//! The packages for Pis with the programs that are shipped, on a machine of another processor: Debian's own tools install, upgrade, remove and
//! purge them, their scripts run, and QEMU runs the program.
//!
//! The machine has users of its own, for whom alone the emulator is registered (`binfmt_misc`, kept apart by user namespace from Linux 6.7 on):
//! there systemd starts the unit as on a Pi, with all its walls but one, which QEMU itself would run into. On an older kernel that would
//! change this machine, so it is left out and said. What it is not: a Pi's kernel; that is tests/flash, `boots`.
//!
//! Needs: what `installed` needs; qemu-user-static (Debian), and what cross/build.sh needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::installed::{AGENT, SOON, assert_state, install, left};
use crate::machine::{Machine, Rights, Root};
use crate::support::{skipped, wait_until};
use crate::{package, said, shipped};

/// What stands at the beginning of each program for a processor, and how QEMU shows one.
struct Foreign {
    arch: &'static str,
    board: &'static str,
    qemu: &'static str,
    /// The least of the processors that the package is for; empty: QEMU's own choice.
    cpu: &'static str,
    /// ELF's class, and its machine.
    elf: (u8, u8),
}

const ARM64: Foreign = Foreign { arch: "arm64", board: "rpi-4b", qemu: "qemu-aarch64-static", cpu: "", elf: (2, 183) };
const ARMHF: Foreign = Foreign { arch: "armhf", board: "rpi-zero-w", qemu: "qemu-arm-static", cpu: "arm1176", elf: (1, 40) };

/// QEMU writes the code that it makes, and then runs it: it would not start. All else stands.
const DROP_IN: &str = "[Service]\nMemoryDenyWriteExecute=no\n";
const CONFIG: &str = "runtime = \"simulated\"\n[join]\nmaster = \"https://127.0.0.1:6443\"\n";

impl Foreign {
    /// Where QEMU is.
    fn emulator(&self) -> PathBuf {
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|folder| folder.join(self.qemu)).find(|program| program.is_file());
        let fix = "apt-get install qemu-user-static, or leave this out with BRAMBLE_SKIP=cross";
        found.unwrap_or_else(|| panic!("{} is missing: {fix}", self.qemu))
    }

    /// The line that has the kernel of a machine run the emulator for such programs; it is opened now, so nobody has to find it later (F).
    fn line(&self) -> String {
        let (class, machine) = self.elf;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let mut magic = [0; 20];
        magic[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        (magic[16], magic[18]) = (2, machine);
        let mut mask = [0xff; 20];
        // Which system's it is; a program may be linked to stand anywhere (3) or not (2).
        (mask[7], mask[16]) = (0, 0xfe);
        format!(":bramble-{}:M::{}:{}:{}:F", self.arch, hex(&magic), hex(&mask), self.emulator().display())
    }

    /// Has the machine run such programs as its own. Whether its kernel can.
    fn register(&self, machine: &Machine) -> bool {
        let mounted = machine.run(["sh", "-c", "mkdir /run/binfmt && mount -t binfmt_misc none /run/binfmt"]);
        if !mounted.ok {
            println!(
                "NOT PROVEN: that the unit starts; this kernel has no binfmt_misc for a machine alone: {}",
                mounted.err.trim()
            );
            return false;
        }
        assert_eq!(machine.shell("ls /run/binfmt"), "register\nstatus\n", "it is the machine's own");
        std::fs::write(machine.path().join("root/line"), self.line()).unwrap();
        machine.shell("cat /root/line >/run/binfmt/register");
        true
    }

    /// Packages of two versions of the program.
    fn packages(&self, folder: &Path) -> [PathBuf; 2] {
        let program = folder.join("bramble");
        std::fs::copy(shipped::built(self.board), &program).unwrap();
        let first = package(folder, self.arch, &program, &["--version", "0.1.0"]);
        // Another file, as a new build is.
        let mut bytes = std::fs::read(&program).unwrap();
        bytes.extend_from_slice(b"another build");
        std::fs::write(&program, bytes).unwrap();
        [first, package(folder, self.arch, &program, &["--version", "0.2.0"])]
    }

    /// What is installed says which version of the program it is, by the emulator alone.
    fn answers(&self, machine: &Machine) {
        let emulator = self.emulator();
        let cpu = if self.cpu.is_empty() { vec![] } else { vec!["-cpu", self.cpu] };
        let words = [emulator.to_str().unwrap()].into_iter().chain(cpu).chain(["/usr/bin/bramble", "--version"]);
        assert_eq!(machine.run(words).expect(), format!("bramble {}\n", env!("CARGO_PKG_VERSION")));
    }
}

/// Waits until the program has told systemd what it waits for.
fn waits(machine: &Machine) {
    wait_until("what it waits for", SOON, || match machine.show(AGENT, "StatusText") {
        text if text.starts_with("waits for the master: ") => Ok(()),
        text => Err(text),
    });
}

fn lives(foreign: &Foreign) {
    if skipped("systemd") || skipped("cross") {
        return;
    }
    if cfg!(not(target_arch = "x86_64")) {
        println!("NOT RUN: on a machine of this processor such a package may be no foreign one");
        return;
    }
    let folder = tempfile::Builder::new().prefix("bramble-package-").tempdir().unwrap();
    let [first, second] = foreign.packages(folder.path());
    let emulator = foreign.emulator();
    let program = folder.path().join("bramble");
    let runs_here = || Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    let here = runs_here();
    let machine = Root::debian().boot_with(Rights::OwnUsers, &[folder.path(), &emulator]).booted();
    let dpkg = |words: &[&str]| machine.run(["dpkg"].iter().chain(words)).expect();
    let installed = || dpkg(&["--listfiles", "bramble-agent"]);

    // A machine that was not told of this processor takes no such package.
    let refused = install(&machine, &first);
    assert!(!refused.ok && refused.err.contains("does not match system"), "{}", refused.err);
    dpkg(&["--add-architecture", foreign.arch]);
    let said_at_first = install(&machine, &first).expect();
    assert!(said_at_first.contains("write into /etc/bramble/agent.toml how this node joins"), "{said_at_first}");
    assert_state(&machine, AGENT, "disabled", "inactive");
    let shown = |what: &str| machine.run(["dpkg-query", "-W", &format!("-f=${{{what}}}"), "bramble-agent"]).expect();
    assert_eq!((shown("Architecture"), shown("Version")), (foreign.arch.to_owned(), "0.1.0".to_owned()));
    assert!(installed().contains("/usr/lib/systemd/system/bramble-agent.service"), "{}", installed());
    // But for documentation, which this machine leaves out of every package.
    let other = dpkg(&["--verify", "bramble-agent"]).lines().filter(|line| !line.contains("/usr/share/doc/")).collect::<String>();
    assert_eq!(other, "", "each file is as it was packed");
    let packed = said("sha256sum", &[shipped_path(&machine).to_str().unwrap()]).expect();
    foreign.answers(&machine);

    // It runs, where that changes nothing here.
    let runs = foreign.register(&machine);
    if runs {
        assert_eq!(machine.shell("bramble --version"), format!("bramble {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(runs_here(), here, "nothing is registered on this machine");
        let cpu = if foreign.cpu.is_empty() { String::new() } else { format!("Environment=QEMU_CPU={}\n", foreign.cpu) };
        let drop_in = machine.path().join("etc/systemd/system/bramble-agent.service.d");
        std::fs::create_dir_all(&drop_in).unwrap();
        std::fs::write(drop_in.join("emulated.conf"), format!("{DROP_IN}{cpu}")).unwrap();
        std::fs::write(machine.path().join("etc/bramble/agent.toml"), CONFIG).unwrap();
        machine.shell("systemctl daemon-reload && systemctl enable --now bramble-agent");
        waits(&machine);
        let command = machine.shell(&format!("tr '\\0' ' ' </proc/{}/cmdline", machine.show(AGENT, "MainPID")));
        assert!(command.contains(foreign.qemu) && command.contains("/usr/bin/bramble agent "), "{command}");
    }

    // Upgraded: the other program, in another process where it ran; what people wrote is as before.
    let before = machine.show(AGENT, "MainPID");
    let written = std::fs::read_to_string(machine.path().join("etc/bramble/agent.toml")).unwrap();
    install(&machine, &second).expect();
    assert_eq!(shown("Version"), "0.2.0");
    assert_ne!(said("sha256sum", &[shipped_path(&machine).to_str().unwrap()]).expect(), packed);
    assert_eq!(std::fs::read_to_string(machine.path().join("etc/bramble/agent.toml")).unwrap(), written);
    foreign.answers(&machine);
    if runs {
        assert_state(&machine, AGENT, "enabled", "active");
        assert_ne!(machine.show(AGENT, "MainPID"), before);
        waits(&machine);
    } else {
        assert_state(&machine, AGENT, "disabled", "inactive");
    }

    // Removed, and installed again: it goes on by itself.
    dpkg(&["--remove", "bramble-agent"]);
    assert!(!shipped_path(&machine).exists());
    assert_eq!(std::fs::read_to_string(machine.path().join("etc/bramble/agent.toml")).unwrap(), written);
    assert_eq!(machine.run(["systemctl", "is-active", AGENT]).out.trim(), "inactive");
    install(&machine, &first).expect();
    if runs {
        assert_state(&machine, AGENT, "enabled", "active");
        waits(&machine);
    }

    // Purged: nothing is left, and Debian's own state of this processor can be taken back.
    machine.run(["rm", "-rf", "/etc/systemd/system/bramble-agent.service.d"]).expect();
    dpkg(&["--purge", "bramble-agent"]);
    assert_eq!(left(&machine), "");
    dpkg(&["--remove-architecture", foreign.arch]);
    assert_eq!(dpkg(&["--audit"]), "");
    assert_eq!(runs_here(), here);
}

/// The program, as the package put it there.
fn shipped_path(machine: &Machine) -> PathBuf {
    machine.path().join("usr/bin/bramble")
}

#[test]
fn the_package_for_64_bit_pis_is_installed_upgraded_removed_and_purged_and_its_unit_starts() {
    lives(&ARM64);
}

#[test]
fn the_package_for_32_bit_pis_is_installed_upgraded_removed_and_purged_and_its_unit_starts() {
    lives(&ARMHF);
}
