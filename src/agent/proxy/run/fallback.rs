//! Node ports in user space, where the kernel's nftables cannot be had.
//!
//! In:       the forwards.
//! Out:      a listener for each node port, TCP or UDP, as long as a service has it. Cluster addresses cannot be served so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::balance::Balancer;
use super::super::table::{Forward, Protocol, Table};
use super::super::{tcp, udp};
use crate::clock::{Clock as _, SystemClock};

/// A port that is served.
struct Port {
    forward: Arc<Mutex<Forward>>,
    stop: CancellationToken,
}

/// The ports that are served. They end with it.
pub(super) struct Fallback {
    clock: SystemClock,
    ports: BTreeMap<(Protocol, u16), Port>,
    tasks: JoinSet<()>,
}

impl Fallback {
    pub(super) fn new(clock: SystemClock) -> Self {
        Self { clock, ports: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Serves these forwards' node ports and no others. Says what cannot be served.
    pub(super) async fn serve(&mut self, table: &Table) -> BTreeSet<String> {
        while self.tasks.try_join_next().is_some() {}
        let mut words = BTreeSet::new();
        let wanted: BTreeMap<(Protocol, u16), (&String, &Forward)> = table
            .forwards
            .iter()
            .filter_map(|(name, forward)| Some(((forward.protocol, forward.node_port?), (name, forward))))
            .collect();
        self.ports.retain(|key, port| {
            let stays = wanted.contains_key(key);
            if !stays {
                port.stop.cancel();
            }
            stays
        });
        for ((protocol, number), (name, forward)) in wanted {
            if let Some(port) = self.ports.get(&(protocol, number)) {
                if let Ok(mut known) = port.forward.lock() {
                    known.clone_from(forward);
                }
                continue;
            }
            if let Err(error) = self.open(protocol, number, forward).await {
                words.insert(format!("{name} is not served at this node's port {number}: {error}"));
            }
        }
        words
    }

    async fn open(&mut self, protocol: Protocol, number: u16, forward: &Forward) -> std::io::Result<()> {
        let forward = Arc::new(Mutex::new(forward.clone()));
        let stop = CancellationToken::new();
        let (balancer, clock, now) = (Mutex::new(Balancer::default()), self.clock, forward.clone());
        let pick = move |from: SocketAddr| {
            let (forward, mut balancer) = (now.lock().ok()?, balancer.lock().ok()?);
            let backend = balancer.pick(&forward, from.ip(), clock.now().tick)?;
            Some(SocketAddr::from(SocketAddrV4::new(backend.address, backend.port)))
        };
        match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).await?;
                self.tasks.spawn(tcp::serve(listener, pick, stop.clone()));
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, number)).await?;
                self.tasks.spawn(udp::serve(socket, pick, stop.clone()));
            }
        }
        self.ports.insert((protocol, number), Port { forward, stop });
        Ok(())
    }
}
