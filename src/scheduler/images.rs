//! What images are made for, as far as nodes have found out for us.
//!
//! In:       answers of nodes.
//! Out:      whether a pod may be placed now, has to wait for an answer, or which question to ask first.
//! Never:    asks (`run.rs`, by way of [`Asks`]).
//!
//! Only a cluster whose nodes are of several kinds asks at all, each image once an hour; what nobody knows is placed as if it ran
//! everywhere, and the node says why not.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::api::image::Platform;
use crate::api::{Key, Object};
use crate::clock::Tick;

/// A pod waits for an answer no longer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// What an image is made for changes seldom.
const FRESH: Duration = Duration::from_secs(3600);
/// A registry that was out of reach is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Images that are remembered: what a house runs, many times over.
const MOST: usize = 512;

/// A question for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which node.
    pub node: String,
    /// What is to be found out.
    pub image: String,
    /// The pod that wants it: its pull secrets are shown.
    pub pod: Key,
}

/// What a node answers: what the image is made for; nothing when it does not know.
pub type Answered = Pin<Box<dyn Future<Output = Vec<Platform>> + Send>>;

/// Asks nodes. `secrets` are whole objects.
pub trait Asks: Send + Sync + 'static {
    /// What this image is made for, by what `node` finds out. Answers within [`PATIENCE`].
    fn ask(&self, node: &str, image: &str, secrets: Vec<Object>) -> Answered;
}

#[derive(Clone, Debug)]
enum Entry {
    Asked {
        since: Tick,
        waiting: BTreeSet<Key>,
    },
    /// Empty: nobody knows.
    Known {
        platforms: Vec<Platform>,
        at: Tick,
    },
}

/// What is known of images.
#[derive(Clone, Debug, Default)]
pub struct Images(BTreeMap<String, Entry>);

/// What a pod has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It may be placed by what is known: a list for each of its images that somebody knows.
    Place(Vec<Vec<Platform>>),
    /// It waits at most until then; these are to be asked about first.
    Wait {
        /// Not longer.
        until: Tick,
        /// Images that nobody was asked about.
        ask: Vec<String>,
    },
}

impl Images {
    /// What a pod with these images has to do.
    pub fn next(&mut self, pod: &Key, images: &[String], now: Tick) -> Next {
        let (mut lists, mut ask, mut until) = (Vec::new(), Vec::new(), None);
        for image in images {
            match self.0.get_mut(image) {
                Some(Entry::Known { platforms, at }) if now.since(*at) < if platforms.is_empty() { ASK_AGAIN } else { FRESH } => {
                    if !platforms.is_empty() {
                        lists.push(platforms.clone());
                    }
                }
                Some(Entry::Asked { since, waiting }) => {
                    if now.since(*since) < PATIENCE {
                        waiting.insert(pod.clone());
                        until = until.max(Some(since.after(PATIENCE)));
                    }
                }
                Some(Entry::Known { .. }) | None => {
                    if self.0.len() >= MOST {
                        self.0.pop_first();
                    }
                    self.0.insert(image.clone(), Entry::Asked { since: now, waiting: [pod.clone()].into() });
                    until = until.max(Some(now.after(PATIENCE)));
                    ask.push(image.clone());
                }
            }
        }
        until.map_or(Next::Place(lists), |until| Next::Wait { until, ask })
    }

    /// A node has answered. The pods that waited for it.
    pub fn answered(&mut self, image: &str, platforms: Vec<Platform>, now: Tick) -> BTreeSet<Key> {
        match self.0.insert(image.to_owned(), Entry::Known { platforms, at: now }) {
            Some(Entry::Asked { waiting, .. }) => waiting,
            Some(Entry::Known { .. }) | None => BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry::PODS;

    #[test]
    fn an_image_is_asked_about_once_and_nobody_waits_for_long() {
        let mut images = Images::default();
        let (a, b) = (Key::new(&PODS, "d", "a"), Key::new(&PODS, "d", "b"));
        let of = ["x".to_owned()];
        let waits =
            |until, ask: &[&str]| Next::Wait { until: Tick(until), ask: ask.iter().map(|one| (*one).to_owned()).collect() };
        assert_eq!(images.next(&a, &of, Tick(0)), waits(5000, &["x"]));
        assert_eq!(images.next(&b, &of, Tick(1000)), waits(5000, &[]));
        assert_eq!(images.next(&b, &of, Tick(5000)), Next::Place(vec![]), "no answer came");
        let arm = vec![Platform::new("linux", "arm64", "")];
        assert_eq!(images.answered("x", arm.clone(), Tick(6000)), [a.clone(), b.clone()].into(), "it came late, and counts");
        assert_eq!(images.next(&b, &of, Tick(7000)), Next::Place(vec![arm]));
        assert_eq!(images.next(&b, &of, Tick(3_606_000)), waits(3_611_000, &["x"]), "after an hour it may have changed");
        images.answered("x", vec![], Tick(3_606_500));
        assert_eq!(images.next(&b, &of, Tick(3_607_000)), Next::Place(vec![]), "nobody knows");
        assert_eq!(images.next(&b, &of, Tick(3_670_000)), waits(3_675_000, &["x"]));
    }
}
