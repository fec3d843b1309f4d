//! How joining goes on: after each thing that happened, what is done next, when, and what a person is told.
//!
//! ```text
//!  Look ─▶ Ask ─▶ Poll ─▶ joined
//!   ▲       │      │ gone, or another's
//!   └───────┴──────┘
//! ```
//! In:       what came of the last act.
//! Out:      the next act, how long to wait before it, and words when they are others than before.
//! Never:    gives up: who plugged a board in comes back to see why it waits.

use std::time::Duration;

use crate::backoff::Policy;

/// Between tries that fail.
const FAILED: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Between looks for a master: two packets each, and who has just switched the master on waits for nothing else.
const SOUGHT: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(10) };
/// Between looks at a request that waits for its certificate.
const WAITS: Policy = Policy { first: Duration::from_millis(500), cap: Duration::from_secs(15) };
/// After a person said no.
const DENIED: Duration = Duration::from_secs(300);

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask it who it is.
    Look,
    /// Ask to join.
    Ask,
    /// See what became of that.
    Poll,
    /// Make another key: this one's request belongs to somebody else.
    NewKey,
}

/// What came of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is who it should be.
    Trusted,
    /// The request is made, or was made before.
    Asked,
    /// Nobody has said anything.
    Pending,
    /// It was said yes, and the certificate is not there yet.
    Approved,
    /// It is not there any more, or never was ours.
    Gone,
    /// Somebody else made a request with our key.
    Foreign,
    /// A person said no.
    Denied(String),
    /// It cannot be signed.
    Failed(String),
    /// Nobody is found whom it could ask.
    Nobody(String),
    /// More than one is found.
    Several(String),
    /// No master that answers.
    Unreached(String),
    /// It is not who it should be.
    Distrusted(String),
    /// It refused: the token, or the request.
    Refused(String),
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The act.
    pub act: Act,
    /// After this.
    pub wait: Duration,
    /// What a person is told; `None` when it is what they were told last.
    pub say: Option<String>,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    failures: u32,
    looks: u32,
    said: String,
}

impl Progress {
    /// What follows from this. `with_token` tells whether a person has to say yes; `fingerprint` is what they compare.
    pub fn after(&mut self, outcome: &Outcome, with_token: bool, fingerprint: &str) -> Next {
        let good = matches!(outcome, Outcome::Trusted | Outcome::Asked | Outcome::Pending | Outcome::Approved);
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
        self.looks = if matches!(outcome, Outcome::Pending | Outcome::Approved) { self.looks.saturating_add(1) } else { 0 };
        let (act, wait, words) = match outcome {
            Outcome::Trusted => (Act::Ask, Duration::ZERO, String::new()),
            Outcome::Asked => (Act::Poll, Duration::ZERO, String::new()),
            Outcome::Pending if with_token => (Act::Poll, WAITS.delay(self.looks), "waits for its certificate".to_owned()),
            Outcome::Pending => (
                Act::Poll,
                WAITS.delay(self.looks),
                format!("waits for a person to let it in: `bramble node approve NAME` on the master, if it shows {fingerprint}"),
            ),
            Outcome::Approved => (Act::Poll, WAITS.delay(self.looks), "was let in, waits for its certificate".to_owned()),
            Outcome::Gone => (Act::Ask, FAILED.delay(self.failures), String::new()),
            Outcome::Foreign => (Act::NewKey, FAILED.delay(self.failures), String::new()),
            Outcome::Denied(why) => (Act::Poll, DENIED, told("a person refused to let it in", why)),
            Outcome::Failed(why) => (Act::Poll, DENIED, told("its certificate could not be signed", why)),
            Outcome::Nobody(why) => (Act::Look, SOUGHT.delay(self.failures), told("looks for a master", why)),
            Outcome::Several(why) => {
                (Act::Look, SOUGHT.delay(self.failures), told("waits for a person to say which master is meant", why))
            }
            Outcome::Unreached(why) => (Act::Look, FAILED.delay(self.failures), told("waits for the master", why)),
            Outcome::Distrusted(why) => (Act::Look, FAILED.delay(self.failures), told("does not trust the master", why)),
            Outcome::Refused(why) => (Act::Look, FAILED.delay(self.failures), told("the master refused", why)),
        };
        let say = (!words.is_empty() && words != self.said).then(|| words.clone());
        if let Some(words) = &say {
            self.said.clone_from(words);
        }
        Next { act, wait, say }
    }
}

fn told(what: &str, why: &str) -> String {
    if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_leads_on_and_is_said_once() {
        let mut progress = Progress::default();
        let refused = Outcome::Refused("Unauthorized".into());
        for (outcome, act, says) in [
            (Outcome::Unreached("no route".into()), Act::Look, Some("waits for the master: no route")),
            (Outcome::Unreached("no route".into()), Act::Look, None),
            (Outcome::Nobody("silence".into()), Act::Look, Some("looks for a master: silence")),
            (Outcome::Several("a, b".into()), Act::Look, Some("waits for a person to say which master is meant: a, b")),
            (Outcome::Distrusted("another CA".into()), Act::Look, Some("does not trust the master: another CA")),
            (Outcome::Trusted, Act::Ask, None),
            (refused.clone(), Act::Look, Some("the master refused: Unauthorized")),
            (refused, Act::Look, None),
            (Outcome::Asked, Act::Poll, None),
            (
                Outcome::Pending,
                Act::Poll,
                Some("waits for a person to let it in: `bramble node approve NAME` on the master, if it shows F"),
            ),
            (Outcome::Pending, Act::Poll, None),
            (Outcome::Denied(String::new()), Act::Poll, Some("a person refused to let it in")),
            (Outcome::Gone, Act::Ask, None),
            (Outcome::Foreign, Act::NewKey, None),
        ] {
            let next = progress.after(&outcome, false, "F");
            assert_eq!((next.act, next.say.as_deref()), (act, says), "{outcome:?}");
        }
    }

    #[test]
    fn it_waits_longer_and_longer_but_never_long() {
        let mut progress = Progress::default();
        let waits = |outcome: Outcome, progress: &mut Progress| {
            (0..20).map(|_| progress.after(&outcome, true, "").wait).collect::<Vec<_>>()
        };
        let pending = waits(Outcome::Pending, &mut progress);
        assert!(pending.is_sorted() && pending[0] < Duration::from_secs(1) && pending[19] == WAITS.cap);
        let failed = waits(Outcome::Unreached(String::new()), &mut progress);
        assert!(failed.is_sorted() && failed[0] == FAILED.first && failed[19] == FAILED.cap);
        assert_eq!(progress.after(&Outcome::Trusted, true, "").wait, Duration::ZERO);
        assert_eq!(waits(Outcome::Nobody(String::new()), &mut progress)[19], SOUGHT.cap);
    }
}
