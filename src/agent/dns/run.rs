//! Hands: the task `dns`: listens at the node's address in the pod network, and follows the share and that address.
//!
//! In:       the network's share, the node's own network.
//! Out:      answers; and to the runtime whether pods can ask here ([`NameServer`]).
//! Never:    asks the master: with the share from the disk it answers while nobody else is there.
//!
//! ```text
//!  no network ─▶ binding ──▶ serving ─┐ the address changed, or a socket failed for good
//!                  ▲ └ refused: said once, again after 1 s to 30 s
//!                  └──────────────────┘
//! ```
//! Pods that start while it is not known yet wait for it, [`UNDECIDED`] at most; pods that start while it cannot listen get the host's
//! servers, and keep them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::forward::run::Forwarder;
use super::serve::run::Server;
use super::zone::Zone;
use super::{NameServer, disk, tcp, udp};
use crate::agent::node_network::NodeNetwork;
use crate::backoff::Policy;
use crate::clock::SystemClock;
use crate::error::Chain;
use crate::link::share::Share;
use crate::rng::Rng;

/// How long it may be not known whether pods can ask here.
pub const UNDECIDED: Duration = Duration::from_secs(5);
/// Where pods ask: `resolv.conf` cannot say another.
pub const PORT: u16 = 53;
/// Between tries to listen.
const TRIES: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// What the name server works with.
pub struct Parts {
    /// `dns.port`: where it listens; [`PORT`] unless that is taken on this host for good.
    pub port: u16,
    /// The network's share, the one on the disk first.
    pub net: watch::Receiver<Arc<Share>>,
    /// The node's own network.
    pub network: watch::Receiver<Option<NodeNetwork>>,
    /// Hears whether pods can ask here.
    pub serving: watch::Sender<NameServer>,
    /// The host's `resolv.conf`: the first that names a server.
    pub resolv_conf: Vec<PathBuf>,
    /// Where the host's servers listen: 53, but for tests.
    pub upstream_port: u16,
    /// The time.
    pub clock: SystemClock,
}

/// Answers until `stop`.
pub async fn serve(parts: Parts, stop: CancellationToken) {
    let forwarder = Forwarder::new(parts.clock, parts.resolv_conf.clone(), parts.upstream_port);
    let server = Arc::new(Server::new(forwarder, parts.clock));
    // Pods are told of a share's names once these are answered, not before.
    let (indexed, net) = watch::channel(Arc::default());
    let follow = follow_share(parts.net, indexed, Arc::clone(&server));
    let parts = Parts { net, ..parts };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow => stop.cancelled().await,
        () = listen(parts, server) => stop.cancelled().await,
    }
}

/// Makes the index anew with each share, and tells which one it is of.
async fn follow_share(mut net: watch::Receiver<Arc<Share>>, indexed: watch::Sender<Arc<Share>>, server: Arc<Server>) {
    loop {
        let share = net.borrow_and_update().clone();
        // Some milliseconds for thousands of endpoints.
        let made = tokio::task::spawn_blocking(move || (Arc::new(Zone::of(&share)), share)).await;
        match made {
            Ok((zone, share)) => {
                server.set_zone(zone);
                indexed.send_replace(share);
            }
            Err(error) => {
                tracing::error!(%error, "the names of a share could not be read; those of the one before it are answered");
            }
        }
        if net.changed().await.is_err() {
            // The agent ends; the names stay.
            return std::future::pending().await;
        }
    }
}

async fn listen(mut parts: Parts, server: Arc<Server>) {
    let mut rng = Rng::from_os("dns");
    let mut refusals = 0;
    let mut said = String::new();
    let mut is_undecided = true;
    loop {
        let network = parts.network.borrow_and_update().clone();
        server.set_range(network.as_ref().map(|network| network.range));
        let Some(address) = network.as_ref().filter(|network| network.bridge.is_some()).map(|network| network.gateway) else {
            if network.is_some() {
                tell(&parts.serving, NameServer::Host);
                say(
                    &mut said,
                    "the pods' network is not within this agent's reach: it answers no names, pods have the host's servers",
                );
            }
            let decide = async {
                if is_undecided {
                    sleep(UNDECIDED).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                changed = parts.network.changed() => if changed.is_err() { return std::future::pending().await },
                () = decide => {
                    is_undecided = false;
                    tell(&parts.serving, NameServer::Host);
                }
            }
            continue;
        };
        is_undecided = false;
        let bound = bind(address, parts.port).await;
        let failed = match bound {
            Ok((udp, tcp)) => {
                refusals = 0;
                said.clear();
                tracing::info!(%address, port = parts.port, "answers names");
                answer(&mut parts, &server, address, udp, tcp).await
            }
            Err(error) => Some(error),
        };
        let Some(error) = failed else { continue };
        refusals += 1;
        tell(&parts.serving, NameServer::Host);
        say(&mut said, &why(&error, address, parts.port).await);
        tokio::select! {
            () = sleep(TRIES.jittered(refusals, &mut rng)) => {}
            changed = parts.network.changed() => if changed.is_err() { return std::future::pending().await },
        }
    }
}

/// Answers until the address changes, or a socket fails.
async fn answer(
    parts: &mut Parts,
    server: &Arc<Server>,
    address: Ipv4Addr,
    udp: UdpSocket,
    tcp: TcpListener,
) -> Option<io::Error> {
    let (udp, tcp) = (udp::serve(Arc::new(udp), Arc::clone(server)), tcp::serve(tcp, Arc::clone(server)));
    let mut net = parts.net.clone();
    let share_tells = async {
        let mut undecided = true;
        loop {
            let known = {
                let share = net.borrow_and_update();
                share.network.as_ref().map(|network| {
                    let dns = (network.dns.parse::<Ipv4Addr>().ok(), network.dns6.parse::<Ipv6Addr>().ok());
                    (network.domain.clone(), dns)
                })
            };
            let is_known = known.is_some();
            if let Some((domain, (dns, dns6))) = known {
                let own = [Some(address), dns].into_iter().flatten().map(IpAddr::V4);
                let own = own.chain(dns6.map(IpAddr::V6)).collect();
                server.forwarder.set_own(own);
                let domain = Some(domain).filter(|domain| !domain.is_empty()).unwrap_or_else(|| super::DEFAULT_DOMAIN.to_owned());
                if parts.port == PORT {
                    tell(&parts.serving, NameServer::Here { address, domain });
                } else {
                    tell(&parts.serving, NameServer::Host);
                }
            }
            tokio::select! {
                changed = net.changed() => if changed.is_err() { return std::future::pending::<()>().await },
                () = sleep(UNDECIDED), if undecided && !is_known => {
                    undecided = false;
                    tell(&parts.serving, NameServer::Host);
                }
            }
        }
    };
    server.forwarder.set_own(vec![address.into()]);
    let also6 = answer6(parts.network.clone(), parts.port, server);
    let mut network = parts.network.clone();
    let moved = async {
        let other = |network: &Option<NodeNetwork>| {
            !network.as_ref().is_some_and(|network| network.gateway == address && network.bridge.is_some())
        };
        if network.wait_for(other).await.is_err() {
            // The agent ends.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        error = udp => Some(error),
        error = tcp => Some(error),
        () = share_tells => None,
        () = moved => None,
        () = also6 => None,
    }
}

/// Answers at the node's IPv6 address as well, for as long as it has one. Pods are told the one of IPv4: nobody waits for this one.
async fn answer6(mut network: watch::Receiver<Option<NodeNetwork>>, port: u16, server: &Arc<Server>) {
    let mut said = String::new();
    loop {
        let address = network.borrow_and_update().as_ref().and_then(|network| network.v6).map(|v6| v6.gateway);
        let failed = async {
            let Some(address) = address else { return std::future::pending().await };
            let error = match bind(address, port).await {
                Ok((udp, tcp)) => tokio::select! {
                    error = udp::serve(Arc::new(udp), Arc::clone(server)) => error,
                    error = tcp::serve(tcp, Arc::clone(server)) => error,
                },
                Err(error) => error,
            };
            // The kernel asks whether somebody else has the address before anybody may use it: a second.
            if error.kind() != io::ErrorKind::AddrNotAvailable {
                say(
                    &mut said,
                    &format!("the node answers no names at {address}, port {port}: {}. It is tried again", Chain(&error)),
                );
            }
            sleep(TRIES.first).await;
        };
        tokio::select! {
            () = failed => {}
            changed = network.changed() => if changed.is_err() { return std::future::pending().await },
        }
    }
}

async fn bind(address: impl Into<IpAddr>, port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let at = SocketAddr::new(address.into(), port);
    Ok((UdpSocket::bind(at).await?, TcpListener::bind(at).await?))
}

fn tell(serving: &watch::Sender<NameServer>, now: NameServer) {
    serving.send_if_modified(|before| {
        let other = *before != now;
        *before = now;
        other
    });
}

/// Says it once.
fn say(said: &mut String, words: &str) {
    if said != words {
        tracing::warn!("{words}");
        words.clone_into(said);
    }
}

/// Why it cannot listen, for a person.
async fn why(error: &io::Error, address: Ipv4Addr, port: u16) -> String {
    let at = format!("the node answers no names at {address}, port {port}");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holders = tokio::task::spawn_blocking(move || disk::holders(address, port)).await.unwrap_or_default();
            let who = if holders.is_empty() { "another program".to_owned() } else { holders.join(" and ") };
            format!(
                "{at}: {who} holds the port; let it listen at other addresses only (dnsmasq: bind-interfaces). It is tried again"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{at}: the agent has no right to a port below 1024 (CAP_NET_BIND_SERVICE). Pods have the host's servers")
        }
        io::ErrorKind::AddrNotAvailable => format!("{at}: the machine does not have the address yet. It is tried again"),
        _ => format!("{at}: {}. It is tried again", Chain(error)),
    }
}
