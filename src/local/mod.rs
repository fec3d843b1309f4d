//! The cluster on this machine: what `bramble start`, `status`, `stop` and `delete` do.
//!
//! ```text
//! ~/.local/share/bramble            (or --data-dir)
//! ├── cluster.json                  what was chosen once: uid, runtime, ports, nodes              state.rs
//! ├── master.toml                   the master's configuration                                    configs.rs
//! ├── pki/                          CA, server, bramble-admin, bramble-master                     master/authority.rs
//! ├── store/                        the master's
//! ├── nodes/<name>/agent.toml, pki/ a node's configuration and certificate, and what the agent keeps
//! ├── logs/<process>.log            one a process                                                 daemon.rs
//! ├── kubeconfig                    for this cluster alone                                        kubeconfig.rs
//! └── master.lock, start.lock, nodes/<name>/agent.lock       held by whoever lives there          crate::config::Claim
//! ```
//!
//! Each daemon is a detached process of its own; beyond ten simulated nodes, the rest share one `bramble fleet`. Everything is
//! level-triggered: `start` compares what should run with what holds its lock and starts the rest, so it can be cut off at any
//! point and run again. Ctrl-C leaves what was started running, and says so.

pub mod configs;
#[cfg(feature = "docker")]
pub mod containers;
#[cfg(not(feature = "docker"))]
#[path = "without_docker.rs"]
pub mod containers;
pub mod daemon;
pub mod docker;
pub mod kubeconfig;
pub mod layout;
pub mod ports;
pub mod probe;
pub mod progress;
pub mod runtime;
pub mod share;
pub mod start;
pub mod state;
pub mod status;
pub mod stop;
