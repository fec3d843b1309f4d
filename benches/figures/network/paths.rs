//! From pod to pod: the bytes and the time of each way, against a bare pair of virtual cards.
//!
//! ```text
//!   x ══ y                    bare
//!   a, b ─ br-pods ─ one ─┐
//!                         ├─ lan (a bridge)     by route, then by VXLAN
//!   c ──── br-pods ─ two ─┘
//! ```

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::lab::{Lab, Running};
use super::shares::{add, share};
use crate::Setup;
use crate::table::{Table, quantile};

/// As beside Docker: what a bridge forwards passes the rules as well.
const BRIDGE_RULES: &str =
    "modprobe br_netfilter 2>/dev/null; sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.ipv4.ip_forward=1";
const NODES: &[(&str, u8, &str)] = &[("one", 1, "192.0.2.1"), ("two", 2, "192.0.2.2")];
const NEAR: &str = "10.244.1.3:8080";
const FAR: &str = "10.244.2.2:8080";
const SERVICE_NEAR: &str = "10.96.0.20:80";
const SERVICE_FAR: &str = "10.96.0.21:80";

/// A way, and what was measured on it.
struct Way {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    rates: Vec<f64>,
    trips: Vec<f64>,
    connections: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, from: &'static str, to: &'static str) -> Self {
        Self { name, from, to, rates: Vec::new(), trips: Vec::new(), connections: Vec::new() }
    }

    /// One round; the ways take turns, so that what else runs here meets all.
    fn round(&mut self, lab: &Lab, ms: u64) -> anyhow::Result<()> {
        let figure = |words: &str, key: &str| -> anyhow::Result<f64> {
            let said = lab.figures(self.from, words)?;
            said.get(key).and_then(Value::as_f64).with_context(|| format!("{words}: {said}"))
        };
        self.rates.push(figure(&format!("stream {} {ms}", self.to), "bytes_per_second")?);
        self.trips.push(figure(&format!("trips {} {ms}", self.to), "p50")?);
        self.connections.push(figure(&format!("connections {} 300", self.to), "p50")?);
        Ok(())
    }
}

fn middle(samples: &[f64]) -> f64 {
    quantile(samples, 0.5).unwrap_or_default()
}

/// Of bytes: a stream takes two cores, which it has only for moments on a machine that does other things.
fn best(samples: &[f64]) -> f64 {
    quantile(samples, 1.0).unwrap_or_default()
}

/// All ways.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let mut lab = Lab::new();
    let mut nodes = build(&mut lab)?;
    let mut servers = Vec::new();
    for (host, at) in [("y", "198.51.100.2:8080"), ("b", NEAR), ("c", FAR), ("two", "192.0.2.2:8080")] {
        servers.push(lab.start(host, &format!("serve {at}"))?);
    }
    tell(&lab, &mut nodes, "route")?;
    let ways = [
        Way::new("bare veth", "x", "198.51.100.2:8080"),
        Way::new("node to node, without pods", "one", "192.0.2.2:8080"),
        Way::new("pod to pod, same node", "a", NEAR),
        Way::new("pod to service, same node", "a", SERVICE_NEAR),
        Way::new("pod to pod, across by route", "a", FAR),
        Way::new("pod to service, across by route", "a", SERVICE_FAR),
    ];
    let mut ways = rounds(setup, &lab, ways.into())?;
    tell(&lab, &mut nodes, "vxlan")?;
    // The bare one again, for what else runs by now.
    let tunnel = [
        Way::new("bare veth", "x", "198.51.100.2:8080"),
        Way::new("pod to pod, across by VXLAN", "a", FAR),
        Way::new("pod to service, across by VXLAN", "a", SERVICE_FAR),
    ];
    let tunnel = rounds(setup, &lab, tunnel.into())?;
    rows(table, &ways)?;
    rows(table, &tunnel)?;
    ways.extend(tunnel);
    against(table, &ways)
}

fn build(lab: &mut Lab) -> anyhow::Result<Vec<Running>> {
    for host in ["lan", "one", "two", "a", "b", "c", "x", "y"] {
        lab.add(host)?;
    }
    lab.cable(("x", "198.51.100.1/24"), ("y", "198.51.100.2/24"))?;
    lab.bridge("lan", "lan")?;
    let mut nodes = Vec::new();
    for (node, third, address) in NODES {
        lab.plug("lan", "lan", node, &format!("{address}/24"))?;
        lab.bridge(node, "br-pods")?;
        lab.inside(node, &format!("ip addr add 10.244.{third}.1/24 dev br-pods && {BRIDGE_RULES}"))?;
    }
    for (pod, node, third, last) in [("a", "one", 1, 2), ("b", "one", 1, 3), ("c", "two", 2, 2)] {
        lab.plug(node, "br-pods", pod, &format!("10.244.{third}.{last}/24"))?;
        lab.inside(pod, &format!("ip route add default via 10.244.{third}.1"))?;
    }
    for (node, third, _) in NODES {
        nodes.push(lab.start(node, &format!("node {node} 10.244.{third}.0/24"))?);
    }
    Ok(nodes)
}

/// Tells both nodes, and waits until they have done it.
fn tell(lab: &Lab, nodes: &mut [Running], back_end: &str) -> anyhow::Result<()> {
    let mut share = share(back_end, NODES)?;
    let host = |at: &str| vec![at.trim_end_matches(":8080").to_owned()];
    add(&mut share, "near", SERVICE_NEAR.trim_end_matches(":80"), &host(NEAR))?;
    add(&mut share, "far", SERVICE_FAR.trim_end_matches(":80"), &host(FAR))?;
    let line = serde_json::to_string(&share)?;
    for node in nodes {
        node.tell(&line)?;
    }
    let tunnel = back_end == "vxlan";
    for (node, other) in [("one", "10.244.2.2"), ("two", "10.244.1.2")] {
        crate::cluster::wait(&format!("{node} sends by {back_end}"), Duration::from_secs(20), || {
            let said = lab.inside(node, &format!("ip route get {other}")).unwrap_or_default();
            Ok(said.contains(if tunnel { "dev bvx" } else { "via 192.0.2." }))
        })?;
    }
    for to in [NEAR, FAR, SERVICE_NEAR, SERVICE_FAR] {
        lab.until("a", &format!("connections {to} 1"))?;
    }
    Ok(())
}

fn rounds(setup: &Setup, lab: &Lab, mut ways: Vec<Way>) -> anyhow::Result<Vec<Way>> {
    for _ in 0..setup.choose(9, 2) {
        for way in &mut ways {
            way.round(lab, 500)?;
        }
    }
    Ok(ways)
}

fn rows(table: &mut Table, ways: &[Way]) -> anyhow::Result<()> {
    let bare = ways.first().context("no way")?;
    for way in ways {
        let ratio = |of: fn(&Way) -> &[f64]| middle(of(way)) / middle(of(bare)).max(f64::EPSILON);
        let us = |nanoseconds: f64| nanoseconds / 1000.0;
        let (trip, connection) = (middle(&way.trips), middle(&way.connections));
        table.row(
            way.name,
            "",
            &format!(
                "{:.1} Gbit/s = **{:.2} ×**; there and back {:.1} µs = **{:.2} ×**, {:+.1} µs; a new connection {:.0} µs = {:.2} ×",
                best(&way.rates) * 8.0 / 1e9,
                best(&way.rates) / best(&bare.rates).max(f64::EPSILON),
                us(trip),
                ratio(|way| &way.trips),
                us(trip - middle(&bare.trips)),
                us(connection),
                ratio(|way| &way.connections),
            ),
            &format!("TCP, one stream; of {} rounds that take turns the best for bytes and the middle for times; × of the bare one's", way.rates.len()),
        );
    }
    Ok(())
}

/// Services against the same pods asked directly.
fn against(table: &mut Table, ways: &[Way]) -> anyhow::Result<()> {
    for how in ["same node", "across by route", "across by VXLAN"] {
        let find = |what: &str| {
            let name = format!("pod to {what}, {how}");
            ways.iter().find(|way| way.name == name).with_context(|| name.clone())
        };
        let (direct, service) = (find("pod")?, find("service")?);
        let ratio = |of: fn(&Way) -> &[f64]| middle(of(service)) / middle(of(direct)).max(f64::EPSILON);
        table.row(
            &format!("service against direct, {how}"),
            "",
            &format!(
                "bytes {:.2} ×, there and back {:.2} ×, a new connection {:.2} × ({:+.0} µs)",
                best(&service.rates) / best(&direct.rates).max(f64::EPSILON),
                ratio(|way| &way.trips),
                ratio(|way| &way.connections),
                (middle(&service.connections) - middle(&direct.connections)) / 1000.0
            ),
            "of the rows above",
        );
    }
    Ok(())
}
