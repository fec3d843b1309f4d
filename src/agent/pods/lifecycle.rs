//! How far a pod's life has come. Only forward.
//!
//! ```text
//!  Live ──(every container has ended for good)──▶ Finished
//!    │                                               │
//!    └──(deleted, or no longer in the share)──▶ Terminating { deadline } ──(nothing left)──▶ Gone
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
    /// All containers have ended, none is started again.
    Finished,
    /// It is to end; what runs at the deadline is killed.
    Terminating {
        /// The first KILL.
        deadline: Tick,
    },
    /// It has left nothing.
    Gone,
}

impl PodState {
    /// All containers have ended for good.
    #[must_use]
    pub fn finish(self) -> Self {
        match self {
            PodState::Live | PodState::Finished => PodState::Finished,
            PodState::Terminating { .. } | PodState::Gone => self,
        }
    }

    /// It is to end within `grace` from `now`. A second call can only shorten the time.
    #[must_use]
    pub fn terminate(self, now: Tick, grace: Duration) -> Self {
        match self {
            PodState::Live | PodState::Finished => PodState::Terminating { deadline: now.after(grace) },
            PodState::Terminating { deadline } => PodState::Terminating { deadline: deadline.min(now.after(grace)) },
            PodState::Gone => PodState::Gone,
        }
    }

    /// The runtime has nothing of it any more.
    #[must_use]
    pub fn vanish(self) -> Self {
        match self {
            PodState::Terminating { .. } | PodState::Gone => PodState::Gone,
            PodState::Live | PodState::Finished => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_move_only_forward() {
        let second = Duration::from_secs(1);
        let ending = PodState::Live.terminate(Tick(10), second);
        assert_eq!(ending, PodState::Terminating { deadline: Tick(1010) });
        assert_eq!(ending.finish(), ending);
        assert_eq!(ending.terminate(Tick(20), 30 * second), ending);
        assert_eq!(ending.terminate(Tick(20), Duration::ZERO), PodState::Terminating { deadline: Tick(20) });
        assert_eq!(ending.vanish().terminate(Tick(30), second), PodState::Gone);
        assert_eq!(PodState::Live.vanish(), PodState::Live);
    }
}
