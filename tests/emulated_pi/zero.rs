//! A Pi Zero W: the static program for ARMv6, in a cluster like a larger one.

use std::time::{Duration, Instant};

use super::cluster::{FAST, LONG_SHORT, NODE, PODS, SLOW, SOON, apply, booted, eight_outputs, ends_dark, joined, pod};
use super::guest::Guest;
use super::machine::PI_ZERO_W;
use super::shipped;
use super::support::skipped;

#[test]
fn a_pi_zero_w_joins_and_its_pins_follow_its_pods() {
    if skipped("pi") {
        return;
    }
    let program = shipped::built("rpi-zero-w");
    let (mut home, mut pi) = booted(&PI_ZERO_W, &Guest::armel(), &program);
    let before = pi.functions();
    pi.watch_pins();
    let (agent, start, node) = joined(&home, &mut pi, "pi-zero");
    let labels = &node["metadata"]["labels"];
    assert_eq!(labels["node.kubernetes.io/instance-type"], "raspberry-pi-zero-w", "{labels}");
    assert_eq!(labels["kubernetes.io/arch"], "arm");
    eight_outputs(&pi, before);
    pi.trace.wait_steady(NODE, Instant::now(), true, Duration::from_secs(2), SOON);

    let applied = apply(
        &home,
        &[pod("pi-zero", "calm", "", ""), pod("pi-zero", "crash", "bramble/simulate: exit=1 after=50ms, bramble/led: pod-2", "")]
            .concat(),
    );
    println!("while it is fetched: {:?}", pi.trace.wait_pattern(PODS[0], applied, SLOW, 3, SOON));
    pi.trace.wait_steady(PODS[0], applied, true, Duration::from_secs(2), SOON);
    println!("crash loop: {:?}", pi.trace.wait_pattern(PODS[1], applied, FAST, 15, SOON));
    let lost = Instant::now();
    home.master.stop();
    println!("without its master: {:?}", pi.trace.wait_pattern(NODE, lost, LONG_SHORT, 3, SOON));
    ends_dark(&mut pi, agent, before);
    let (samples, gap) = pi.trace.quality(start);
    println!("{samples} looks at the pins, {} ms apart at most", gap.as_millis());
}
