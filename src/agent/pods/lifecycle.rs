//! How far a pod's life has come. Only forward.
//!
//! ```text
//!  Live ──(its containers have ended for good, or the node gave it up)──▶ Ending { deadline } ──(nothing runs)──▶ Finished
//!    │                                                                       │                                       │
//!    └──(deleted, or no longer in the share)─────────────────────────────────┴──▶ Terminating { deadline } ◀─────────┘
//!                                                                                      │
//!                                                                                (nothing left)──▶ Gone
//! ```
//! `Live` covers upstream's Pending and Running: which of the two it is, the containers say (`status.rs`).

use std::time::Duration;

use crate::clock::Tick;

/// A pod's state on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodState {
    /// It is to run.
    #[default]
    Live,
    /// What still runs of it (sidecars; all of a pod that the node gave up) is to end, and nothing is started again.
    Ending {
        /// What runs then is killed.
        deadline: Tick,
    },
    /// Nothing of it runs, nothing is started again; the dead stay for their logs.
    Finished,
    /// It is to end and to go; what runs at the deadline is killed.
    Terminating {
        /// The first KILL.
        deadline: Tick,
    },
    /// It has left nothing.
    Gone,
}

impl PodState {
    /// What runs is to end within `grace` from `now`, and to stay. A second call can only shorten the time.
    #[must_use]
    pub fn end(self, now: Tick, grace: Duration) -> Self {
        match self {
            PodState::Live => PodState::Ending { deadline: now.after(grace) },
            PodState::Ending { deadline } => PodState::Ending { deadline: deadline.min(now.after(grace)) },
            PodState::Finished | PodState::Terminating { .. } | PodState::Gone => self,
        }
    }

    /// Nothing runs any more.
    #[must_use]
    pub fn finish(self) -> Self {
        match self {
            PodState::Ending { .. } | PodState::Finished => PodState::Finished,
            PodState::Live | PodState::Terminating { .. } | PodState::Gone => self,
        }
    }

    /// It is to end within `grace` from `now`, and to go. A second call can only shorten the time.
    #[must_use]
    pub fn terminate(self, now: Tick, grace: Duration) -> Self {
        match self {
            PodState::Live | PodState::Finished => PodState::Terminating { deadline: now.after(grace) },
            PodState::Ending { deadline } | PodState::Terminating { deadline } => {
                PodState::Terminating { deadline: deadline.min(now.after(grace)) }
            }
            PodState::Gone => PodState::Gone,
        }
    }

    /// The runtime has nothing of it any more.
    #[must_use]
    pub fn vanish(self) -> Self {
        match self {
            PodState::Terminating { .. } | PodState::Gone => PodState::Gone,
            PodState::Live | PodState::Ending { .. } | PodState::Finished => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_move_only_forward() {
        let second = Duration::from_secs(1);
        let ending = PodState::Live.end(Tick(10), 3 * second);
        assert_eq!(ending.end(Tick(20), 9 * second), PodState::Ending { deadline: Tick(3010) });
        assert_eq!((ending.finish(), PodState::Live.finish()), (PodState::Finished, PodState::Live));
        assert_eq!(ending.terminate(Tick(20), 9 * second), PodState::Terminating { deadline: Tick(3010) });
        assert_eq!(PodState::Finished.end(Tick(10), second), PodState::Finished);
        let going = PodState::Live.terminate(Tick(10), second);
        assert_eq!(going, PodState::Terminating { deadline: Tick(1010) });
        assert_eq!((going.finish(), going.end(Tick(10), Duration::ZERO)), (going, going));
        assert_eq!(going.terminate(Tick(20), 30 * second), going);
        assert_eq!(going.terminate(Tick(20), Duration::ZERO), PodState::Terminating { deadline: Tick(20) });
        assert_eq!(going.vanish().terminate(Tick(30), second), PodState::Gone);
        assert_eq!((PodState::Live.vanish(), ending.vanish()), (PodState::Live, ending));
    }
}
