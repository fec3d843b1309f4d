//! What runs inside a namespace: this program once more, told by `BRAMBLE_PART` what to be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bramble::agent::family::Family;
use bramble::agent::node_network::{NodeNetwork, NodeNetwork6};
use bramble::agent::proxy::change::{change, whole};
use bramble::agent::proxy::ruleset::{Ruleset, ruleset};
use bramble::agent::proxy::table::table;
use bramble::agent::proxy::{netlink, run};
use bramble::clock::SystemClock;
use bramble::link::share::Share;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::lab::six;
use crate::shares::{base, here};

/// Longer than the kernel waits for an answer of the LAN, shorter than people do.
const PATIENCE: Duration = Duration::from_millis(1500);

#[test]
#[ignore = "a process of the other tests"]
fn part() {
    let Ok(words) = std::env::var("BRAMBLE_PART") else { return };
    match words.split(' ').collect::<Vec<_>>()[..] {
        ["serve", name, at] => serve(name, at.parse().unwrap()),
        ["ask", protocol, to, times] => {
            for _ in 0..times.parse().unwrap() {
                println!("answer: {}", ask(protocol, to.parse().unwrap()).unwrap_or_else(|error| error.kind().to_string()));
            }
        }
        ["talk", "tcp", to] => talk_tcp(to.parse().unwrap()),
        ["talk", "udp", to] => talk_udp(to.parse().unwrap()),
        ["remove", node] => run::remove("test", node).unwrap(),
        ["rules"] => rules(Family::V4),
        ["rules", "six"] => rules(Family::V6),
        [kind @ ("proxy" | "proxy-that-kept"), node, range, gateway, bridge, ref more @ ..] => {
            let bridge = (bridge != "none").then(|| bridge.to_owned());
            let v6 = (more == ["six"])
                .then(|| NodeNetwork6 { range: six(range).parse().unwrap(), gateway: six(gateway).parse().unwrap() });
            let network = NodeNetwork { range: range.parse().unwrap(), gateway: gateway.parse().unwrap(), bridge, v6 };
            proxy(node, network, kind == "proxy-that-kept");
        }
        ["advertise"] => crate::router::advertise(),
        ["forward6"] => forward6(),
        _ => panic!("no such part: {words}"),
    }
}

fn lines() -> impl Iterator<Item = String> {
    BufReader::new(std::io::stdin()).lines().map_while(Result::ok)
}

fn serve(name: &str, at: SocketAddr) {
    let udp = UdpSocket::bind(at).unwrap();
    let tcp = TcpListener::bind(at).unwrap();
    println!("ready");
    let udp_name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        loop {
            let (_, from) = udp.recv_from(&mut buffer).unwrap();
            let _ = udp.send_to(format!("{udp_name} {from}").as_bytes(), from);
        }
    });
    for connection in tcp.incoming().map_while(Result::ok) {
        let name = name.to_owned();
        std::thread::spawn(move || {
            let from = connection.peer_addr()?;
            writeln!(&connection, "{name} {from}")?;
            for line in BufReader::new(&connection).lines() {
                writeln!(&connection, "{name} {}", line?)?;
            }
            Ok::<(), std::io::Error>(())
        });
    }
}

fn any(to: SocketAddr) -> &'static str {
    if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
}

fn ask(protocol: &str, to: SocketAddr) -> std::io::Result<String> {
    if protocol == "udp" {
        let socket = UdpSocket::bind(any(to))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"hello")?;
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer)?;
        return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn talk_tcp(to: SocketAddr) {
    let connection = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let mut answers = BufReader::new(&connection).lines();
    answers.next();
    for line in lines() {
        writeln!(&connection, "{line}").unwrap();
        println!(
            "answer: {}",
            answers.next().map_or("closed".to_owned(), |answer| answer.unwrap_or_else(|error| error.to_string()))
        );
    }
}

fn talk_udp(to: SocketAddr) {
    let socket = UdpSocket::bind(any(to)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for line in lines() {
        let _ = socket.send(line.as_bytes());
        let mut buffer = [0; 2000];
        match socket.recv(&mut buffer) {
            Ok(length) => println!("answer: {}", String::from_utf8_lossy(&buffer[..length])),
            Err(error) => println!("answer: {}", error.kind()),
        }
    }
}

/// Lets this host forward IPv6.
fn forward6() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(bramble::agent::pod_network::exec::forward6()).unwrap();
}

/// Makes the kernel hold one share's rules after the other; says how long each took.
fn rules(family: Family) {
    let mut held: Option<Ruleset> = None;
    for line in lines() {
        let (bridge_filter, share): (bool, Share) = serde_json::from_str(&line).unwrap();
        let base = base(family, bridge_filter);
        let from = Instant::now();
        let new = ruleset(&base, &table(&share, &here(family)));
        let decided = from.elapsed();
        let steps = held.as_ref().map_or_else(|| whole(&new), |old| change(old, &new));
        let count = steps.len();
        let result = netlink::apply(family, "bramble-test", &steps);
        let all = from.elapsed();
        let words = result.map_or_else(|error| format!("{error} {}", bramble::error::Chain(&error)), |()| "ok".to_owned());
        println!("answer: {words} steps={count} decided={}us all={}us", decided.as_micros(), all.as_micros());
        held = Some(new);
    }
}

/// The proxy itself; each line is a share. `kept`: the first is what it has on its disk, and not the master's word.
fn proxy(node: &str, network: NodeNetwork, kept: bool) {
    let first = if kept { serde_json::from_str(&lines().next().unwrap()).unwrap() } else { Share::default() };
    let (net, shares) = watch::channel(Arc::new(first));
    let (_told, network) = watch::channel(Some(network));
    let (events, mut said) = mpsc::channel(8);
    let parts = run::Parts {
        node: node.to_owned(),
        cluster: "test".to_owned(),
        net: shares,
        network,
        events,
        clock: SystemClock::start(),
        check: Duration::from_secs(1),
    };
    let stop = CancellationToken::new();
    let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).try_init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = stop.clone();
    std::thread::spawn(move || {
        while let Some(event) = said.blocking_recv() {
            println!("answer: {} {}/{} {} {}", event.kind, event.namespace, event.name, event.reason, event.message);
        }
    });
    std::thread::spawn(move || {
        for line in lines() {
            net.send_replace(Arc::new(serde_json::from_str(&line).unwrap()));
        }
        ended.cancel();
        drop(net);
    });
    runtime.block_on(run::run(parts, stop));
}
