//! Services on this node: what kube-proxy does elsewhere.
//!
//! ```text
//!  net share ─┐               ┌─▶ ruleset.rs ─▶ change.rs ─▶ batch.rs ─▶ netlink.rs ─▶ the kernel's table
//!             ├─▶ table.rs ───┤                          └─▶ text.rs (for people)
//!  node's net ┘  (forwards)   ├─▶ taken.rs ◀─ /proc/net: whose ports they were, for people
//!                             └─▶ run/fallback.rs ─▶ tcp.rs, udp.rs: node ports only, where nftables cannot be had
//! ```
//!
//! In a dual-stack cluster all of it is there twice, once for each family of addresses (`family.rs`), with a table each.
//!
//! While no agent runs the table stays, and traffic flows on by what it said last.

pub mod balance;
pub mod batch;
pub mod change;
pub mod conntrack;
pub mod disk;
pub mod message;
pub mod netlink;
pub mod ruleset;
pub mod run;
pub mod table;
pub mod taken;
pub mod tcp;
pub mod text;
pub mod udp;
