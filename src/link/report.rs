//! The upward digest: do master and node agree on what the node's pods are?
//!
//! Each end keeps a hash per pod of the newest status that was said; `health` carries the digest over all of them. Another
//! digest at the master means that a report was lost: it asks for everything.

use std::collections::BTreeMap;

use super::message::PodReport;
use super::share::digest_of;
use crate::api::Uid;

/// What was said of each pod, as hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    hashes: BTreeMap<Uid, String>,
}

impl Said {
    /// Takes a report in. A pod that is gone stays in the digest, as gone, until it leaves the share: that the other end has heard
    /// it must be sure.
    pub fn take(&mut self, report: &PodReport) {
        // A JSON value with string keys: cannot fail.
        let text = serde_json::to_vec(&report.status).unwrap_or_default();
        let hash = if report.gone { "gone".to_owned() } else { digest_of(&text) };
        self.hashes.insert(report.uid.clone(), hash);
    }

    /// Forgets one pod.
    pub fn forget(&mut self, uid: &Uid) {
        self.hashes.remove(uid);
    }

    /// Forgets all pods but these.
    pub fn keep_only(&mut self, wanted: impl Fn(&Uid) -> bool) {
        self.hashes.retain(|uid, _| wanted(uid));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.hashes.clear();
    }

    /// How many pods.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Over all pods in order of uid.
    #[must_use]
    pub fn digest(&self) -> String {
        let text: String = self.hashes.iter().map(|(uid, hash)| format!("{uid}={hash}\n")).collect();
        digest_of(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Generation;

    fn report(uid: &str, phase: &str, gone: bool) -> PodReport {
        PodReport {
            uid: Uid::from(uid),
            namespace: "default".into(),
            name: uid.into(),
            generation: Generation(1),
            attempt: 1,
            status: serde_json::json!({"phase": phase}),
            gone,
        }
    }

    #[test]
    fn both_ends_agree_whatever_the_order_until_one_misses_a_report() {
        let (mut node, mut master) = (Said::default(), Said::default());
        for report in [report("a", "Running", false), report("b", "Pending", false)] {
            node.take(&report);
        }
        for report in [report("b", "Pending", false), report("a", "Running", false)] {
            master.take(&report);
        }
        assert_eq!(node.digest(), master.digest());
        node.take(&report("b", "Running", false));
        assert_ne!(node.digest(), master.digest());
        node.take(&report("b", "Running", true));
        assert_ne!(node.digest(), master.digest(), "a lost or unkept end is asked for");
        master.take(&report("b", "Running", true));
        assert_eq!(node.digest(), master.digest());
        for end in [&mut node, &mut master] {
            end.keep_only(|uid| uid.0 != "b");
        }
        assert_eq!((node.digest(), node.len()), (master.digest(), 1));
    }
}
