//! Network policies on a node: what may reach its pods, and what they may reach.
//!
//! ```text
//!   net share (policies, resolved) ─┐
//!   the node's range                ├─▶ rules.rs ─▶ nft.rs ─▶ run.rs ─▶ nft ─▶ one table of our own
//!   the node's pods, as they start ─┘
//! ```
//!
//! Ingress is held at the node of the pod that is reached, egress at the node of the pod that reaches out; where both are on one node,
//! or two nodes on one host, a packet passes both. What is decided, and why:
//!
//! * **In the kernel, where packets are forwarded** (families `ip` and, in a dual-stack cluster, `ip6`; hook `forward`): addresses are those of pods there, since a service's
//!   address is translated before. What the node itself sends to its pods (probes, the name server, the ingress) is not forwarded, so it
//!   always passes, and so does what pods send to their node, as Kubernetes wants it.
//! * **A packet's way does not grow with the number of pods**: a map from the pod's address to the chain of its policies; pods with the
//!   same policies share one. Peers are sets of ranges.
//! * **What is under way is not cut**: a packet of a connection that was allowed passes, whatever a newer policy says.
//! * **The whole table is replaced** in one transaction, so there is no moment with half of it; equal text is not written again.
//! * **Packets between pods on the same bridge** are seen because the bridge hands them to the hook (`br_netfilter`), which is turned on
//!   for our own bridge only. Rejected: a second table of family `bridge`. It needs connection tracking for bridges, which fewer kernels
//!   have than `br_netfilter`, and without it services between pods of one node do not work either.
//! * The table outlives the agent, as the pods do.

pub mod nft;
pub mod rules;
pub mod run;

pub use rules::LocalPod;
pub use run::{Place, remove, run};
