//! Names: every node answers its pods' questions, for the cluster's names by itself and for all others by asking the host's servers.
//!
//! ```text
//!  pod ──▶ udp.rs / tcp.rs ──▶ question.rs ──▶ answer.rs over zone.rs   SERVICE.NAMESPACE.svc.cluster.local, addresses of the cluster
//!                                        └──▶ cache.rs ─▶ forward.rs ─▶ forward/run.rs ─▶ the host's servers: everything else
//!  net share ──▶ zone.rs (an index, made once a share)      host's resolv.conf ──▶ forward.rs
//!  run.rs: binds at the node's own address in the pod network, says to the runtime whether pods may ask there (`NameServer`)
//! ```
//!
//! Nothing here asks the master: a node that is alone answers from the share on its disk.
//! Source:   github.com/kubernetes/dns, docs/specification.md 1.1.0; where CoreDNS has a habit that programs rely on, ours is the same
//!           (`answer.rs` says where).

pub mod answer;
pub mod cache;
pub mod disk;
pub mod forward;
pub mod question;
pub mod resolv_conf;
pub mod run;
pub mod serve;
pub mod tcp;
pub mod udp;
pub mod zone;

#[cfg(test)]
mod hands_tests;
#[cfg(test)]
mod hostile_tests;

use std::net::Ipv4Addr;

/// How long an answer of ours holds, in seconds. Source: CoreDNS' kubernetes plugin. An answer costs a look into a table on the same
/// machine, and endpoints come and go.
pub const TTL_SECONDS: u32 = 5;

/// The largest answer over UDP. Source: DNS flag day 2020.
pub const UDP_BYTES: u16 = 1232;

/// What stands behind a service's name until the share says otherwise. Upstream's default.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// Whom this node's pods ask for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NameServer {
    /// It is not known yet: it will be within [`run::UNDECIDED`].
    #[default]
    NotYet,
    /// The host's servers: this node answers no names, or not where pods can ask.
    Host,
    /// This node.
    Here {
        /// Its address in the pod network, where port 53 answers.
        address: Ipv4Addr,
        /// What stands behind a service's name.
        domain: String,
    },
}
