//! Names in the local network and addresses of load balancers: three nodes on one segment, and a device of the house that is none.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bramble::agent::{announce, mdns, overlay};
use bramble::api::Object;
use bramble::clock::SystemClock;
use bramble::link::network::ClusterNetwork;
use bramble::link::share::Share;
use serde_json::{Value, json};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hosts::Hosts;
use super::inside::{Echo, PORT, enter, inside};
use super::support::wait_until;

const NODES: [(&str, &str); 3] = [("a", "10.77.0.1"), ("b", "10.77.0.2"), ("c", "10.77.0.3")];
const PHONE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
const BALANCED: &str = "10.77.0.240";
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const SOON: Duration = Duration::from_secs(10);

/// What runs of a node's agent.
struct Node {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(namespace: String, node: &'static str, net: watch::Receiver<Arc<Share>>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (interfaces, changed) = watch::channel(0);
                let names = mdns::run::Parts::everywhere(node.into(), net.clone(), SystemClock::start());
                let balancers = announce::run::Parts { cluster_uid: "uid".into(), node: node.into(), net, changed };
                tokio::join!(
                    mdns::run::serve(names, stopped.clone()),
                    announce::run::keep(balancers, stopped.clone()),
                    overlay::netlink::follow(interfaces, stopped),
                );
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn keyed(value: Value) -> (String, Arc<Object>) {
    let object = Object::from_value(value).unwrap();
    (format!("{}/{}", object.namespace(), object.name()), Arc::new(object))
}

/// A share with a name and a balanced service, and these nodes not ready.
fn share(lost: &[&str]) -> Arc<Share> {
    let peers = NODES.map(|(name, address)| {
        let ready = if lost.contains(&name) { "Unknown" } else { "True" };
        let object = json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "InternalIP", "address": address}]}});
        (name.to_owned(), Arc::new(Object::from_value(object).unwrap()))
    });
    let web = json!({"metadata": {"name": "web", "namespace": "home", "annotations": {"bramble/mdns": "true"}}, "spec": {"type": "NodePort"}});
    let pool = json!({"metadata": {"name": "pool", "namespace": "home", "annotations": {"bramble/mdns": "door"}},
        "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": BALANCED}]}}});
    let network = ClusterNetwork { load_balancers: "10.77.0.240-10.77.0.250".into(), ..ClusterNetwork::default() };
    Arc::new(Share {
        network: Some(network),
        peers: peers.into(),
        services: [keyed(web), keyed(pool)].into(),
        ..Share::default()
    })
}

struct House {
    hosts: Hosts,
    nodes: Vec<Option<Node>>,
    net: watch::Sender<Arc<Share>>,
}

impl House {
    fn new(label: &str) -> Self {
        let mut hosts = Hosts::new(label);
        for (name, address) in NODES {
            hosts.add(name, &format!("{address}/24"));
        }
        hosts.add("phone", "10.77.0.99/24");
        let net = watch::Sender::new(share(&[]));
        let nodes = NODES.map(|(name, _)| Some(Node::start(hosts.name(name), name, net.subscribe())));
        Self { hosts, nodes: nodes.into(), net }
    }

    /// What the phone is told of a name, as (who says it, address).
    fn ask(&self, name: &str) -> BTreeSet<(String, String)> {
        inside(&self.hosts.name("phone"), || {
            let socket = UdpSocket::bind((PHONE, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut packet = Packet::new_query(1);
            let kind = QTYPE::TYPE(TYPE::A);
            packet.questions.push(Question::new(Name::new(name).unwrap(), kind, QCLASS::CLASS(CLASS::IN), false));
            socket.send_to(&packet.build_bytes_vec().unwrap(), (GROUP, 5353)).unwrap();
            let mut all = BTreeSet::new();
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                all.extend(addresses(&buffer[..length]).into_iter().map(|(_, address, _)| (from.ip().to_string(), address)));
            }
            all
        })
    }

    #[track_caller]
    fn answers(&self, name: &str, expected: &[&str]) -> String {
        let mut who = String::new();
        wait_until(&format!("{name} is {expected:?}"), SOON, || {
            let told = self.ask(name);
            let by: BTreeSet<&str> = told.iter().map(|(by, _)| by.as_str()).collect();
            let what: Vec<&str> = told.iter().map(|(_, what)| what.as_str()).collect();
            if by.len() == 1 && what == expected {
                who = NODES.iter().find(|(_, at)| by.contains(at)).unwrap().0.to_owned();
                return Ok(());
            }
            Err(format!("{told:?}"))
        });
        who
    }

    /// Who has the balanced address.
    fn holders(&self) -> Vec<&'static str> {
        let has =
            |name: &str| self.hosts.inside(name, "ip -o -4 addr show dev lo").contains(&format!("{BALANCED}/32 scope host lo:"));
        NODES.into_iter().map(|(name, _)| name).filter(|name| has(name)).collect()
    }
}

fn addresses(bytes: &[u8]) -> Vec<(String, String, u32)> {
    let packet = Packet::parse(bytes).unwrap();
    let read = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(data) => Some((record.name.to_string(), Ipv4Addr::from(data.address).to_string(), record.ttl)),
        _ => None,
    });
    read.collect()
}

#[test]
fn one_node_answers_for_a_name_and_when_it_is_gone_another_does() {
    let mut house = House::new("mdns");
    let all: Vec<&str> = NODES.iter().map(|(_, address)| *address).collect();
    let first = house.answers("web.local", &all);
    house.answers("DOOR.local", &[BALANCED]);
    assert!(house.ask("other.local").is_empty());
    // Its machine is lost, and the master has noticed.
    let place = NODES.iter().position(|(name, _)| *name == first).unwrap();
    let ear = inside(&house.hosts.name("phone"), || {
        let ear = UdpSocket::bind((GROUP, 5353)).unwrap();
        ear.join_multicast_v4(&GROUP, &PHONE).unwrap();
        ear.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        ear
    });
    house.hosts.plug(&first, false);
    house.nodes[place] = None;
    let began = Instant::now();
    house.net.send_replace(share(&[&first]));
    // The new one says so unasked.
    let mut buffer = [0; 1500];
    loop {
        let (length, _) = ear.recv_from(&mut buffer).expect("it is said unasked");
        if addresses(&buffer[..length]).iter().any(|(name, _, ttl)| name == "web.local" && *ttl == 120) {
            break;
        }
    }
    println!("said unasked {:?} after the share changed", began.elapsed());
    let left: Vec<&str> = all.iter().copied().filter(|address| *address != NODES[place].1).collect();
    let second = house.answers("web.local", &left);
    println!("answered by {second} in place of {first} after {:?}", began.elapsed());
    assert_ne!(first, second);
    // Nobody wants the name any more.
    let mut without = Share::clone(&share(&[&first]));
    without.services.remove("home/web");
    house.net.send_replace(Arc::new(without));
    wait_until("nobody answers", SOON, || {
        let told = house.ask("web.local");
        if told.is_empty() { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

#[test]
fn a_load_balancers_address_is_at_one_node_and_moves_when_it_is_gone() {
    let mut house = House::new("pool");
    let phone = house.hosts.name("phone");
    let _echoes = NODES.map(|(name, _)| Echo::start(&house.hosts.name(name)));
    // The same socket throughout, as a program of the house has it; what the phone knows of the address is what ARP told it.
    let answers = || {
        inside(&phone, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let began = Instant::now();
            let mut buffer = [0; 100];
            while began.elapsed() < SOON {
                let _ = socket.send_to(b"x", (BALANCED, PORT));
                if socket.recv_from(&mut buffer).is_ok() {
                    return Some(began.elapsed());
                }
            }
            None
        })
    };
    println!("first answer after {:?}", answers().expect("it answers"));
    let holders = house.holders();
    assert_eq!(holders.len(), 1, "{holders:?}");
    let first = holders[0];
    assert!(house.hosts.inside(first, "ip route get 10.77.0.99").contains("src 10.77.0."), "it is not a source");
    assert!(!house.hosts.inside(first, "ip route get 10.77.0.99").contains(BALANCED));
    let mac = |house: &House| house.hosts.inside("phone", &format!("ip neigh show {BALANCED}"));
    let before = mac(&house);
    // Its cable is pulled, and the master has noticed.
    house.hosts.plug(first, false);
    let began = Instant::now();
    house.net.send_replace(share(&[first]));
    answers().expect("another node has it");
    println!("moved within {:?} of the share's change", began.elapsed());
    assert_ne!(before, mac(&house));
    // The first one's own share says the same here: it has let go.
    wait_until("one node has it", SOON, || {
        let holders = house.holders();
        if holders.len() == 1 && holders[0] != first { Ok(()) } else { Err(format!("{holders:?}")) }
    });
    // It is back: the address is its again, and nobody waits for a cache.
    house.hosts.plug(first, true);
    house.net.send_replace(share(&[]));
    wait_until("it is back", SOON, || {
        let holders = house.holders();
        if holders == [first] { Ok(()) } else { Err(format!("{holders:?}")) }
    });
    let back = answers().expect("it answers again");
    println!("back, answered after {back:?}");
    // Somebody takes it away; it is put there again.
    house.hosts.inside(first, &format!("ip addr del {BALANCED}/32 dev lo"));
    wait_until("it is there again", SOON, || {
        if house.holders() == [first] { Ok(()) } else { Err(format!("{:?}", house.holders())) }
    });
    // Agents that stop leave nothing.
    house.nodes.clear();
    assert!(house.holders().is_empty());
}
