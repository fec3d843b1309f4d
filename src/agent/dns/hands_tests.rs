//! The whole name server on loopback, with raw clients and servers of the test's own behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::record;
use super::forward::run::Forwarder;
use super::question::Over;
use super::run::{self, Parts};
use super::serve::run::{Begun, Server};
use super::zone::Zone;
use super::zone::tests::{service, share, slice};
use super::{NameServer, disk};
use crate::agent::node_network::{NodeNetwork, NodeNetwork6};
use crate::clock::SystemClock;
use crate::link::share::Share;

/// Addresses of loopback, one a test: ports of one are no matter of the others.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let process = (std::process::id() % 200) as u8 + 20;
    Ipv4Addr::new(127, 53, process, NEXT.fetch_add(1, Ordering::SeqCst) as u8)
}

fn names() -> Share {
    let many: Vec<_> = (0..200).map(|n| json!({"addresses": [format!("10.244.9.{n}")]})).collect();
    share(
        vec![
            service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]})),
            service("out", json!({"type": "ExternalName", "externalName": "a.example"})),
            service("many", json!({"clusterIP": "None"})),
        ],
        vec![slice("many", "many", json!(many), json!([]))],
    )
}

/// A name server of a node, with these servers behind it.
struct Node {
    at: SocketAddr,
    net: watch::Sender<Arc<Share>>,
    network: watch::Sender<Option<NodeNetwork>>,
    serving: watch::Receiver<NameServer>,
    files: tempfile::TempDir,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    /// `servers`: as in `resolv.conf`; all listen at `port`.
    async fn start(own_port: u16, servers: &[IpAddr], port: u16) -> Self {
        let address = address();
        let own_port = if own_port == 0 { free(address).await } else { own_port };
        let files = tempfile::tempdir().unwrap();
        let node = Self::start_at(SocketAddr::from((address, own_port)), files, servers, port);
        let until = Instant::now() + Duration::from_secs(10);
        while timeout(Duration::from_millis(200), udp(node.at, "web.home.svc.cluster.local.", RecordType::A))
            .await
            .ok()
            .is_none_or(|reply| reply.metadata.response_code == ResponseCode::ServFail)
        {
            assert!(Instant::now() < until, "it never answered");
        }
        node
    }

    fn start_at(at: SocketAddr, files: tempfile::TempDir, servers: &[IpAddr], port: u16) -> Self {
        let IpAddr::V4(address) = at.ip() else { panic!() };
        write(&files, servers);
        let (net, net_is) = watch::channel(Arc::new(names()));
        let there =
            NodeNetwork { range: "10.244.3.0/24".parse().unwrap(), gateway: address, bridge: Some("lo".into()), v6: None };
        let (network, network_is) = watch::channel(Some(there));
        let (serving, serving_is) = watch::channel(NameServer::NotYet);
        let parts = Parts {
            port: at.port(),
            net: net_is,
            network: network_is,
            serving,
            resolv_conf: vec![files.path().join("resolv.conf")],
            upstream_port: port,
            clock: SystemClock::start(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run::serve(parts, stop.clone()));
        Self { at, net, network, serving: serving_is, files, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
    }
}

fn write(files: &tempfile::TempDir, servers: &[IpAddr]) {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(files.path().join("resolv.conf"), text).unwrap();
}

async fn free(address: Ipv4Addr) -> u16 {
    TcpListener::bind((address, 0)).await.unwrap().local_addr().unwrap().port()
}

fn packet(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

async fn udp(to: SocketAddr, name: &str, kind: RecordType) -> Message {
    let from: IpAddr = if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let socket = UdpSocket::bind((from, 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    let mut buffer = vec![0; 4096];
    loop {
        // Until it listens the kernel refuses, and says so at the next send or receipt: then it is asked again.
        let _ = socket.send(&packet(name, kind)).await;
        match timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await.expect("an answer within 8 s") {
            Ok(length) => return Message::from_vec(&buffer[..length]).unwrap(),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn read_tcp(stream: &mut TcpStream) -> Message {
    let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat()
}

fn told(reply: &Message) -> String {
    let answers: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    format!("{:?} {}", reply.metadata.response_code, answers.join(" "))
}

/// A server behind the node: answers 192.0.2.1 to everything, in its own way.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain { ttl: u32 },
    Slow,
    Cut,
    Fails,
    Silent,
    Spoofed,
}

struct Upstream {
    at: SocketAddr,
    asked: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Upstream {
    async fn start(way: Way, port: u16) -> Self {
        let address = address();
        let port = if port == 0 { free(address).await } else { port };
        let socket = UdpSocket::bind((address, port)).await.unwrap();
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let packets = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                if way == Way::Slow {
                    sleep(Duration::from_millis(300)).await;
                }
                for reply in replies(&buffer[..length], way) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        let connections = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let length = usize::from(stream.read_u16().await.unwrap());
                let mut bytes = vec![0; length];
                stream.read_exact(&mut bytes).await.unwrap();
                for reply in replies(&bytes, Way::Plain { ttl: 60 }) {
                    stream.write_all(&framed(&reply)).await.unwrap();
                }
            }
        });
        Self { at: SocketAddr::from((address, port)), asked, tasks: vec![packets, connections] }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn replies(question: &[u8], way: Way) -> Vec<Vec<u8>> {
    let asked = Message::from_vec(question).unwrap();
    let mut reply = Message::response(asked.metadata.id, OpCode::Query);
    reply.queries.clone_from(&asked.queries);
    let mut answer = record(asked.queries[0].name(), Ipv4Addr::new(192, 0, 2, 1).into());
    answer.ttl = if let Way::Plain { ttl } = way { ttl } else { 60 };
    reply.answers.push(answer);
    match way {
        Way::Plain { .. } | Way::Slow => {}
        Way::Silent => return Vec::new(),
        Way::Fails => reply.metadata.response_code = ResponseCode::ServFail,
        Way::Cut => {
            reply.answers.clear();
            reply.metadata.truncation = true;
        }
        Way::Spoofed => {
            let mut wrong = reply.clone();
            wrong.metadata.id ^= 1;
            wrong.answers[0] = record(asked.queries[0].name(), Ipv4Addr::new(6, 6, 6, 6).into());
            return vec![b"rubbish".to_vec(), wrong.to_vec().unwrap(), reply.to_vec().unwrap()];
        }
    }
    vec![reply.to_vec().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_cluster_are_answered_over_both_ways_with_nobody_behind() {
    let node = Node::start(0, &[], 1).await;
    let reply = udp(node.at, "WEB.home.svc.cluster.local.", RecordType::A).await;
    assert_eq!(told(&reply), "NoError 10.96.0.7");
    assert!(reply.metadata.authoritative && reply.queries[0].name().to_ascii().starts_with("WEB."));
    assert_eq!(told(&udp(node.at, "no.home.svc.cluster.local.", RecordType::A).await), "NXDomain ");
    assert_eq!(told(&udp(node.at, "example.com.", RecordType::A).await), "ServFail ");
    assert_eq!(told(&udp(node.at, "printer.local.", RecordType::A).await), "NXDomain ");
    // Too many for a packet: all of them on a connection; several questions at once there.
    let many = udp(node.at, "many.home.svc.cluster.local.", RecordType::A).await;
    assert!(many.metadata.truncation && many.answers.len() > 20);
    let mut stream = TcpStream::connect(node.at).await.unwrap();
    let questions = [
        framed(&packet("many.home.svc.cluster.local.", RecordType::A)),
        framed(&packet("web.home.svc.cluster.local.", RecordType::A)),
    ];
    let both = questions.concat();
    stream.write_all(&both[..both.len() - 5]).await.unwrap();
    assert_eq!(read_tcp(&mut stream).await.answers.len(), 200);
    stream.write_all(&both[both.len() - 5..]).await.unwrap();
    assert_eq!(told(&read_tcp(&mut stream).await), "NoError 10.96.0.7");
    // A length that no question has ends the connection.
    stream.write_all(&[0xff, 0xff, 0, 0]).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(5), stream.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
    // A newer share.
    node.net.send_replace(Arc::new(share(vec![service("web", json!({"clusterIP": "10.96.0.8"}))], vec![])));
    let until = Instant::now() + Duration::from_secs(5);
    while told(&udp(node.at, "web.home.svc.cluster.local.", RecordType::A).await) != "NoError 10.96.0.8" {
        assert!(Instant::now() < until);
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_said_is_kept_and_stands_in_when_they_are_away() {
    let upstream = Upstream::start(Way::Plain { ttl: 2 }, 0).await;
    let node = Node::start(0, &[upstream.at.ip()], upstream.at.port()).await;
    assert_eq!(told(&udp(node.at, "out.home.svc.cluster.local.", RecordType::A).await), "NoError a.example. 192.0.2.1");
    for name in ["a.example.", "A.EXAMPLE."] {
        assert_eq!(told(&udp(node.at, name, RecordType::A).await), "NoError 192.0.2.1");
    }
    assert_eq!(upstream.asked(), 1);
    sleep(Duration::from_millis(2100)).await;
    drop(upstream);
    let reply = udp(node.at, "a.example.", RecordType::A).await;
    assert_eq!((told(&reply).as_str(), reply.answers[0].ttl), ("NoError 192.0.2.1", 30));
    assert_eq!(told(&udp(node.at, "b.example.", RecordType::A).await), "ServFail ");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_is_asked_for_on_a_connection_and_a_forged_one_is_not_taken() {
    for way in [Way::Cut, Way::Spoofed] {
        let upstream = Upstream::start(way, 0).await;
        let node = Node::start(0, &[upstream.at.ip()], upstream.at.port()).await;
        assert_eq!(told(&udp(node.at, "a.example.", RecordType::A).await), "NoError 192.0.2.1");
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_or_is_silent_is_passed_over_and_not_waited_for_again() {
    for way in [Way::Fails, Way::Silent] {
        let good = Upstream::start(Way::Plain { ttl: 60 }, 0).await;
        let bad = Upstream::start(way, good.at.port()).await;
        let node = Node::start(0, &[bad.at.ip(), good.at.ip()], good.at.port()).await;
        assert_eq!(told(&udp(node.at, "a.example.", RecordType::A).await), "NoError 192.0.2.1");
        let begun = Instant::now();
        assert_eq!(told(&udp(node.at, "b.example.", RecordType::A).await), "NoError 192.0.2.1");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(good.asked() == 2 && bad.asked() >= 1);
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_from_many_is_asked_once() {
    let upstream = Upstream::start(Way::Slow, 0).await;
    let node = Node::start(0, &[upstream.at.ip()], upstream.at.port()).await;
    let at = node.at;
    let asking: Vec<_> =
        (0..50).map(|_| tokio::spawn(async move { told(&udp(at, "a.example.", RecordType::A).await) })).collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "NoError 192.0.2.1");
    }
    assert_eq!(upstream.asked(), 1);
    node.end().await;
}

/// A host whose own resolver asks this node: by another address, so that it does not show in `resolv.conf`.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_sends_our_questions_back_turns_no_circle() {
    let address = address();
    let relay = Arc::new(UdpSocket::bind((address, 0)).await.unwrap());
    let port = relay.local_addr().unwrap().port();
    let node = Node::start(0, &[address.into()], port).await;
    let (to, passed) = (node.at, Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&passed);
    let relaying = tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, from) = relay.recv_from(&mut buffer).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let (question, relay) = (buffer[..length].to_vec(), Arc::clone(&relay));
            tokio::spawn(async move {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                socket.send_to(&question, to).await.unwrap();
                let mut buffer = vec![0; 4096];
                if let Ok(Ok(length)) = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await {
                    // Who does not wait any more misses nothing.
                    let _ = relay.send_to(&buffer[..length], from).await;
                }
            });
        }
    });
    assert_eq!(told(&udp(node.at, "a.example.", RecordType::A).await), "ServFail ");
    assert!(passed.load(Ordering::SeqCst) <= 3, "{passed:?}");
    relaying.abort();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_resolv_conf_counts_after_a_while() {
    let first = Upstream::start(Way::Fails, 0).await;
    let second = Upstream::start(Way::Plain { ttl: 60 }, first.at.port()).await;
    let node = Node::start(0, &[first.at.ip()], first.at.port()).await;
    assert_eq!(told(&udp(node.at, "a.example.", RecordType::A).await), "ServFail ");
    write(&node.files, &[second.at.ip()]);
    let until = Instant::now() + Duration::from_secs(15);
    while told(&udp(node.at, "a.example.", RecordType::A).await) != "NoError 192.0.2.1" {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(500)).await;
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_and_tried_again() {
    let address = address();
    let holder = UdpSocket::bind((address, 0)).await.unwrap();
    let at = holder.local_addr().unwrap();
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let holders = disk::holders(address, at.port());
    assert_eq!(holders, [format!("{} (process {})", own.trim(), std::process::id())]);
    let mut node = Node::start_at(at, tempfile::tempdir().unwrap(), &[], 1);
    // Pods are not made to wait for it.
    timeout(Duration::from_secs(4), node.serving.wait_for(|serving| *serving == NameServer::Host)).await.unwrap().unwrap();
    drop(holder);
    assert_eq!(told(&udp(at, "web.home.svc.cluster.local.", RecordType::A).await), "NoError 10.96.0.7");
    node.end().await;
}

#[tokio::test]
async fn a_node_with_an_ipv6_address_answers_there_as_well() {
    if !std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|all| all.contains(" lo")) {
        eprintln!("SKIPPED: no IPv6 here");
        return;
    }
    let node = Node::start(0, &[], 1).await;
    let v6 = NodeNetwork6 { range: "::/64".parse().unwrap(), gateway: Ipv6Addr::LOCALHOST };
    node.network.send_modify(|network| network.as_mut().unwrap().v6 = Some(v6));
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, node.at.port()));
    for at in [at, node.at] {
        assert_eq!(told(&udp(at, "web.home.svc.cluster.local.", RecordType::A).await), "NoError 10.96.0.7");
    }
    node.end().await;
}

/// Port 53 of an address of loopback; the tests with real parts run as root.
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_told_where_to_ask_as_the_network_comes_and_moves() {
    if UdpSocket::bind((address(), 53)).await.is_err() {
        eprintln!("SKIPPED: no right to port 53");
        return;
    }
    let mut node = Node::start(53, &[], 1).await;
    let here = |at: Ipv4Addr, domain: &str| NameServer::Here { address: at, domain: domain.to_owned() };
    let IpAddr::V4(first) = node.at.ip() else { panic!() };
    let wait = async |receiver: &mut watch::Receiver<NameServer>, wanted: NameServer| {
        timeout(Duration::from_secs(5), receiver.wait_for(|serving| *serving == wanted)).await.unwrap().unwrap();
    };
    wait(&mut node.serving, here(first, "cluster.local")).await;
    let mut other = names();
    other.network.as_mut().unwrap().domain = "shed.example".into();
    node.net.send_replace(Arc::new(other));
    wait(&mut node.serving, here(first, "shed.example")).await;
    let second = address();
    node.network.send_modify(|network| network.as_mut().unwrap().gateway = second);
    wait(&mut node.serving, here(second, "shed.example")).await;
    let at = SocketAddr::from((second, 53));
    assert_eq!(told(&udp(at, "web.home.svc.shed.example.", RecordType::A).await), "NoError 10.96.0.7");
    // Soon nobody holds the old one.
    timeout(Duration::from_secs(5), async {
        while UdpSocket::bind((first, 53)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    node.network.send_modify(|network| network.as_mut().unwrap().bridge = None);
    wait(&mut node.serving, NameServer::Host).await;
    node.end().await;
}

#[tokio::test]
async fn strangers_are_refused_and_one_who_floods_leaves_room_for_others() {
    let clock = SystemClock::start();
    let server = Arc::new(Server::new(Forwarder::new(clock, vec![], 1), clock));
    server.set_zone(Arc::new(Zone::of(&names())));
    server.set_range(Some("10.1.3.0/24".parse().unwrap()));
    let code = |from: &str| match server.begin(
        &packet("web.home.svc.cluster.local.", RecordType::A),
        from.parse().unwrap(),
        Over::Udp,
    ) {
        Begun::Reply(reply) => Message::from_vec(&reply).unwrap().metadata.response_code,
        _ => panic!(),
    };
    for (from, expected) in [
        ("10.244.7.7", ResponseCode::NoError),
        ("10.1.3.9", ResponseCode::NoError),
        ("127.0.0.1", ResponseCode::NoError),
        ("::ffff:10.1.3.9", ResponseCode::NoError),
        ("192.0.2.9", ResponseCode::Refused),
        ("10.1.4.9", ResponseCode::Refused),
        ("2001:db8::1", ResponseCode::Refused),
    ] {
        assert_eq!(code(from), expected, "{from}");
    }
    let ask = |n: u32, from: [u8; 4]| server.begin(&packet(&format!("n{n}.example."), RecordType::A), from.into(), Over::Udp);
    let waiting: Vec<Begun> = (0..200).map(|n| ask(n, [10, 1, 3, 9])).collect();
    let later = waiting.iter().filter(|begun| matches!(begun, Begun::Later(_))).count();
    assert_eq!(later, 128);
    assert!(matches!(ask(0, [10, 1, 3, 8]), Begun::Later(_)));
    drop(waiting);
    assert!(matches!(ask(0, [10, 1, 3, 9]), Begun::Later(_)));
}

/// Prints what the documentation says in figures: `cargo test --release --lib -- --ignored --nocapture names_a_second`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn names_a_second() {
    const CLIENTS: usize = 32;
    let upstream = Upstream::start(Way::Plain { ttl: 3600 }, 0).await;
    let node = Node::start(0, &[upstream.at.ip()], upstream.at.port()).await;
    node.net.send_replace(Arc::new(super::zone::tests::large()));
    while told(&udp(node.at, "service-1.home.svc.cluster.local.", RecordType::A).await).starts_with("NX") {}
    let begun = Instant::now();
    for _ in 0..20 {
        let _ = Zone::of(&super::zone::tests::large());
    }
    let both = begun.elapsed() / 20;
    let share = super::zone::tests::large();
    let begun = Instant::now();
    for _ in 0..20 {
        let _ = Zone::of(&share);
    }
    println!("index of 500 services, 5,000 endpoints: {:?} (with the making of the share {both:?})", begun.elapsed() / 20);
    for (what, name) in [
        ("a service", "service-1.home.svc.cluster.local."),
        ("ten endpoints", "service-2.home.svc.cluster.local."),
        ("none such", "no.home.svc.cluster.local."),
        ("kept", "a.example."),
    ] {
        // The first answer is not measured: of names from outside it is not kept yet.
        let _ = udp(node.at, name, RecordType::A).await;
        let until = Instant::now() + Duration::from_secs(3);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (at, packet) = (node.at, packet(name, RecordType::A));
                tokio::spawn(async move {
                    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                    socket.connect(at).await.unwrap();
                    let (mut took, mut buffer) = (Vec::new(), vec![0; 2048]);
                    while Instant::now() < until {
                        let begun = Instant::now();
                        socket.send(&packet).await.unwrap();
                        socket.recv(&mut buffer).await.unwrap();
                        took.push(begun.elapsed());
                    }
                    took
                })
            })
            .collect();
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.await.unwrap());
        }
        took.sort();
        let at = |part: usize| took[took.len() * part / 100];
        println!("{what}: {} a second, p50 {:?}, p99 {:?}", took.len() / 3, at(50), at(99));
    }
    let begun = Instant::now();
    for n in 0..500 {
        let _ = udp(node.at, &format!("n{n}.example."), RecordType::A).await;
    }
    println!("forwarded, one after the other: {:?} each", begun.elapsed() / 500);
    node.end().await;
}
