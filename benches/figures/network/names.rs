//! Questions for names, from a pod to its node's name server: one at a time, and many at once.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::lab::Lab;
use super::shares::{ENDPOINTS, many};
use super::traffic::told;
use crate::Setup;
use crate::process;
use crate::table::{Table, milliseconds};

const GATEWAY: &str = "10.244.1.1";
const UPSTREAM_PORT: u16 = 5300;
/// An answer that does not come within this is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a question asks for: an address, in the Internet.
const KIND_AND_CLASS: [u8; 4] = [0, 1, 0, 1];
const HEADER: usize = 12;

/// A service's name, a name that is not, and one of outside that is kept; with 1,000 services there.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let mut lab = Lab::new();
    let folder = tempfile::tempdir()?;
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n")?;
    lab.add("node")?;
    lab.add("pod")?;
    lab.bridge("node", "br-pods")?;
    lab.inside("node", &format!("ip addr add {GATEWAY}/24 dev br-pods"))?;
    lab.plug("node", "br-pods", "pod", "10.244.1.2/24")?;
    let _upstream = lab.start("node", &format!("upstream 127.0.0.1:{UPSTREAM_PORT}"))?;
    let mut server = lab.start("node", &format!("names {GATEWAY} {} {UPSTREAM_PORT}", resolv_conf.display()))?;
    server.tell(&serde_json::to_string(&many(1000, None)?)?)?;
    let services: Vec<String> = (0..100).map(|number| format!("s{}.default.svc.cluster.local", number * 10)).collect();
    lab.until("pod", &format!("questions {GATEWAY}:53 1 1 {}", services.join(" ")))?;
    let absent = "example.org.default.svc.cluster.local".to_owned();
    let outside = "example.org".to_owned();
    for (what, names) in [("a service", &services), ("no such name", &vec![absent]), ("a name of outside, kept", &vec![outside])]
    {
        for window in [1, 64] {
            let count = setup.choose(100_000, 20_000) / if window == 1 { 5 } else { 1 };
            row(table, what, server.pid(), window, count, |count| {
                lab.figures("pod", &format!("questions {GATEWAY}:53 {window} {count} {}", names.join(" ")))
            })?;
        }
    }
    Ok(())
}

/// Asks, and looks what that costs the server.
pub fn row(
    table: &mut Table,
    what: &str,
    server: u32,
    window: usize,
    count: usize,
    ask: impl FnOnce(usize) -> anyhow::Result<Value>,
) -> anyhow::Result<()> {
    let before = process::cpu(server)?;
    let said = ask(count)?;
    let cpu = process::cpu(server)?.saturating_sub(before);
    let number = |key: &str| said.get(key).and_then(Value::as_f64).with_context(|| format!("{said}"));
    let time = |key: &str| number(key).map(|ns| milliseconds_fine(Duration::from_nanos(ns as u64)));
    table.row(
        &format!("names, {what}, {window} at once"),
        "",
        &format!(
            "**{:.0} a second**, p50 {}, p99 {}; {:.0} µs of CPU each",
            number("per_second")?,
            time("p50")?,
            time("p99")?,
            cpu.as_secs_f64() * 1e6 / count as f64
        ),
        &format!("{count} questions by UDP, {} lost; 1,000 services, {ENDPOINTS} endpoints each", number("lost")?),
    );
    Ok(())
}

fn milliseconds_fine(time: Duration) -> String {
    if time < Duration::from_millis(10) { format!("{:.2} ms", time.as_secs_f64() * 1000.0) } else { milliseconds(time) }
}

/// Asks so many times for the names in turn, with so many questions under way.
pub fn questions(server: SocketAddr, window: usize, count: usize, names: &[&str]) -> anyhow::Result<Value> {
    anyhow::ensure!(window > 0 && !names.is_empty(), "nothing to ask");
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let bodies: Vec<Vec<u8>> = names.iter().map(|name| question(name)).collect();
    let mut asked: Vec<Option<Instant>> = vec![None; 1 << 16];
    let mut samples = Vec::with_capacity(count);
    let (mut next, mut lost) = (0_usize, 0_usize);
    let ask = |number: usize, asked: &mut Vec<Option<Instant>>| -> std::io::Result<()> {
        let id = number as u16;
        let mut packet = bodies[number % bodies.len()].clone();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        asked[usize::from(id)] = Some(Instant::now());
        socket.send(&packet).map(drop)
    };
    let begun = Instant::now();
    let mut buffer = [0; 2048];
    while samples.len() + lost < count {
        while next < count && next < samples.len() + lost + window {
            ask(next, &mut asked)?;
            next += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(length) if length > HEADER => {
                let id = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
                // What was asked for and is refused is no answer; 3: no such name.
                let code = buffer[3] & 15;
                anyhow::ensure!(code == 0 || code == 3, "the name server says {code}");
                samples.extend(asked[id].take().map(|at| at.elapsed()));
            }
            // All that are under way are lost.
            _ => lost = next - samples.len(),
        }
    }
    let mut said = told(&samples);
    said["per_second"] = json!(samples.len() as f64 / begun.elapsed().as_secs_f64());
    said["lost"] = json!(lost);
    anyhow::ensure!(!samples.is_empty(), "no answer");
    Ok(said)
}

fn question(name: &str) -> Vec<u8> {
    // Recursion is wished for, one question.
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&KIND_AND_CLASS);
    packet
}

/// A server of outside that gives every name the same address, for an hour.
pub fn upstream(at: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(at)?;
    println!("ready");
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let Some(name) = buffer.get(HEADER..length).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else { continue };
        let end = HEADER + name + 1 + KIND_AND_CLASS.len();
        if end > length {
            continue;
        }
        let mut answer = buffer[..end].to_vec();
        // An answer, recursion available, one record; no more than that.
        answer[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&[0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 203, 0, 113, 7]);
        socket.send_to(&answer, from)?;
    }
}
