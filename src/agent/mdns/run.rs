//! Hands: the task `mdns`: follows the share, and answers in the local network what this node is to answer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::names;
use crate::clock::SystemClock;
use crate::link::share::Share;
use crate::mdns::hosts::Hosts;
use crate::mdns::udp::speak;

/// What it works with.
pub struct Parts {
    /// The node.
    pub node: String,
    /// The network's share.
    pub net: watch::Receiver<Arc<Share>>,
    /// Where it listens: at the networks of this address, or of all but loopback.
    pub listen: IpAddr,
    /// `mdns::udp::PORT`, but for tests.
    pub port: u16,
    /// The time.
    pub clock: SystemClock,
}

impl Parts {
    /// In all networks that this machine is in.
    #[must_use]
    pub fn everywhere(node: String, net: watch::Receiver<Arc<Share>>, clock: SystemClock) -> Self {
        Self { node, net, listen: Ipv4Addr::UNSPECIFIED.into(), port: crate::mdns::udp::PORT, clock }
    }
}

/// Answers until `stop`. Nothing listens while no service asks for it, or others answer.
pub async fn serve(parts: Parts, stop: CancellationToken) {
    let Parts { node, net, listen, port, clock } = parts;
    let (told, hosts) = watch::channel(Hosts::default());
    tokio::select! {
        () = follow(net, &node, &told) => {}
        () = speak(hosts, listen, port, clock, stop.clone()) => {}
    }
    stop.cancelled().await;
}

/// Never ends.
async fn follow(mut net: watch::Receiver<Arc<Share>>, node: &str, told: &watch::Sender<Hosts>) {
    loop {
        let share = net.borrow_and_update().clone();
        let now = names::own(&share, node);
        let other = told.send_if_modified(|before| {
            let other = before.names != now.names;
            *before = now;
            other
        });
        if other {
            let names: Vec<String> = told.borrow().names.keys().map(|name| format!("{name}.local")).collect();
            tracing::info!(?names, "answers these names in the local network");
        }
        if net.changed().await.is_err() {
            // The agent ends; the names stay.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::{service, share};
    use super::*;
    use std::time::Duration;

    use serde_json::{Value, json};
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
    use tokio::net::UdpSocket;

    /// What is answered on loopback within half a second, each address once for each answer.
    async fn asked(port: u16, name: &str) -> Vec<Ipv4Addr> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut packet = Packet::new_query(1);
        let kind = QTYPE::TYPE(TYPE::A);
        packet.questions.push(Question::new(Name::new(name).unwrap(), kind, QCLASS::CLASS(CLASS::IN), false));
        socket.send_to(&packet.build_bytes_vec().unwrap(), ("224.0.0.251", port)).await.unwrap();
        let mut found = Vec::new();
        let mut buffer = [0; 1500];
        while let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await {
            let packet = Packet::parse(&buffer[..length]).unwrap();
            found.extend(packet.answers.iter().filter_map(|record| match &record.rdata {
                RData::A(data) => Some(Ipv4Addr::from(data.address)),
                _ => None,
            }));
        }
        found
    }

    async fn until(port: u16, name: &str, expected: &[Ipv4Addr]) {
        let mut found = Vec::new();
        for _ in 0..20 {
            found = asked(port, name).await;
            if found == expected {
                return;
            }
        }
        panic!("{name}: {found:?}");
    }

    /// On loopback, at a port that nobody else has: three nodes hear the same share and the same question, and one answers.
    #[tokio::test]
    async fn one_of_three_nodes_answers_and_when_it_is_lost_another_does() {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let services = [service("web", json!({"type": "NodePort"}), Value::Null)];
        let with = |lost: Option<&str>| {
            let nodes = ["a", "b", "c"].map(|node| (node, if lost == Some(node) { "Unknown" } else { "True" }));
            Arc::new(share(&nodes, &services, &[]))
        };
        let (net, heard) = watch::channel(with(None));
        let stop = CancellationToken::new();
        let clock = SystemClock::start();
        let tasks = ["a", "b", "c"].map(|node| {
            let parts = Parts { node: node.into(), net: heard.clone(), listen: Ipv4Addr::LOCALHOST.into(), port, clock };
            tokio::spawn(serve(parts, stop.clone()))
        });
        let addresses = [1, 2, 3].map(|last| Ipv4Addr::new(192, 168, 1, last));
        until(port, "web.local", &addresses).await;
        assert!(asked(port, "other.local").await.is_empty());
        let owner = ["a", "b", "c"].into_iter().position(|node| !names::own(&with(None), node).names.is_empty()).unwrap();
        net.send_replace(with(Some(["a", "b", "c"][owner])));
        let left: Vec<Ipv4Addr> =
            addresses.iter().enumerate().filter(|(place, _)| *place != owner).map(|(_, address)| *address).collect();
        until(port, "web.local", &left).await;
        // Nobody asks for it any more.
        net.send_replace(Arc::new(share(&[("a", "True")], &[], &[])));
        until(port, "web.local", &[]).await;
        stop.cancel();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
