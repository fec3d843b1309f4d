//! Bramble: Kubernetes for a shoebox of Raspberry Pis.
//!
//! One sentence to hold in mind: **kubectl changes the store; the store rings a bell; deciders read the whole truth and write back;
//! the dispatcher mails each node its whole share; the node makes it so and mails back what it sees.**
//!
//! ```text
//! kubectl ─ HTTPS ─▶ apiserver ─▶ store ─▶ watch ─▶ scheduler, controllers ─▶ store
//!                                  │                                            │
//!                                  ▼                                            ▼
//! MQTT dashboards ◀────────────── broker ◀── link ──────────────────────── dispatcher
//!                                  │  ▲
//!                                  ▼  │ link
//!        Docker ◀── runtime ◀── pods, node ──▶ led ──▶ GPIO
//! ```
//!
//! Every folder is one of three sorts: *words* (types and their arithmetic), *deciders* (state + now + input → effects; no async, no
//! sockets, no clock) and *hands* (async files that do what a decider asked). `tests/architecture.rs` holds them apart, and holds
//! who may name whom.
//!
//! # The life of one pod
//!
//! | stop | file | what | then |
//! |---|---|---|---|
//! | 1 | `apiserver/http.rs`, `run.rs` | bytes → Request | |
//! | 2 | `apiserver/verbs/` | defaults, admission, validation, the Deployment object | |
//! | 3 | `store/run.rs` | revision + 1, log, event in the ring, bell | |
//! | 4 | `controller/deployment.rs` | wants a ReplicaSet | 3 |
//! | 5 | `controller/replicaset.rs` | wants pods | 3 |
//! | 6 | `scheduler/cycle.rs` | picks a node, binds | 3 |
//! | 7 | `dispatcher/assign.rs` | the node's whole share | |
//! | 8 | `link/downlink.rs` → `session.rs` | numbered, published | |
//! | 9 | `agent/node.rs` | new desired set | |
//! | 10 | `agent/pods/plan.rs` | pull, create, start … | |
//! | 11 | `agent/runtime/docker.rs` | Docker does it; the outcome goes to 9 | |
//! | 12 | `agent/pods/status.rs` | Running, Ready | |
//! | 13 | `link/report.rs` → `dispatcher/report.rs` | fenced by uid, incarnation and attempt | 3 |
//! | 14 | `apiserver/watch.rs` | `kubectl get pods -w` prints a line | |
//!
//! # The way of a packet to a service
//!
//! | stop | file | what |
//! |---|---|---|
//! | 1 | `controller/endpoint_slice.rs` | a pod that became ready is one of the service's endpoints |
//! | 2 | `dispatcher/net.rs` | the network's share: one for all nodes |
//! | 3 | `link/downlink.rs` → `session.rs` | numbered, published, kept by each node |
//! | 4 | `agent/proxy/table.rs` | which addresses and ports lead to which endpoints |
//! | 5 | `agent/proxy/ruleset.rs`, `change.rs` → `netlink.rs` | maps and rules of nftables, one transaction a change |
//! | 6 | the kernel | picks an endpoint; `agent/overlay/plan.rs` has made the way to its node |
//!
//! The same share makes names (`agent/dns/zone.rs`), ingresses (`agent/ingress/table.rs`) and policies (`agent/policy/rules.rs`);
//! `agent/run/network.rs` puts these parts together.

// 0 ground
pub mod backoff;
pub mod clock;
pub mod config;
pub mod error;
pub mod https;
pub mod pkcs10;
pub mod rng;
pub mod routes;
pub mod step;
pub mod task;
pub mod telemetry;
pub mod terminal;
pub mod tls;

// 1 words
pub mod api;
pub mod board;
pub mod mdns;

// 2 link
pub mod link;

// 3 store
#[cfg(feature = "master")]
pub mod store;

// 4 master side
#[cfg(feature = "master")]
pub mod apiserver;
#[cfg(feature = "master")]
pub mod broker;
#[cfg(feature = "master")]
pub mod controller;
#[cfg(feature = "master")]
pub mod dispatcher;
#[cfg(feature = "master")]
pub mod scheduler;

// 4 node side
#[cfg(feature = "agent")]
pub mod agent;

// 5 composition
#[cfg(feature = "flash")]
pub mod flash;
#[cfg(feature = "master")]
pub mod local;
#[cfg(feature = "master")]
pub mod master;

// 6 commands
pub mod cli;
