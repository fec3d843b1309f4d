//! The agent as a Pi gets it: built by `cross/build.sh`, run by QEMU's user emulation.
//!
//! Needs: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user-static, python3-venv (Debian), the Rust target, kubectl.
//! QEMU shows the program this machine's /proc, /sys and network: it proves the program and its talk, not the pins of a Pi.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test; it waits in real time

#[path = "support/shipped.rs"]
mod shipped;
mod support;

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, is_ready, lives, signal, skipped, summary, wait_until};

/// A Pi Zero's processor: what it does not know ends a program by SIGILL.
const ARMV6: [&str; 3] = ["qemu-arm-static", "-cpu", "arm1176"];
/// Emulated, and on a machine that builds something else at the same time.
const SOON: Duration = Duration::from_secs(40);

/// The program under QEMU, without what this shell says to configure a daemon.
fn arm(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let class = std::fs::read(program).unwrap()[4];
    emulated(if class == 1 { &ARMV6 } else { &["qemu-aarch64-static"] }, program, arguments)
}

fn emulated(qemu: &[&str], program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let name = qemu[0];
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(name).is_file());
    assert!(found, "{name} is missing: apt-get install qemu-user-static, or leave this out with BRAMBLE_SKIP=cross");
    let mut command = Command::new(name);
    command.args(&qemu[1..]).arg(program).args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BRAMBLE_") {
            command.env_remove(name);
        }
    }
    command
}

fn words(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A process of this test; killed and reaped if the test ends before it does.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// Asks it to end; gives the exit code.
    fn end(mut self) -> Option<i32> {
        signal(i32::try_from(self.0.id()).unwrap(), "TERM");
        let status = wait_until("the end of the agent that was told to end", Duration::from_secs(15), || {
            self.0.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        status.code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One number of an ELF file, little-endian.
fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length].iter().rev().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_program_is_static_for_arm64_and_has_the_pins_but_not_the_master_in_it() {
    if skipped("cross") {
        return;
    }
    let program = shipped::built("rpi-4b");
    let bytes = std::fs::read(&program).unwrap();
    assert_eq!(&bytes[..6], b"\x7fELF\x02\x01", "64 bits, little-endian");
    assert_eq!(number(&bytes, 18, 2), 183, "aarch64");
    // Program headers: an interpreter (3) would be a dynamic linker that the Pi must have.
    let (start, size, count) = (number(&bytes, 32, 8), number(&bytes, 54, 2), number(&bytes, 56, 2));
    let kinds: Vec<usize> = (0..count).map(|index| number(&bytes, start + index * size, 4)).collect();
    assert!(!kinds.is_empty() && !kinds.contains(&3), "static: {kinds:?}");
    // By words that only the part in question has: rppal's name of a GPIO chip, Docker's path, the API server's path.
    assert!(contains(&bytes, "pinctrl-bcm2711"), "the rppal driver is in");
    assert!(contains(&bytes, "/containers/create"), "the Docker runtime is in");
    let native = std::fs::read(env!("CARGO_BIN_EXE_bramble")).unwrap();
    assert!(contains(&native, "/openapi/v3/") && !contains(&bytes, "/openapi/v3/"), "the master is not in");
    // A generous bound: something large was linked in by mistake.
    assert!(bytes.len() < 8 << 20, "{} bytes", bytes.len());

    let said = arm(&program, ["--version"]).output().unwrap();
    assert_eq!(words(&said), (Some(0), format!("bramble {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let said = words(&arm(&program, ["master", "--check"]).output().unwrap());
    assert_eq!(said.0, Some(2), "the agent's commands only: {said:?}");
}

/// The smallest program that ends with code 0, for 32-bit ARM: one instruction sets r0, then `exit`.
fn smallest(set_r0: u32) -> Vec<u8> {
    let (start, header) = (0x1_0000_u32, 52 + 32);
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2_u16, 40].iter().flat_map(|half| half.to_le_bytes()));
    // Version, entry, program headers at 52, no section headers, flags: EABI 5 with hard float.
    bytes.extend([1, start + header, 52, 0, 0x500_0400].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([52_u16, 32, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    // One segment, readable and executable.
    let size = header + 12;
    bytes.extend([1, 0, start, start, size, size, 5, 0x1000].iter().flat_map(|word: &u32| word.to_le_bytes()));
    // mov r7, #1 (exit); svc 0.
    bytes.extend([set_r0, 0xe3a0_7001, 0xef00_0000].iter().flat_map(|word: &u32| word.to_le_bytes()));
    bytes
}

#[test]
fn the_program_for_a_pi_zero_is_static_and_runs_on_armv6_where_a_program_for_armv7_dies() {
    if skipped("cross") {
        return;
    }
    let program = shipped::built("rpi-zero-w");
    let bytes = std::fs::read(&program).unwrap();
    assert_eq!(&bytes[..6], b"\x7fELF\x01\x01", "32 bits, little-endian");
    assert_eq!((number(&bytes, 18, 2), number(&bytes, 36, 4) & 0x400), (40, 0x400), "ARM, hard float");
    let (start, size, count) = (number(&bytes, 28, 4), number(&bytes, 42, 2), number(&bytes, 44, 2));
    let kinds: Vec<usize> = (0..count).map(|index| number(&bytes, start + index * size, 4)).collect();
    assert!(!kinds.is_empty() && !kinds.contains(&3), "static: {kinds:?}");
    assert!(contains(&bytes, "/dev/gpiomem") && contains(&bytes, "/containers/create"), "pins and Docker are in");
    assert!(!contains(&bytes, "/openapi/v3/"), "the master is not in");
    assert!(bytes.len() < 9 << 20, "{} bytes", bytes.len());
    let said = arm(&program, ["--version"]).output().unwrap();
    assert_eq!(words(&said), (Some(0), format!("bramble {}\n", env!("CARGO_PKG_VERSION")), String::new()));

    // That this proves something: MOVW is in ARMv7 and not in ARMv6, MOV is in both.
    let folder = tempfile::tempdir().unwrap();
    for (instruction, cpu, dies) in
        [(0xe3a0_0000, "arm1176", false), (0xe300_0000, "cortex-a7", false), (0xe300_0000, "arm1176", true)]
    {
        let file = folder.path().join("smallest");
        std::fs::write(&file, smallest(instruction)).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let status = emulated(&["qemu-arm-static", "-cpu", cpu], &file, [""; 0]).output().unwrap().status;
        let killed = std::os::unix::process::ExitStatusExt::signal(&status);
        // 4: SIGILL.
        assert_eq!((status.code(), killed), if dies { (None, Some(4)) } else { (Some(0), None) }, "{instruction:x} on {cpu}");
    }
}

#[test]
fn a_configuration_is_checked_as_everywhere() {
    if skipped("cross") {
        return;
    }
    ["rpi-4b", "rpi-zero-w"].into_iter().for_each(a_configuration_is_checked_on);
}

fn a_configuration_is_checked_on(board: &str) {
    let program = shipped::built(board);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        words(&arm(&program, [OsStr::new("agent"), "--check".as_ref(), "--config".as_ref(), file.as_ref()]).output().unwrap())
    };
    // The files that it names are read too.
    let hat = folder.path().join("mine.toml");
    let good = format!(
        "node = \"shed\"\ncluster_uid = \"u\"\nboard = \"rpi-4b\"\nleds.hats = [\"plain\", {:?}]\n\n[mqtt]\nbroker = \"mqtts://192.0.2.1:8883\"\n",
        hat
    );
    let (code, _, told) = check(&good);
    assert!(code == Some(2) && told.contains("there is no HAT") && told.contains("mine.toml"), "{told}");
    let led = "format = 1\nkind = \"hat\"\nname = \"mine\"\ntitle = \"One LED\"\n\n[[led]]\nname = \"lamp\"\npin = 23\ncolour = \"red\"\nshows = \"pod\"\n";
    std::fs::write(&hat, led).unwrap();
    assert_eq!(check(&good), (Some(0), "the configuration is good\n".to_owned(), String::new()));
    let (code, _, told) = check("node = \"Shed Pi\"\nruntime = \"podman\"\n\n[mqtt]\nbrocker = \"x\"\n\n[capacity]\ncpus = 0\n");
    assert_eq!(code, Some(2), "{told}");
    for fault in ["4 faults", "node: expected", "runtime: expected", "did you mean `mqtt.broker`?", "capacity.cpus: expected"] {
        assert!(told.contains(fault), "{fault} in\n{told}");
    }
    assert!(told.contains(&*file.to_string_lossy()), "names the file:\n{told}");
}

#[test]
fn a_machine_that_is_no_pi_is_told_once_and_systemd_hears_that_the_agent_lives() {
    if skipped("cross") {
        return;
    }
    ["rpi-4b", "rpi-zero-w"].into_iter().for_each(systemd_hears_of_the_agent_for);
}

fn systemd_hears_of_the_agent_for(board: &str) {
    let program = shipped::built(board);
    let folder = tempfile::tempdir().unwrap();
    // No broker, no Docker: the agent waits for both.
    let config = format!(
        "node = \"shed\"\ncluster_uid = \"u\"\nboard = \"auto\"\ndata_dir = {:?}\n\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n\n[docker]\nsocket = {:?}\n",
        folder.path(),
        folder.path().join("docker.sock")
    );
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, config).unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(SOON)).unwrap();
    let mut heard = Vec::new();
    let mut hear_until = |wanted: &str| {
        while heard.last().is_none_or(|last| last != wanted) {
            let mut buffer = [0; 64];
            let length = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted} after {heard:?}: {error}"));
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        heard.clone()
    };
    let mut command = arm(&program, [OsStr::new("agent"), "--config".as_ref(), file.as_ref()]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "500000");
    let log = folder.path().join("log");
    let agent = Running::start(command, &log);
    assert_eq!(hear_until("READY=1"), ["READY=1"]);
    hear_until("WATCHDOG=1");
    wait_until("its word about the LEDs", SOON, || {
        let told = std::fs::read_to_string(&log).unwrap();
        if told.contains("no LEDs") { Ok(()) } else { Err(told) }
    });
    assert_eq!(agent.end(), Some(0), "{}", std::fs::read_to_string(&log).unwrap());
    hear_until("STOPPING=1");
    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(told.matches("no LEDs").count(), 1, "{told}");
    assert!(told.contains("board generic"), "{told}");
}

#[test]
fn the_agent_joins_a_master_and_runs_its_pods() {
    if skipped("cross") {
        return;
    }
    let program = shipped::built("rpi-4b");
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let node = |name: &str| cluster.get(&["node", name]);
    let architecture = |node: &Value| {
        (node["status"]["nodeInfo"]["architecture"].clone(), node["metadata"]["labels"]["kubernetes.io/arch"].clone())
    };

    // The second node's agent goes, and the one for a Pi takes its seat: its data, its certificate, and a Pi's board, so that
    // rppal looks for pins.
    let native = cluster.agent_pid("bramble-2");
    signal(native, "TERM");
    wait_until("the end of the native agent", SOON, || if lives(native) { Err(format!("{native} lives")) } else { Ok(()) });
    let home = cluster.dir.join("nodes/bramble-2");
    let written = std::fs::read_to_string(home.join("agent.toml")).unwrap();
    let config = written.replace("board = \"simulated\"", "board = \"rpi-4b\"\nleds.hats = [\"plain\"]");
    assert_ne!(config, written, "the board stands in\n{written}");
    let file = home.join("arm.toml");
    std::fs::write(&file, config).unwrap();
    let log = cluster.dir.join("logs/arm.log");
    let from = Instant::now();
    let agent = Running::start(arm(&program, [OsStr::new("agent"), "--config".as_ref(), file.as_ref()]), &log);

    let arm_node = wait_until("bramble-2 Ready as arm64", SOON, || {
        let node = node("bramble-2");
        let seen = architecture(&node);
        if is_ready(&node) && seen == ("arm64".into(), "arm64".into()) {
            Ok(node)
        } else {
            Err(format!("{seen:?} {}", node["status"]["conditions"]))
        }
    });
    println!("the emulated node was ready after {:.1} s", from.elapsed().as_secs_f64());
    assert_eq!(arm_node["metadata"]["labels"]["node.kubernetes.io/instance-type"], "raspberry-pi-4b");
    assert!(cluster.pids().contains(&i32::try_from(agent.0.id()).unwrap()), "it holds the node's seat: {}", cluster.status());

    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: on-arm, labels: {app: on-arm}}\nspec:\n  nodeSelector: {kubernetes.io/arch: arm64, kubernetes.io/hostname: bramble-2}\n  \
         containers: [{name: main, image: 'web:1'}]\n",
    );
    let pods = cluster.wait_ready("app=on-arm", 1, SOON);
    assert_eq!(pods[0]["spec"]["nodeName"], "bramble-2", "{}", summary(&pods));
    wait_until("the agent's event about its pod", SOON, || {
        let events = cluster.get(&["events", "--field-selector", "involvedObject.name=on-arm"]);
        let reasons: Vec<String> = events["items"].as_array().unwrap().iter().map(|event| event["reason"].to_string()).collect();
        if reasons.iter().any(|reason| reason == "\"Started\"") { Ok(()) } else { Err(format!("{reasons:?}")) }
    });
    cluster.kubectl(&["delete", "pod", "on-arm", "--grace-period=1", "--timeout=40s"]).expect();

    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        told.matches("8 LEDs on pins: cannot use the GPIO pins of board rpi-4b: Unknown Raspberry Pi model").count(),
        1,
        "rppal found no Pi, and that was said once:\n{told}"
    );
    assert_eq!(agent.end(), Some(0), "{told}");
    let from = Instant::now();
    wait_until("bramble-2 not ready", SOON, || if is_ready(&node("bramble-2")) { Err("ready".to_owned()) } else { Ok(()) });
    println!("the master saw it go after {:.1} s", from.elapsed().as_secs_f64());
}
