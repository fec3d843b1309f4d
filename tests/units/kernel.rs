//! The units on a kernel of their own, in QEMU: what a container cannot show. Limits as the kernel holds them, a clock of 1970, and a watchdog
//! device.
//!
//! Needs: qemu-system-x86, cpio, and Debian's smallest kernel, which is fetched once and kept. Not emulated: a Pi; that is tests/emulated_pi.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{Root, cache, run};
use crate::running::{CONFIG, root};
use crate::support::skipped;
use crate::unit;

/// Emulated without the processor's help, beside compilers.
const MOST: Duration = Duration::from_secs(280);

/// Debian's kernel for virtual machines, unpacked.
fn kernel() -> PathBuf {
    let said = Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let package =
        said.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).expect("apt's lists: apt-get update").to_owned();
    let (cache, _lock) = cache();
    let place = cache.join(&package);
    if !place.exists() {
        let new = cache.join("new-kernel");
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir(&new).unwrap();
        run(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(&new));
        let deb = std::fs::read_dir(&new).unwrap().next().unwrap().unwrap().path();
        run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(new.join("kernel")));
        std::fs::rename(new.join("kernel"), &place).unwrap();
    }
    place
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { path.file_name()?.to_str()?.starts_with(name).then_some(path) }
    })
}

/// Starts a kernel whose whole disk is this root, in memory; a shell runs `script` once all has started. What stood on the console.
fn boot(root: &Root, script: &str, more: &[&str]) -> String {
    let kernel = kernel();
    for (place, module) in ["watchdog.ko", "softdog.ko"].iter().enumerate() {
        let file = find(&kernel.join("lib"), module).unwrap_or_else(|| panic!("{module} in {}", kernel.display()));
        let kind = file.file_name().unwrap().to_str().unwrap().trim_start_matches(module).to_owned();
        std::fs::copy(&file, root.path().join(format!("root/{place}.ko{kind}"))).unwrap();
    }
    root.write("/root/prove.sh", &format!("exec >/dev/ttyS0 2>&1\n{script}\necho PROVED\npoweroff -f\n"));
    root.write("/etc/systemd/system/prove.service", "[Service]\nType=oneshot\nExecStart=/bin/sh /root/prove.sh\n");
    root.write("/etc/systemd/system/prove.timer", "[Timer]\nOnActiveSec=1\n");
    root.enable("prove.timer", "multi-user.target");
    // It would take the console away from the script.
    symlink("/dev/null", root.path().join("etc/systemd/system/serial-getty@ttyS0.service")).unwrap();
    symlink("lib/systemd/systemd", root.path().join("init")).unwrap();
    let disk = root.path().with_extension("cpio");
    run(Command::new("sh").args(["-c", "find . -xdev | cpio --quiet -o -H newc >\"$0\""]).arg(&disk).current_dir(root.path()));
    let image = find(&kernel.join("boot"), "vmlinuz").unwrap();
    let console = root.path().with_extension("console");
    let out = std::fs::File::create(&console).unwrap();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-cpu", "max", "-smp", "2", "-m", "1500", "-nic", "none", "-display", "none", "-no-reboot"]);
    qemu.args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=1 systemd.show_status=0"]).args(more);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(&disk);
    let begun = Instant::now();
    let mut child = qemu.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap_or_else(|error| {
        panic!("qemu-system-x86_64: {error}: apt-get install qemu-system-x86, or leave this out with BRAMBLE_SKIP=systemd")
    });
    while child.try_wait().unwrap().is_none() && begun.elapsed() < MOST {
        std::thread::sleep(Duration::from_millis(200));
    }
    let _ = child.kill();
    let _ = child.wait();
    let said = String::from_utf8_lossy(&std::fs::read(console).unwrap()).into_owned();
    println!("the emulated machine was on for {:.0} s", begun.elapsed().as_secs_f64());
    assert!(said.contains("PROVED"), "{said}");
    said
}

/// In order: what is shown, and the command that shows it. Each word stands before each line of what its command says.
const SCRIPT: &str = r#"
show() { key=$1; shift; "$@" 2>&1 | sed "s/^/$key: /"; }
show booted date -u +%Y
insmod /root/0.ko*; insmod /root/1.ko*
# systemd put it to when it was built; a time service that finds nobody leaves it so, and other distributions leave 1970.
date -s '1970-01-01 00:05:00' >/dev/null
systemctl daemon-reexec
until systemctl show --property=Version >/dev/null 2>&1; do sleep 1; done
show watchdog systemctl show --property=RuntimeWatchdogUSec --property=WatchdogDevice
systemctl start bramble-master || journalctl -u bramble-master
token=$(bramble token create --data-dir /var/lib/bramble | sed 's/.*--token //')
echo "token = \"$token\"" >>/etc/bramble/agent.toml
systemctl start bramble-agent || journalctl -u bramble-agent
for _ in $(seq 60); do systemctl show --property=StatusText bramble-agent | grep -q '=runs' && break; sleep 1; done
show status systemctl show --value --property=StatusText bramble-agent
group=/sys/fs/cgroup$(systemctl show --value --property=ControlGroup bramble-agent)
show max cat $group/memory.max
show high cat $group/memory.high
show peak cat $group/memory.peak
show score cat /proc/$(systemctl show --value --property=MainPID bramble-agent)/oom_score_adj
show master cat /sys/fs/cgroup$(systemctl show --value --property=ControlGroup bramble-master)/memory.max
date -s '2026-11-30 01:00:00' >/dev/null
for _ in $(seq 60); do journalctl -u bramble-agent | grep -q 'was set from' && break; sleep 1; done
for _ in $(seq 60); do systemctl show --property=StatusText bramble-agent | grep -q '=runs$' && break; sleep 1; done
for _ in $(seq 60); do bramble node list --data-dir /var/lib/bramble | grep -q ' Ready' && break; sleep 1; done
show later systemctl show --value --property=StatusText bramble-agent
show nodes bramble node list --data-dir /var/lib/bramble
show log journalctl -u bramble-agent -u bramble-master -o cat
"#;

#[test]
fn limits_stand_in_the_kernel_a_watchdog_is_fed_and_a_board_in_1970_joins() {
    if skipped("systemd") {
        return;
    }
    if cfg!(not(target_arch = "x86_64")) {
        println!("NOT RUN: the kernel that this test boots is for x86-64");
        return;
    }
    let root = root(CONFIG);
    root.write("/etc/systemd/system.conf.d/bramble-watchdog.conf", &unit("watchdog.conf"));
    let console = boot(&root, SCRIPT, &["-rtc", "base=1970-01-01T00:02:00"]);
    let mut shown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in console.lines().filter_map(|line| line.trim_end().split_once(": ")) {
        shown.entry(key).or_default().push(value);
    }
    let first = |key: &str| shown.get(key).and_then(|all| all.first().copied()).unwrap_or_else(|| panic!("no {key}: {console}"));
    assert_eq!((first("max"), first("high")), ("134217728", "67108864"), "bytes");
    assert_eq!(first("score"), "-900");
    let peak: u64 = first("peak").parse().unwrap();
    assert!(peak < 32 << 20, "{peak} bytes are far below the limits");
    println!("the most memory that the agent had, its pages of the program not counted: {peak} bytes");
    let master: u64 = first("master").parse().unwrap();
    assert!((700 << 20..1000 << 20).contains(&master), "60 % of the machine's: {master}");
    assert!(
        shown["watchdog"].contains(&"RuntimeWatchdogUSec=14s") && shown["watchdog"].contains(&"WatchdogDevice=/dev/watchdog0"),
        "{shown:?}"
    );

    assert_ne!(first("booted"), "1970", "systemd does not leave it there");
    assert!(first("status").starts_with("runs; the clock is not set, it shows 1970-01-01T00:0"), "{}", first("status"));
    assert_eq!(first("later"), "runs");
    let log = shown["log"].join("\n");
    assert_eq!(log.matches("the clock is not set").count(), 1, "{log}");
    assert!(log.contains("the clock was set from 1970-01-01T00:0") && log.contains("joined node=\"shed\""), "{log}");
    assert!(shown["nodes"].iter().any(|line| line.contains("shed") && line.contains(" Ready")), "{:?}", shown["nodes"]);
}
