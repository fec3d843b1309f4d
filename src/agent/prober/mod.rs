//! Liveness, readiness and startup probes, on the node alone: no master is needed.
//!
//! ```text
//!  pods/spec/probe.rs ─▶ watch.rs  whose containers are probed, what follows from it ─▶ pods/plan.rs (kill), pods/status.rs
//!                          │  ▲       worker.rs  one probe's times and thresholds
//!                      Ask ▼  │ Answer    verdict.rs  what an answer means, and its words
//!                         run.rs ─▶ exec.rs, http.rs, tcp.rs, grpc.rs
//! ```
//! Source: the kubelet's prober package. Where we differ is listed at [`watch`] and [`worker`].

pub mod exec;
pub mod grpc;
pub mod http;
pub mod run;
pub mod tcp;
pub mod verdict;
pub mod watch;
pub mod worker;

use std::time::Duration;

use crate::agent::pods::spec::Action;
use crate::api::Uid;

pub use verdict::{Answer, Sign};
pub use watch::Watch;

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Until it succeeds the others wait.
    Startup,
    /// When it fails the container is killed.
    Liveness,
    /// When it fails nobody is sent there.
    Readiness,
}

impl Kind {
    /// As events begin.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
}

/// Which probing this is: the answer brings it back, and one that is not waited for any more is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The pod's.
    pub uid: Uid,
    /// The container's id in the runtime: another run is another id.
    pub container: String,
    /// Which probe of it.
    pub kind: Kind,
    /// Which time.
    pub number: u64,
}

/// One question for the hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Comes back with the answer.
    pub ticket: Ticket,
    /// What to do.
    pub action: Action,
    /// Where, when the action names no host: the first that takes the connection.
    pub addresses: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the hand is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask this.
    Ask(Box<Ask>),
    /// Nobody waits any more for what is asked of this container.
    Forget(String),
}
