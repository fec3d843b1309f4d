//! Machines where pins cannot be had, or not in the best way: what the agent says and does, without a master.

use std::time::{Duration, Instant};

use super::cluster::{LONG_SHORT, NODE, SOON, eight_outputs, ends_dark};
use super::guest::{File, Guest};
use super::machine::{NO_PI, PI_3B, Pi, Setup};
use super::shipped;
use super::support::skipped;
use super::trace::changed;

/// The pin of the ACT LED, as `guest.sh` has it.
const ACT: u8 = 29;

/// A node whose master is not there, and no Docker either: it waits for both.
fn config(more: &str) -> String {
    format!("node = \"alone\"\ncluster_uid = \"u\"\n{more}\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n")
}

#[test]
fn a_machine_that_is_no_pi_is_generic_and_says_once_that_it_has_no_leds() {
    if skipped("pi") {
        return;
    }
    let program = shipped::built("rpi-3b");
    let files = [File::agent(&program), File::text("etc/bramble/agent.toml", &config(""))];
    let mut pi = Pi::boot(&NO_PI, &Guest::arm64(), &files);
    assert_eq!(pi.good("tr '\\0' ' ' </proc/device-tree/compatible").trim(), "linux,dummy-virt");
    let agent = pi.start_agent("agent", "bramble agent");
    let log = pi.log_with("agent", "no LEDs");
    assert!(log.contains("board generic"), "{log}");
    std::thread::sleep(Duration::from_secs(3));
    pi.end(agent);
    let log = pi.log("agent");
    assert_eq!(log.matches("no LEDs").count(), 1, "{log}");
}

#[test]
fn where_the_processors_registers_are_refused_the_kernel_drives_the_leds_and_who_may_not_is_told_what_to_do() {
    if skipped("pi") {
        return;
    }
    let program = shipped::built("rpi-3b");
    let files = [
        File::agent(&program),
        File::text("etc/bramble/hat.toml", &config("[leds]\nhats = [\"plain\"]")),
        File::text("etc/bramble/bare.toml", &config("board = \"auto\"")),
        File::text("etc/bramble/nobody.toml", &config("runtime = \"simulated\"\nboard = \"rpi-3b\"\n[leds]\nhats = [\"plain\"]")),
    ];
    // Without `iomem=relaxed` Debian's kernel gives /dev/mem to nobody, and it has no /dev/gpiomem.
    let setup = Setup { kernel: "console=ttyAMA0,115200", ..PI_3B };
    let mut pi = Pi::boot(&setup, &Guest::arm64(), &files);
    let (code, refused) = pi.run("devmem 0x3f200034");
    assert_ne!(code, 0, "the kernel lets root read registers: this proves nothing ({refused})");
    let before = pi.functions();
    pi.watch_pins();

    // The eight LEDs of a HAT, by /dev/gpiochip0.
    let from = Instant::now();
    let agent = pi.start_agent("hat", "bramble agent --config /etc/bramble/hat.toml");
    println!("by the character device, without a master: {:?}", pi.trace.wait_pattern(NODE, from, LONG_SHORT, 3, SOON));
    eight_outputs(&pi, before);
    // While it drives them nobody else does, and what it shows goes on.
    let (code, told) = pi.run("bramble leds test --hat plain");
    assert!(code == 1 && told.contains("a Bramble agent") && told.contains("bramble leds show"), "{code}: {told}");
    pi.trace.wait_pattern(NODE, Instant::now(), LONG_SHORT, 2, SOON);
    ends_dark(&mut pi, agent, before);
    println!("one by one, when the agent has ended: {}", pi.good("bramble leds test --hat plain"));

    // The board by itself has only its own LED, by the LED class; the kernel's trigger comes back.
    let trigger = "sed 's/.*\\[\\(.*\\)\\].*/\\1/' /sys/class/leds/ACT/trigger";
    assert_eq!(pi.good(trigger).trim(), "heartbeat", "so Debian's device tree has it");
    let from = Instant::now();
    let agent = pi.start_agent("bare", "bramble agent --config /etc/bramble/bare.toml");
    println!("ACT: {:?}", pi.trace.wait_pattern(ACT, from, LONG_SHORT, 3, SOON));
    assert_eq!(pi.good(trigger).trim(), "none");
    assert_eq!(changed(before, pi.functions()), [], "nobody said that there are LEDs on the header");
    pi.end(agent);
    assert_eq!(pi.good(trigger).trim(), "heartbeat");

    // Killed: what systemd then calls leaves an LED blinking that needs no program.
    let agent = pi.start_agent("killed", "bramble agent --config /etc/bramble/bare.toml");
    pi.trace.wait_pattern(ACT, Instant::now(), LONG_SHORT, 1, SOON);
    pi.good(&format!("kill -KILL {agent}"));
    pi.good("SERVICE_RESULT=signal bramble leds died --config /etc/bramble/bare.toml");
    let from = Instant::now();
    println!("after the agent was killed: {:?}", pi.trace.wait_pattern(ACT, from, &[100, 900], 3, SOON));
    assert_eq!(pi.good(trigger).trim(), "timer");

    // Neither right: it says so, and what to do; the node itself goes on.
    let agent =
        pi.start_agent("nobody", "su nobody -c \"exec bramble agent --config /etc/bramble/nobody.toml --data-dir /tmp/nobody\"");
    let log = pi.log_with("nobody", "gpio");
    assert!(log.contains("Permission denied") && log.contains("group gpio"), "{log}");
    pi.log_with("nobody", "no connection to the broker");
    pi.end(agent);
    assert_eq!(changed(before, pi.functions()), []);
}
