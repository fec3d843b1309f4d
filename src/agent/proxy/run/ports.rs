//! Tells whose ports the services have taken: an event of the service, once for as long as it is so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::table::{Protocol, Table};
use super::super::taken::{Port, claimed, taken};
use crate::agent::holder::Listener;
use crate::agent::holder::disk::{listening, processes};
use crate::api::Uid;
use crate::link::message::NodeEvent;

/// What goes on is told again, before its event is an hour old and goes.
const AGAIN: Duration = Duration::from_secs(50 * 60);

type Claimed = BTreeMap<Port, Option<BTreeSet<IpAddr>>>;

/// What was seen and told.
pub(super) struct Ports {
    events: mpsc::Sender<NodeEvent>,
    claimed: Claimed,
    at: Option<Instant>,
    /// The sockets for datagrams at services' ports. A program that asks from any free port has one for a moment: it counts when it is
    /// there at the next look.
    datagrams: BTreeSet<u64>,
    told: BTreeMap<Port, Instant>,
}

impl Ports {
    pub(super) fn new(events: mpsc::Sender<NodeEvent>) -> Self {
        Self { events, claimed: Claimed::new(), at: None, datagrams: BTreeSet::new(), told: BTreeMap::new() }
    }

    /// Looks when the ports are others than before, or after `every`; not at all where there are none.
    pub(super) async fn look(&mut self, node: &str, table: &Table, own: &[IpAddr], every: Duration) {
        let claimed = claimed(table, own);
        let is_old = self.at.is_none_or(|at| at.elapsed() >= every);
        if claimed == self.claimed && (!is_old || claimed.is_empty()) {
            return;
        }
        (self.claimed, self.at) = (claimed, Some(Instant::now()));
        let mut held = match &self.claimed {
            none if none.is_empty() => BTreeMap::new(),
            claimed => taken(claimed, &tokio::task::spawn_blocking(all).await.unwrap_or_default()),
        };
        let datagrams = held.iter().filter(|(port, _)| port.protocol == Protocol::Udp).flat_map(|(_, inodes)| inodes).copied();
        let before = std::mem::replace(&mut self.datagrams, datagrams.collect());
        held.retain(|port, inodes| {
            inodes.retain(|inode| port.protocol == Protocol::Tcp || before.contains(inode));
            !inodes.is_empty()
        });
        self.told.retain(|port, at| held.contains_key(port) && at.elapsed() < AGAIN);
        held.retain(|port, _| !self.told.contains_key(port));
        if held.is_empty() {
            return;
        }
        let name = move || {
            let named = held.into_iter().map(|(port, inodes)| (port, processes(&inodes)));
            named.collect::<Vec<_>>()
        };
        for (port, holders) in tokio::task::spawn_blocking(name).await.unwrap_or_default() {
            let is_own = holders.iter().any(|(process, _)| *process == std::process::id());
            if is_own || self.tell(node, &port, holders.first()) {
                self.told.insert(port, Instant::now());
            }
        }
    }

    /// Whether it is on its way.
    fn tell(&self, node: &str, port: &Port, holder: Option<&(u32, String)>) -> bool {
        let holder = holder.map_or("another program".to_owned(), |(process, name)| format!("{name} (process {process})"));
        let Some((namespace, name)) = port.service.split_once('/') else { return false };
        let words = port.words(node, &holder);
        tracing::warn!(service = port.service, "{words}");
        let event = NodeEvent {
            kind: "Service".to_owned(),
            uid: Uid::default(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            field_path: String::new(),
            warning: true,
            reason: "PortTaken".to_owned(),
            message: words,
        };
        self.events.try_send(event).is_ok()
    }
}

/// Everything of this machine that listens.
fn all() -> Vec<(Protocol, Listener)> {
    let of =
        |protocol, tables: &[&str]| listening(tables).into_iter().map(move |listener| (protocol, listener)).collect::<Vec<_>>();
    let mut all = of(Protocol::Tcp, &["tcp", "tcp6"]);
    all.extend(of(Protocol::Udp, &["udp", "udp6"]));
    all
}
