//! Between the segments each packet takes its time, as by radio or over the city.

use std::time::Duration;

use super::delay::Delay;
use super::inside::{asks, sends};
use super::lan::Lan;
use super::node::{Node, dual, share};
use super::segments::{HOSTS, Segments, address};

const MEGABYTE: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn pods_reach_each_other_over_a_line_that_takes_its_time() {
    let mut segments = Segments::new("delay");
    let all = [("a", 1, address("one"), ""), ("b", 2, address("two"), ""), ("c", 3, address("three"), "")];
    let all = dual(&share("auto", &all), &[]);
    let nodes: Vec<Node> = ["a", "b", "c"]
        .into_iter()
        .zip(HOSTS)
        .zip(1..)
        .map(|((name, (host, _, _)), third)| Node::start(&mut segments.hosts, "uid-delay", name, host, third, &all))
        .collect();
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    for held in [50, 200].map(Duration::from_millis) {
        let delay = Delay::start(&segments.hosts.name("router"), held);
        for at in [&c.pod_address, &c.pod_address6] {
            let (took, _) = asks(&a.pod, at, 10, PATIENCE).unwrap_or_else(|| panic!("{at} over {held:?}"));
            assert!(took >= 2 * held, "an answer from {at} after {took:?} over a line of {held:?}");
            // What is too large for the tunnel comes in parts, and TCP finds what fits.
            asks(&a.pod, at, 60_000, PATIENCE).unwrap_or_else(|| panic!("60,000 bytes to {at} over {held:?}"));
            let sent = sends(&a.pod, at, MEGABYTE, PATIENCE).unwrap_or_else(|| panic!("a megabyte to {at} over {held:?}"));
            println!("{at} over {held:?}: answered after {took:?}, a megabyte in {sent:?}");
        }
        let near = quickest(a, &b.pod_address);
        assert!(near < held, "{near:?}: on the segment nothing is held");
        let carried = delay.end();
        println!("{held:?}: {carried:?}");
        assert!(carried.packets > 1000, "{carried:?}");
    }
    let took = quickest(a, &c.pod_address);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// The quickest of some answers: others may have the machine for a moment.
fn quickest(from: &Node, at: &str) -> Duration {
    let asked = (0..10).map(|_| asks(&from.pod, at, 10, PATIENCE).expect("an answer").0);
    asked.min().unwrap()
}

#[test]
fn a_node_joins_and_stays_ready_over_a_line_that_takes_its_time() {
    let segments = Segments::new("late");
    let delay = Delay::start(&segments.hosts.name("router"), Duration::from_millis(200));
    let lan = Lan { hosts: segments.hosts, dir: tempfile::Builder::new().prefix("bramble-late-").tempdir().unwrap() };
    let hub = lan.master("one", "");
    let url = format!("https://{}:6443", address("one"));
    let mut three = lan.agent("three", &["--join", &url, "--token", &lan.token(&hub)]);
    lan.wait_nodes(&hub, &["three Ready"]);
    // And stays so.
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(lan.nodes(&hub), ["three Ready"]);
    }
    // It goes and comes back.
    three.kill();
    let _three = lan.agent("three", &["--join", &url]);
    lan.wait_nodes(&hub, &["three Ready"]);
    println!("{:?}", delay.end());
}
