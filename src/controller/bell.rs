//! The signs of life of nodes, shared between who hears the nodes and who judges them, with a bell for news.
//!
//! The lock is held for a few lines; the bell only says "look".

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Settings;
use super::signs::Signs;
use crate::api::Uid;
use crate::clock::Tick;

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct SharedSigns {
    signs: Arc<Mutex<Signs>>,
    bell: Arc<Notify>,
}

impl SharedSigns {
    /// No sign yet, in a master that started at `started`.
    #[must_use]
    pub fn new(started: Tick, settings: Settings) -> Self {
        Self { signs: Arc::new(Mutex::new(Signs::new(started, settings))), bell: Arc::new(Notify::new()) }
    }

    /// A packet of any kind came from a node.
    pub fn heard(&self, node: &str, at: Tick) {
        if self.with(|signs| signs.heard(node, at)) {
            self.bell.notify_one();
        }
    }

    /// A node's last will came.
    pub fn gone(&self, node: &str, at: Tick) {
        if self.with(|signs| signs.gone(node, at)) {
            self.bell.notify_one();
        }
    }

    /// These pods ran when the master started.
    pub fn await_pods(&self, pods: impl IntoIterator<Item = Uid>) {
        self.with(|signs| signs.await_pods(pods));
    }

    /// How these pods are is known and stored now, or they are no more.
    pub fn pods_told(&self, pods: &[Uid]) {
        if self.with(|signs| signs.pods_told(pods)) {
            self.bell.notify_one();
        }
    }

    /// Whether it is known of all pods that ran when the master started, or the grace is over.
    #[must_use]
    pub fn all_told(&self, now: Tick) -> bool {
        self.with(|signs| signs.all_told(now))
    }

    /// The pods of which it is known since the last call.
    pub(super) fn take_told(&self) -> Vec<Uid> {
        self.with(Signs::take_told)
    }

    /// What the deciders read.
    #[must_use]
    pub fn signs(&self) -> Arc<Mutex<Signs>> {
        self.signs.clone()
    }

    /// Before this nothing is concluded from what is not known yet.
    pub(super) fn judged_from(&self) -> Tick {
        self.with(|signs| signs.judged_from())
    }

    /// The nodes with news; empties the list.
    pub(super) fn take_news(&self) -> Vec<String> {
        self.with(Signs::take_news)
    }

    /// Waits for news. Safe to drop half way.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn with<R>(&self, act: impl FnOnce(&mut Signs) -> R) -> R {
        act(&mut self.signs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
