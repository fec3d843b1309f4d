//! Ends of tunnels with a network of words between them. The handshakes and the ciphers are real.

use std::net::Ipv4Addr;

use super::*;

/// A node: its end, where it is, and what its pods got.
struct Node {
    end: Tunnels,
    at: SocketAddrV4,
    got: Vec<Vec<u8>>,
}

fn secret(number: u8) -> StaticSecret {
    StaticSecret::from([number; 32])
}

fn at(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, number), 6263)
}

fn tunnel(number: u8) -> (String, Tunnel) {
    let allowed = vec![format!("10.244.{number}.0/24").parse().unwrap(), format!("fd00:{number}::/64").parse().unwrap()];
    let key = PublicKey(X25519::from(&secret(number)).to_bytes());
    (format!("node{number}"), Tunnel { key, endpoint: at(number), allowed })
}

fn node(number: u8, peers: &[u8]) -> Node {
    let mut end = Tunnels::new(secret(number), u32::from(number) * 1000);
    end.set(&peers.iter().map(|peer| tunnel(*peer)).collect());
    Node { end, at: at(number), got: Vec::new() }
}

/// A UDP packet from one node's pod to another's, as IP has it.
fn packet(from: u8, to: u8) -> Vec<u8> {
    let mut packet = vec![0; 60];
    (packet[0], packet[3]) = (0x45, 60);
    packet[12..16].copy_from_slice(&[10, 244, from, 2]);
    packet[16..20].copy_from_slice(&[10, 244, to, 2]);
    packet
}

fn packet6(from: u8, to: u8) -> Vec<u8> {
    let mut packet = vec![0; 60];
    (packet[0], packet[5]) = (0x60, 20);
    for (at, number) in [(8, from), (24, to)] {
        packet[at] = 0xfd;
        packet[at + 3] = number;
        packet[at + 15] = 2;
    }
    packet
}

type Mail = Vec<(SocketAddrV4, SocketAddrV4, Vec<u8>)>;

/// What a node does; its mail bears its address.
fn acts(node: &mut Node, act: impl FnOnce(&mut Tunnels, &mut dyn FnMut(Step<'_>))) -> Mail {
    let (mut mail, mut got, from) = (Vec::new(), Vec::new(), node.at);
    act(&mut node.end, &mut |step| match step {
        Step::Send(to, bytes) => mail.push((from, to, bytes.to_vec())),
        Step::Deliver(bytes) => got.push(bytes.to_vec()),
    });
    node.got.extend(got);
    mail
}

/// Sends a packet and carries the mail until there is none; all of the mail.
fn sends(nodes: &mut [Node], now: Tick, from: usize, packet: &[u8]) -> Mail {
    let mail = acts(&mut nodes[from], |end, mut sink| end.outgoing(now, packet, &mut sink));
    carry(nodes, now, mail)
}

fn carry(nodes: &mut [Node], now: Tick, mut mail: Mail) -> Mail {
    let mut all = Vec::new();
    while let Some((from, to, bytes)) = (!mail.is_empty()).then(|| mail.remove(0)) {
        if let Some(node) = nodes.iter_mut().find(|node| node.at == to) {
            mail.extend(acts(node, |end, mut sink| end.incoming(now, from, &bytes, &mut sink)));
        }
        all.push((from, to, bytes));
    }
    all
}

#[test]
fn a_first_packet_waits_for_the_handshake_and_arrives_and_no_byte_of_it_is_readable() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    let sent = packet(1, 2);
    let mail = sends(&mut nodes, Tick(0), 0, &sent);
    assert_eq!(nodes[1].got, std::slice::from_ref(&sent));
    assert!(mail.iter().all(|(_, _, bytes)| !bytes.windows(8).any(|some| some == &sent[12..20])));
    assert_eq!(mail.iter().map(|(_, _, bytes)| bytes[0]).collect::<Vec<_>>(), [1, 2, 4, 4], "begin, answer, confirm, data");
    assert_eq!(sends(&mut nodes, Tick(1), 1, &packet(2, 1)).len(), 1, "the session is there, both ways");
    sends(&mut nodes, Tick(2), 0, &packet6(1, 2));
    assert_eq!((nodes[0].got.len(), nodes[1].got.len()), (1, 2));
}

#[test]
fn a_peer_sends_as_its_own_pods_and_as_nobody_else() {
    let mut nodes = [node(1, &[2, 3]), node(2, &[1, 3]), node(3, &[1, 2])];
    for (source, arrives) in
        [(packet(2, 1), true), (packet(3, 1), false), (packet(1, 1), false), (packet(9, 1), false), (packet6(3, 1), false)]
    {
        nodes[0].got.clear();
        // The sender does not look where a packet is from; the receiver does.
        sends(&mut nodes, Tick(0), 1, &source);
        assert_eq!(!nodes[0].got.is_empty(), arrives, "{source:?}");
    }
    assert_eq!(nodes[0].end.refused(), 4);
}

#[test]
fn a_stranger_and_a_peer_with_another_key_get_no_answer() {
    let mut nodes = [node(1, &[2]), node(3, &[1])];
    let mail = sends(&mut nodes, Tick(0), 1, &packet(3, 1));
    assert_eq!(mail.len(), 1, "its handshake, and silence");
    // It says that it is node 2, and has not its key.
    let mut nodes = [node(1, &[2]), node(3, &[1])];
    nodes[1].at = at(2);
    assert_eq!(sends(&mut nodes, Tick(0), 1, &packet(2, 1)).len(), 1);
    // It takes this node for somebody with another key.
    let mut nodes = [node(1, &[2]), node(2, &[])];
    nodes[1].end.set(&[("node1".to_owned(), Tunnel { key: tunnel(9).1.key, ..tunnel(1).1 })].into());
    assert_eq!(sends(&mut nodes, Tick(0), 1, &packet(2, 1)).len(), 1);
    assert_eq!(nodes[0].got.len(), 0);
}

#[test]
fn nonsense_and_what_was_heard_before_do_nothing() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    let mail = sends(&mut nodes, Tick(0), 0, &packet(1, 2));
    // An old handshake may be of a peer whose clock went back: it is invited, and not again soon.
    let mut begun = 0;
    for (from, to, bytes) in mail.iter().chain(&mail).cloned() {
        let again = carry(&mut nodes, Tick(1), vec![(from, to, bytes)]);
        begun += again.iter().skip(1).filter(|(_, _, bytes)| bytes[0] == 1).count();
    }
    assert_eq!(begun, 1);
    assert_eq!(nodes[1].got.len(), 1, "once");
    for length in [0, 1, 3, 4, 31, 32, 92, 148, 1500] {
        for kind in 0..6 {
            let mut bytes = vec![kind; length];
            bytes.iter_mut().take(4).skip(1).for_each(|byte| *byte = 0);
            assert_eq!(carry(&mut nodes, Tick(2), vec![(at(66), at(1), bytes)]).len(), 1, "{kind} {length}");
        }
    }
    for nobody in [&[][..], &[0x45], &[0; 60], &packet(1, 7)] {
        assert!(sends(&mut nodes, Tick(3), 0, nobody).is_empty());
    }
}

#[test]
fn a_peer_that_moved_is_answered_where_it_is_and_a_new_word_of_the_share_counts() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    sends(&mut nodes, Tick(0), 0, &packet(1, 2));
    nodes[1].at = at(77);
    sends(&mut nodes, Tick(1), 1, &packet(2, 1));
    let mail = sends(&mut nodes, Tick(2), 0, &packet(1, 2));
    assert_eq!((mail[0].1, nodes[1].got.len()), (at(77), 2));
    // The share said nothing new: it stays.
    nodes[0].end.set(&[tunnel(2)].into());
    assert_eq!(sends(&mut nodes, Tick(3), 0, &packet(1, 2))[0].1, at(77));
    let moved = Tunnel { endpoint: at(88), ..tunnel(2).1 };
    nodes[0].end.set(&[("node2".to_owned(), moved)].into());
    assert_eq!(sends(&mut nodes, Tick(4), 0, &packet(1, 2))[0].1, at(88));
}

#[test]
fn a_peer_that_starts_again_is_reached_by_the_second_packet() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    sends(&mut nodes, Tick(0), 0, &packet(1, 2));
    nodes[1] = Node { end: Tunnels::new(secret(2), 777), ..node(2, &[]) };
    nodes[1].end.set(&[tunnel(1)].into());
    sends(&mut nodes, Tick(1), 0, &packet(1, 2));
    assert!(nodes[1].got.is_empty(), "it cannot be read, and begins a handshake");
    sends(&mut nodes, Tick(2), 0, &packet(1, 2));
    assert_eq!(nodes[1].got.len(), 1);
    // Nobody is made to by a stranger's.
    let mut strange = vec![9u8; 68];
    strange[..4].copy_from_slice(&[4, 0, 0, 0]);
    let mail = carry(&mut nodes, Tick(3), vec![(at(66), at(2), strange)]);
    assert_eq!(mail.len(), 1);
}

#[test]
fn a_peer_whose_clock_went_back_is_invited() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    // A handshake of now, kept; and a later one that arrives first.
    let old = acts(&mut nodes[1], |end, mut sink| end.outgoing(Tick(0), &packet(2, 1), &mut sink));
    nodes[1] = node(2, &[1]);
    sends(&mut nodes, Tick(1), 1, &packet(2, 1));
    assert_eq!(nodes[0].got.len(), 1);
    let mail = carry(&mut nodes, Tick(2), old);
    assert_eq!((mail[1].1, mail[1].2[0]), (at(2), 1), "node 1 begins one itself");
    assert_eq!(mail[2].2[0], 2, "which node 2 answers");
}

#[test]
fn a_key_that_changes_and_a_peer_that_goes_end_the_tunnel() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    sends(&mut nodes, Tick(0), 0, &packet(1, 2));
    let other = Tunnel { key: tunnel(9).1.key, ..tunnel(2).1 };
    nodes[0].end.set(&[("node2".to_owned(), other)].into());
    assert_eq!(
        sends(&mut nodes, Tick(1), 1, &packet(2, 1)).len(),
        2,
        "its data is not read; it is invited, and the key does not fit"
    );
    assert!(nodes[0].got.is_empty());
    nodes[0].end.set(&BTreeMap::new());
    assert!(sends(&mut nodes, Tick(2), 0, &packet(1, 2)).is_empty());
    assert_eq!(nodes[0].end.next_wake().map(|at| at.0), Some(250), "the last look finds nobody");
    acts(&mut nodes[0], |end, mut sink| end.look(Tick(250), &mut sink));
    assert_eq!(nodes[0].end.next_wake(), None);
}

#[test]
fn a_tunnel_without_packets_falls_asleep() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    assert_eq!(nodes[0].end.next_wake(), None);
    sends(&mut nodes, Tick(1000), 0, &packet(1, 2));
    assert_eq!(nodes[0].end.next_wake(), Some(Tick(1250)));
    acts(&mut nodes[0], |end, mut sink| end.look(Tick(1250), &mut sink));
    assert_eq!(nodes[0].end.next_wake(), Some(Tick(1500)));
    acts(&mut nodes[0], |end, mut sink| end.look(Tick(1000).after(AWAKE), &mut sink));
    assert_eq!(nodes[0].end.next_wake(), None);
}

#[test]
fn a_storm_of_handshakes_is_answered_with_cookies() {
    let mut nodes = [node(1, &[2]), node(2, &[1])];
    // As after the hundredth of this second.
    nodes[0].end.limiter = RateLimiter::new(&nodes[0].end.public, 0);
    let mail = sends(&mut nodes, Tick(0), 1, &packet(2, 1));
    assert_eq!(mail.iter().map(|(_, _, bytes)| bytes[0]).collect::<Vec<_>>(), [1, 3], "show that you are there");
    assert!(nodes[0].got.is_empty());
}
