//! The embedded MQTT broker: 3.1.1 and 5, for one cluster, messages in RAM only.
//!
//! ```text
//! tls.rs ─┐                 ┌─ acl.rs       who may what
//!         ├─ tcp.rs ─ run.rs┤  machine/     the one decider: connects, publishes, subscribes, wills, pulls
//! plain  ─┘    │            │  ├─ session.rs   what waits for one client
//!              │            │  ├─ router.rs    who subscribed to what
//!           packet/         │  ├─ retained.rs  the last message of each topic
//!        bytes ⇄ packets    └──┴─ local.rs     the master's own end: `link::bus::Bus`, in process
//! ```
//!
//! It is not the home's general broker: what is published outside the cluster's topics and the discovery prefix is refused.
//! Nothing is written to disk; after a restart both sides tell everything again (DESIGN §7). Why our own: no broker that can
//! be embedded has an ACL by identity, complete retained delivery and wills that survive a takeover in a few MiB.

pub mod acl;
pub mod counters;
mod local;
mod machine;
mod message;
pub mod packet;
mod retained;
mod router;
mod run;
mod session;
mod tcp;
mod tls;
pub mod topic;

pub use counters::Counters;
pub use retained::Quota;
pub use run::{Bound, BrokerError, Config, Handle, Running, bind};
pub use session::Limits;
