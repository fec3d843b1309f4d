//! A node with many services: the agent's memory, and how soon a pod that is ready is reached through its service.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::shares::{ENDPOINTS, addresses, slice};
use crate::Setup;
use crate::alone::Alone;
use crate::api::{self, Client};
use crate::cluster::{Cluster, Probes, is, pod, wait};
use crate::engine::{Engine, IMAGE};
use crate::memory::{idle, told};
use crate::process;
use crate::table::{Table, milliseconds, quantile, quantiles};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Between tries to connect.
const STEP: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// One node with Docker, and more and more services.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let _lan = Lan::new()?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    let agent = Alone::agent(setup, &cluster, &folder)?;
    let address = cluster.address()?;
    let which = if setup.agent.is_some() { "the agent's own program" } else { "a copy of the whole program" };
    let mut there = 0;
    for services in [0, 10, 100, 1000] {
        let before = [process::cpu(agent.pid())?, process::cpu(cluster.master()?)?];
        // A connection of its own: the API closes those that are silent for long.
        let mut client = Client::connect(&address)?;
        let mut last = None;
        for number in there..services {
            last = Some(add(&mut client, number)?);
        }
        there = services;
        if let Some(ip) = last {
            wait("the kernel has the last service", PATIENCE, || Ok(kernel()?.contains(&format!("{ip} "))))?;
        }
        let cost = [process::cpu(agent.pid())? - before[0], process::cpu(cluster.master()?)? - before[1]];
        let seen = idle(setup, &[agent.pid(), cluster.master()?])?;
        let (one, master) = (seen.first().context("no agent")?, seen.get(1).context("no master")?);
        table.row(
            &format!("agent, 1 node with Docker, 0 pods, {services} services"),
            "6 MiB, 0.1 %",
            &told(one),
            &format!(
                "{which}; {ENDPOINTS} endpoints each; master {}; to get there agent {}, master {} of CPU",
                told(master),
                milliseconds(cost[0]),
                milliseconds(cost[1])
            ),
        );
        changes(setup, table, &mut Client::connect(&address)?, services)?;
        if services == 0 || services == 1000 {
            ready(setup, table, &address, services)?;
        }
        if services == 1000 {
            names(setup, table, agent.pid(), gateway(&address)?)?;
        }
    }
    Ok(())
}

/// A card with a default route, as every node has one: what a node sends to a service's address is turned round only after a route for
/// it was found. The [`Engine`] has made sure that this network namespace is our own.
struct Lan;

impl Lan {
    fn new() -> anyhow::Result<Self> {
        let line = "ip link add lan type veth peer name far && ip addr add 192.0.2.1/24 dev lan && ip link set far up && \
                    ip link set lan up && ip route add default via 192.0.2.254";
        let made = Command::new("sh").args(["-c", line]).status()?;
        anyhow::ensure!(made.success(), "cannot make a card");
        Ok(Self)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // One that is gone already is as wanted.
        let _ = Command::new("ip").args(["link", "delete", "lan"]).status();
    }
}

/// A service with endpoints written by hand; its address.
fn add(client: &mut Client, number: usize) -> anyhow::Result<String> {
    let name = format!("s{number}");
    let made = client.post(SERVICES, &service(&name, &Value::Null))?;
    client.post(SLICES, &slice(&name, &addresses(number)))?;
    cluster_ip(&made)
}

fn service(name: &str, selector: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

fn cluster_ip(service: &Value) -> anyhow::Result<String> {
    let ip = service.pointer("/spec/clusterIP").and_then(Value::as_str);
    Ok(ip.with_context(|| format!("a service without an address: {service}"))?.to_owned())
}

fn kernel() -> anyhow::Result<String> {
    let said = Command::new("nft").args(["list", "ruleset"]).output().context("nft is needed")?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Pods one after the other, each with a service that is there before it.
fn ready(setup: &Setup, table: &mut Table, address: &api::Address, services: usize) -> anyhow::Result<()> {
    let mut client = Client::connect(address)?;
    let events = api::watch(address, PODS)?;
    let (mut after_ready, mut after_post) = (Vec::new(), Vec::new());
    for turn in 0..=setup.choose(20, 5) {
        let name = format!("served-{services}-{turn}");
        let made = client.post(SERVICES, &service(&name, &json!({"app": name})))?;
        let to = SocketAddr::new(cluster_ip(&made)?.parse()?, 80);
        let begun = Instant::now();
        client.post(PODS, &pod(&name, IMAGE, Probes::Http(1)))?;
        let gone = Arc::new(AtomicBool::new(false));
        let first = std::thread::spawn({
            let gone = gone.clone();
            move || first_connection(to, &gone)
        });
        let seen =
            api::await_event(&events, "the pod is ready", |event| api::name(&event.object) == name && is(&event.object, "Ready"));
        let connected = first.join().ok().flatten();
        gone.store(true, Ordering::Relaxed);
        let (seen, connected) = (seen?.at, connected.context("the service was not reached")?);
        // The first one warms up.
        if turn > 0 {
            let more =
                connected.saturating_duration_since(seen).as_secs_f64() - seen.saturating_duration_since(connected).as_secs_f64();
            after_ready.push(more * 1000.0);
            after_post.push(connected.duration_since(begun));
        }
        for path in [format!("{PODS}/{name}"), format!("{SERVICES}/{name}")] {
            client.delete(&path)?;
        }
        api::await_event(&events, "the pod is gone", |event| api::name(&event.object) == name && event.kind == "DELETED")?;
    }
    let at = |share| quantile(&after_ready, share).unwrap_or_default();
    table.row(
        &format!("a pod that is ready, to the first connection through its service, {services} other services"),
        "",
        &format!("p50 {:+.1} ms, p99 {:+.1} ms", at(0.5), at(0.99)),
        &format!(
            "{} pods; from the watch's line that says Ready to a connection to the cluster address, tried each {}; from the POST of \
             the pod {}",
            after_ready.len(),
            milliseconds(STEP),
            quantiles(&after_post)
        ),
    );
    Ok(())
}

/// An endpoint of a service comes and goes: from the PUT of its slice until the node connects to it, and until it does no more.
fn changes(setup: &Setup, table: &mut Table, client: &mut Client, services: usize) -> anyhow::Result<()> {
    let name = format!("changes-{services}");
    client.post(PODS, &pod(&name, IMAGE, Probes::Http(1)))?;
    let mut end = Value::Null;
    wait("the pod serves", PATIENCE, || {
        end = client.get(&format!("{PODS}/{name}"))?;
        Ok(is(&end, "Ready"))
    })?;
    let end = end.pointer("/status/podIP").and_then(Value::as_str).context("a pod without an address")?.to_owned();
    let made = client.post(SERVICES, &service(&name, &Value::Null))?;
    let to = SocketAddr::new(cluster_ip(&made)?.parse()?, 80);
    client.post(SLICES, &slice(&name, &[]))?;
    let (mut comes, mut goes) = (Vec::new(), Vec::new());
    for _ in 0..setup.choose(30, 10) {
        for (ends, times, is_there) in [(vec![end.clone()], &mut comes, true), (Vec::new(), &mut goes, false)] {
            let begun = Instant::now();
            client.ask("PUT", &format!("{SLICES}/{name}"), Some(&slice(&name, &ends)))?;
            while serves(to) != Some(is_there) {
                anyhow::ensure!(begun.elapsed() < PATIENCE, "the change is not seen");
                std::thread::sleep(STEP);
            }
            times.push(begun.elapsed());
        }
    }
    for kind in [SERVICES, SLICES, PODS] {
        client.delete(&format!("{kind}/{name}"))?;
    }
    table.row(
        &format!("an endpoint that comes, told to the API until it is served, {services} other services"),
        "",
        &format!("{}; one that goes {}", quantiles(&comes), quantiles(&goes)),
        &format!("{} PUTs of its slice, one after the other, tried each {}", comes.len() + goes.len(), milliseconds(STEP)),
    );
    Ok(())
}

/// Whether anybody serves there. `None`: no answer, which says nothing: busybox' `httpd` lets ten connections wait, and the kernel
/// drops the eleventh.
fn serves(to: SocketAddr) -> Option<bool> {
    match TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(false),
        Err(_) => None,
    }
}

/// The node's name server is asked by the node itself.
fn names(setup: &Setup, table: &mut Table, agent: u32, gateway: Ipv4Addr) -> anyhow::Result<()> {
    let server = SocketAddr::from((gateway, 53));
    for (what, name) in [("a service", "s7.default.svc.cluster.local"), ("no such name", "example.org.default.svc.cluster.local")]
    {
        for window in [1, 64] {
            super::names::row(table, &format!("{what}, of the agent"), agent, window, setup.choose(50_000, 10_000), |count| {
                super::names::questions(server, window, count, &[name])
            })?;
        }
    }
    Ok(())
}

/// The node's own address among its pods.
fn gateway(address: &api::Address) -> anyhow::Result<Ipv4Addr> {
    let node = Client::connect(address)?.get("/api/v1/nodes/bramble-1")?;
    let range = node.pointer("/spec/podCIDR").and_then(Value::as_str).context("a node without a range")?;
    range.parse::<ipnet::Ipv4Net>()?.hosts().next().context("an empty range")
}

fn first_connection(to: SocketAddr, gone: &AtomicBool) -> Option<Instant> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && !gone.load(Ordering::Relaxed) {
        if TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok() {
            return Some(Instant::now());
        }
        std::thread::sleep(STEP);
    }
    None
}
