//! A guest in QEMU with Debian's kernel, for what this machine's kernel may not have. It runs this very test program, and what is proved is proved there.
//!
//! ```text
//!  tests/guest/make: kernel, modules, this program ─▶ QEMU ─▶ tests/guest/init ─▶ program --ignored ─▶ serial console ─▶ here
//! ```
//!
//! QEMU computes every instruction, so that it runs on machines without virtualisation as well: slow, but the same everywhere.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For all of it.
const DEADLINE: Duration = Duration::from_secs(420);

/// Runs those tests of this program that are left to a guest, by a part of their names; what it said.
///
/// # Panics
/// When the guest does not end in time, or not well.
pub fn run(tests: &str, modules: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let command = format!("/program --ignored --test-threads=1 --nocapture {tests} 2>&1");
    let make = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/make");
    let made = Command::new(make).arg(directory.path()).arg(program).arg(command).args(modules).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| directory.path().join(name).into_os_string();
    let mut guest = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"])
        .arg("-kernel")
        .arg(file("vmlinuz"))
        .arg("-initrd")
        .arg(file("initrd"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-system-x86_64 (Debian: qemu-system-x86)");
    let (console, lines) = mpsc::channel();
    let output = BufReader::new(guest.stdout.take().unwrap());
    // It ends with the guest.
    let reader = std::thread::spawn(move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            if console.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let (began, mut said) = (Instant::now(), String::new());
    while let Ok(line) = lines.recv_timeout(DEADLINE.saturating_sub(began.elapsed())) {
        println!("guest: {line}");
        said.push_str(&line);
        said.push('\n');
    }
    let in_time = began.elapsed() < DEADLINE;
    let _ = guest.kill();
    guest.wait().unwrap();
    reader.join().unwrap();
    assert!(in_time, "the guest does not end");
    assert!(said.lines().any(|line| line == "GUEST-ENDED 0"), "it did not end well");
    println!("the guest took {:?}", began.elapsed());
    said
}
