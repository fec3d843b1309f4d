//! Node ports in user space, where the kernel's nftables cannot be had.
//!
//! In:       the forwards.
//! Out:      a listener for each node port, TCP or UDP, IPv4 or IPv6, as long as a service has it. Cluster addresses cannot be served so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::balance::Balancer;
use super::super::table::{Forward, Protocol, Table};
use super::super::{tcp, udp};
use crate::agent::family::Family;
use crate::clock::{Clock as _, SystemClock};

/// Connections that wait to be accepted, as tokio has it.
const WAITING: i32 = 1024;

/// A port that is served.
struct Port {
    forward: Arc<Mutex<Forward>>,
    stop: CancellationToken,
}

/// What a port is known by.
type Served = (Family, Protocol, u16);

/// The ports that are served. They end with it.
pub(super) struct Fallback {
    clock: SystemClock,
    ports: BTreeMap<Served, Port>,
    tasks: JoinSet<()>,
}

impl Fallback {
    pub(super) fn new(clock: SystemClock) -> Self {
        Self { clock, ports: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Serves these forwards' node ports and no others. Says what cannot be served.
    pub(super) fn serve(&mut self, tables: &[(Family, &Table)]) -> BTreeSet<String> {
        while self.tasks.try_join_next().is_some() {}
        let mut words = BTreeSet::new();
        let forwards = tables.iter().flat_map(|(family, table)| table.forwards.iter().map(|(name, one)| (*family, name, one)));
        let wanted: BTreeMap<Served, (&String, &Forward)> = forwards
            .filter_map(|(family, name, forward)| Some(((family, forward.protocol, forward.node_port?), (name, forward))))
            .collect();
        self.ports.retain(|key, port| {
            let stays = wanted.contains_key(key);
            if !stays {
                port.stop.cancel();
            }
            stays
        });
        for (served, (name, forward)) in wanted {
            if let Some(port) = self.ports.get(&served) {
                if let Ok(mut known) = port.forward.lock() {
                    known.clone_from(forward);
                }
                continue;
            }
            if let Err(error) = self.open(served, forward) {
                words.insert(format!("{name} is not served at this node's port {}: {error}", served.2));
            }
        }
        words
    }

    fn open(&mut self, served: Served, forward: &Forward) -> std::io::Result<()> {
        let forward = Arc::new(Mutex::new(forward.clone()));
        let stop = CancellationToken::new();
        let (balancer, clock, now) = (Mutex::new(Balancer::default()), self.clock, forward.clone());
        let pick = move |from: SocketAddr| {
            let (forward, mut balancer) = (now.lock().ok()?, balancer.lock().ok()?);
            let backend = balancer.pick(&forward, from.ip(), clock.now().tick)?;
            Some(SocketAddr::new(backend.address, backend.port))
        };
        let socket = bound(served)?;
        match served.1 {
            Protocol::Tcp => {
                socket.listen(WAITING)?;
                let listener = TcpListener::from_std(socket.into())?;
                self.tasks.spawn(tcp::serve(listener, pick, stop.clone()));
            }
            Protocol::Udp => {
                let socket = UdpSocket::from_std(socket.into())?;
                self.tasks.spawn(udp::serve(socket, pick, stop.clone()));
            }
        }
        self.ports.insert(served, Port { forward, stop });
        Ok(())
    }
}

/// A socket at a port of all addresses of one family: the other has one of its own.
fn bound((family, protocol, number): Served) -> std::io::Result<Socket> {
    let (domain, any) = match family {
        Family::V4 => (Domain::IPV4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        Family::V6 => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(domain, kind, None)?;
    socket.set_nonblocking(true)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections that are over shall not keep the port from a new listener.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SocketAddr::new(any, number).into())?;
    Ok(socket)
}
