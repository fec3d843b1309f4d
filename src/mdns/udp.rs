//! Hands: multicast DNS on sockets. A master answers ([`serve`]), a node asks ([`look`]), and answers for names that
//! services have ([`speak`]).
//!
//! The responder's socket is bound to the group's address, so that it hears nothing that was sent to the machine alone: no router carries
//! 224.0.0.0/24, and nobody outside of the network can make it speak.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::interfaces::{Interface, interfaces, reached};
use super::packet::{self, Asker};
use super::{Announcement, Answers, Voice};
use crate::clock::{Clock, SystemClock};
use crate::error::Chain;

/// Of multicast DNS.
pub const PORT: u16 = 5353;
/// Of multicast DNS.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// How long an asker listens. An answer takes milliseconds; Wi-Fi that sleeps delivers multicast each 100 to 300 ms.
pub const WINDOW: Duration = Duration::from_secs(2);
/// How soon a new address of the machine is served.
const ADDRESSES: Duration = Duration::from_secs(10);
/// Between tries to open a socket that is refused.
const REFUSED: Duration = Duration::from_secs(60);
/// Between the two times that something is said unasked: RFC 6762, 8.3.
const REPEAT: Duration = Duration::from_secs(1);
/// Of one look; a house has a handful of masters, and whoever sends more is no master.
pub const MOST_PACKETS: usize = 2_000;
/// Ours is 400 bytes, and a packet for one network segment 1,472.
const PACKET_BYTES: usize = 1_500;
/// RFC 6762, 11.
const HOPS: u32 = 255;

/// The machine's addresses, as they are now.
fn here() -> Vec<Interface> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    interfaces(&read("/proc/thread-self/net/fib_trie"), &read("/proc/thread-self/net/route"))
}

/// Answers who asks for masters, where one who listens on `listen` is reached, until `stop`.
pub async fn serve(what: Announcement, listen: IpAddr, port: u16, clock: SystemClock, stop: CancellationToken) {
    let (_what, voice) = watch::channel(what);
    speak(voice, listen, port, clock, stop).await;
}

/// Answers, where one who listens on `listen` is reached, until `stop`.
pub async fn speak<V: Voice>(
    mut voice: watch::Receiver<V>,
    listen: IpAddr,
    port: u16,
    clock: SystemClock,
    stop: CancellationToken,
) {
    let mut said = false;
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = answer(&mut voice, listen, port, clock) => ended,
        };
        let Err(error) = ended else { continue };
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(error = %Chain(&error), "{}", V::CANNOT);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(REFUSED) => {}
        }
    }
}

fn open(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // Avahi and others of the house have the port as well.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Only what comes where it joined itself.
    socket.set_multicast_all_v4(false)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_ttl_v4(HOPS)?;
    socket.bind(&SocketAddrV4::new(GROUP, port).into())?;
    UdpSocket::from_std(socket.into())
}

/// Until a socket fails, or there is nothing to say any more.
async fn answer<V: Voice>(voice: &mut watch::Receiver<V>, listen: IpAddr, port: u16, clock: SystemClock) -> io::Result<()> {
    if voice.wait_for(|voice| !voice.is_silent()).await.is_err() {
        return std::future::pending().await;
    }
    let socket = open(port)?;
    let mut served = Vec::new();
    let mut answers = Answers::default();
    let mut look = interval(ADDRESSES);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = [0; PACKET_BYTES];
    let mut now = voice.borrow_and_update().clone();
    let mut again: Option<(Instant, Vec<Vec<u8>>)> = None;
    let mut contradicted = BTreeSet::new();
    loop {
        let repeat = async {
            match &again {
                Some((at, _)) => sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            if voice.changed().await.is_err() {
                // It stays as it is.
                std::future::pending::<()>().await;
            }
        };
        let (length, from) = tokio::select! {
            _ = look.tick() => {
                if serve_on(&socket, &mut served, reached(&here(), listen)) {
                    let packets = now.unasked(None);
                    say(&socket, port, &served, &packets).await;
                    again = Some((Instant::now() + REPEAT, packets));
                }
                continue;
            }
            () = repeat => {
                if let Some((_, packets)) = again.take() {
                    say(&socket, port, &served, &packets).await;
                }
                continue;
            }
            () = changed => {
                let next = voice.borrow_and_update().clone();
                let packets = next.unasked(Some(&now));
                say(&socket, port, &served, &packets).await;
                if next.is_silent() {
                    return Ok(());
                }
                if !packets.is_empty() {
                    again = Some((Instant::now() + REPEAT, packets));
                }
                contradicted.clear();
                now = next;
                continue;
            }
            heard = socket.recv_from(&mut buffer) => heard?,
        };
        let SocketAddr::V4(from) = from else { continue };
        let Some(bytes) = buffer.get(..length) else { continue };
        if let Some(name) = now.contradicted(bytes, *from.ip()).filter(|_| !served.contains(from.ip()))
            && contradicted.insert(name.clone())
        {
            tracing::warn!(name, by = %from.ip(), "somebody else in the local network has this name: who asks for it gets the one or the other");
        }
        let Some(asked) = now.asked(bytes) else { continue };
        if !answers.one_more(clock.now().tick) {
            continue;
        }
        // Where the asker reaches us is where we would send to it from.
        let Some(address) = towards(*from.ip()).filter(|address| served.contains(address)) else { continue };
        let asker = if from.port() == port { Asker::Peer } else { Asker::Legacy };
        let Some(bytes) = now.answer(&asked, address, asker) else { continue };
        match asker {
            Asker::Legacy => {
                if let Err(error) = socket.send_to(&bytes, from).await {
                    tracing::debug!(%error, %from, "an answer by mDNS was not sent");
                }
            }
            Asker::Peer => say(&socket, port, &[address], &[bytes]).await,
        }
    }
}

/// Says it to all who are where these addresses are.
async fn say(socket: &UdpSocket, port: u16, at: &[Ipv4Addr], packets: &[Vec<u8>]) {
    for address in at {
        for bytes in packets {
            let sent = match SockRef::from(socket).set_multicast_if_v4(address) {
                Ok(()) => socket.send_to(bytes, (GROUP, port)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                // An interface that went just now.
                tracing::debug!(%error, %address, "what was to be said by mDNS was not sent");
            }
        }
    }
}

/// Joins the group where it is to be heard. Again each time: an interface that was taken away and came back has forgotten. Whether it is
/// heard elsewhere than before.
fn serve_on(socket: &UdpSocket, served: &mut Vec<Ipv4Addr>, now: Vec<Ipv4Addr>) -> bool {
    let joined = |address: &Ipv4Addr| match socket.join_multicast_v4(GROUP, *address) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::AddrInUse,
    };
    let now: Vec<Ipv4Addr> = now.into_iter().filter(joined).collect();
    let other = now != *served;
    if other {
        tracing::info!(addresses = ?now, "announces itself by mDNS");
        *served = now;
    }
    other
}

/// The own address that a packet to `other` leaves from. Asks the routing table; sends nothing.
fn towards(other: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Asks on every network that this machine is in, and gives what is answered within `window`, each with the address it came from.
/// Returns where it asked.
pub async fn look(port: u16, window: Duration, mut take: impl FnMut(Announcement, Ipv4Addr)) -> Vec<Interface> {
    let mut all = here();
    let mut sockets = Vec::new();
    all.retain(|one| {
        let opened = std::net::UdpSocket::bind((one.address, 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            UdpSocket::from_std(socket)
        });
        opened.map(|socket| sockets.push(socket)).is_ok()
    });
    let begin = Instant::now();
    let question = packet::query(0);
    let mut buffer = [0; PACKET_BYTES];
    let mut packets = 0;
    // Twice: the first may be lost. What was asked on a network without anybody is an error here, and no news.
    for until in [begin + window / 3, begin + window] {
        for socket in &sockets {
            let _ = socket.send_to(&question, (GROUP, port)).await;
        }
        while let Ok(heard) = timeout_at(until, any(&sockets, packets, &mut buffer)).await {
            packets += 1;
            if packets > MOST_PACKETS {
                tracing::warn!(packets, "more answers by mDNS than a house has masters; the rest is not read");
                return all;
            }
            // RFC 6762, 6: an answer comes from the port.
            if let Ok((length, SocketAddr::V4(from))) = heard
                && from.port() == port
            {
                for master in packet::masters(buffer.get(..length).unwrap_or_default()) {
                    take(master, *from.ip());
                }
            }
        }
    }
    all
}

/// The next packet of any of them; the first one to be asked changes, so that none is drowned out by another.
async fn any(sockets: &[UdpSocket], turn: usize, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    std::future::poll_fn(|context| {
        for socket in sockets.iter().cycle().skip(turn % sockets.len().max(1)).take(sockets.len()) {
            let mut read = ReadBuf::new(buffer);
            if let std::task::Poll::Ready(from) = socket.poll_recv_from(context, &mut read) {
                return std::task::Poll::Ready(from.map(|from| (read.filled().len(), from)));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(uid: &str) -> Announcement {
        Announcement {
            uid: uid.into(),
            cluster: "bramble".into(),
            version: "0.1.0".into(),
            port: 6443,
            ca: "0123456789abcdef".repeat(4),
        }
    }

    /// On loopback, at a port that nobody else has.
    #[tokio::test]
    async fn a_master_is_found_and_one_that_listens_elsewhere_is_not() {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let clock = SystemClock::start();
        let serving = [("a", "127.0.0.1"), ("b", "127.0.0.1"), ("elsewhere", "203.0.113.1")]
            .map(|(uid, listen)| tokio::spawn(serve(master(uid), listen.parse().unwrap(), port, clock, stop.clone())));
        let mut found = std::collections::BTreeSet::new();
        // The responders have joined within moments.
        for _ in 0..20 {
            let asked = look(port, Duration::from_millis(500), |master, from| {
                found.insert((master.uid, from));
            });
            assert!(asked.await.iter().any(|one| one.address.is_loopback()));
            if found.len() == 2 {
                break;
            }
        }
        let here = Ipv4Addr::LOCALHOST;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a".to_owned(), here), ("b".to_owned(), here)]);
        stop.cancel();
        for task in serving {
            task.await.unwrap();
        }
    }

    /// Whoever hears the question sends as much as it can, and each packet names another master.
    #[tokio::test]
    async fn a_flood_is_cut_off_and_does_no_harm() {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let flood = open(port).unwrap();
        flood.join_multicast_v4(GROUP, Ipv4Addr::LOCALHOST).unwrap();
        let flooding = tokio::spawn(async move {
            let mut buffer = [0; PACKET_BYTES];
            let (length, asker) = flood.recv_from(&mut buffer).await.unwrap();
            let asked = packet::asked(&buffer[..length], &master("x")).unwrap();
            for number in 0..u64::MAX {
                let other = master(&format!("u{number}"));
                let _ = flood.send_to(&packet::answer(&asked, &other, Ipv4Addr::LOCALHOST, Asker::Legacy).unwrap(), asker).await;
                let _ = flood.send_to(b"rubbish", asker).await;
                tokio::task::yield_now().await;
            }
        });
        let mut named = std::collections::BTreeSet::new();
        let begin = Instant::now();
        look(port, Duration::from_secs(60), |master, _| {
            named.insert(master.uid);
        })
        .await;
        assert!(begin.elapsed() < Duration::from_secs(50), "it is cut off by number, before its time is over");
        assert!(!named.is_empty() && named.len() <= MOST_PACKETS, "{}", named.len());
        flooding.abort();
    }
}
