//! What the node is: its addresses, its runtime, what it has of devices. Learned anew whenever it may have changed, and told.

use std::time::Duration;

use super::node_loop::Agent;
use crate::agent::devices::Offer;
use crate::agent::node::Input;
use crate::agent::register;
use crate::link::NodeTopic;
use crate::link::codec::encode;

/// A runtime that does not say its version by then is asked again when it answers anew.
const VERSION: Duration = Duration::from_secs(2);

impl Agent {
    /// A new connection may be over another network, or the first since the network came up; and interfaces change. Whether it is so.
    pub(super) async fn learn_addresses(&mut self) -> bool {
        let moved = self.moved.borrow().as_ref().map(|place| place.host.clone());
        let addresses = super::addresses(moved.as_ref().unwrap_or(&self.config.mqtt.broker.host));
        // Between two leases a machine has none: nobody wants to hear of that.
        let none = addresses.iter().all(|address| address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback()));
        if addresses == self.addresses || (none && !self.addresses.is_empty()) {
            return false;
        }
        self.addresses.clone_from(&addresses);
        self.feed(Input::Addresses(addresses));
        self.learn_runtime().await;
        true
    }

    /// Says what it has of devices now.
    pub(super) fn offer(&mut self, offer: Offer) {
        if let Some(info) = &mut self.info {
            register::offer(info, &offer);
            let info = encode(info);
            if self.connected {
                self.publish(&NodeTopic::Info, info, true);
            }
        }
        self.offer = offer;
    }

    /// The runtime answers, or does not: say what it is.
    pub(super) async fn learn_runtime(&mut self) {
        // Docker that hangs must not hold up the node.
        let asked = tokio::time::timeout(VERSION, self.runtime.version()).await;
        let version = asked.ok().and_then(Result::ok).unwrap_or_default();
        if let Ok(Ok(platforms)) = tokio::time::timeout(VERSION, self.runtime.platforms()).await {
            self.platforms = platforms;
        }
        let images = self.images.borrow().clone();
        let wireguard = self.wireguard.borrow().clone();
        let facts = register::Facts {
            node: &self.config.node,
            machine: &self.machine,
            board: &self.board,
            capacity: self.config.capacity,
            runtime: self.config.runtime,
            container_runtime: &version,
            addresses: self.addresses.clone(),
            storage_bytes: self.sensors.read().disk_total_bytes,
            platforms: &self.platforms,
            images: &images,
            volumes_dir: &self.volumes_dir,
            wireguard: &wireguard,
            offer: self.offer.clone(),
        };
        let mut info = register::info(&facts);
        // A runtime that does not answer just now is the one that it was; all else is news.
        if let Some(known) = self.info.as_ref().filter(|_| version.is_empty()) {
            info.container_runtime.clone_from(&known.container_runtime);
        }
        if self.info.as_ref() != Some(&info) {
            if self.connected {
                self.publish(&NodeTopic::Info, encode(&info), true);
            }
            self.info = Some(info);
        }
        self.health_soon();
    }
}
