//! The API server: Kubernetes' REST API over the store.
//!
//! ```text
//!  bytes ─ http.rs ─▶ Request ─ run.rs ─┬─ route.rs      which thing, which verb          404 405
//!  TLS, limits, deadlines               ├─ auth.rs       who asks, may they               401 403
//!                                       ├─ negotiate.rs  in what form they want it        406
//!                                       ├─ options.rs    list, write, delete options      400 422
//!                                       ├─ intake.rs     decode, prune to the schema      400 415
//!                                       ├─ verbs/        defaults, admission, validation  400 … 422
//!                                       │     └─▶ Outcome: an answer, or operations and an answer
//!                                       ├─ Store::write  ── lost a race? ask the verb again
//!                                       └─ table.rs      plain JSON, table or metadata
//!  lines ◀─ http.rs ◀─ Reply ◀─ run.rs ◀── watch.rs (changes of the store), streams.rs (a node's log)
//!                                            identify.rs (a node's LEDs)
//! ```
//! Kinds are the rows of `api::registry`; nothing here is written for one kind but what `admission.rs` and `verbs/below.rs`
//! name. All files are deciders but `run.rs` and `http.rs`.
//!
//! Flow: stops 1, 2 and 14 of the life of a pod.

pub mod admission;
pub mod allocate;
pub mod auth;
pub mod decode;
pub mod discovery;
pub mod fields;
pub mod http;
pub mod identify;
pub mod intake;
pub mod join;
pub mod limit;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod options;
pub mod patch;
pub mod route;
pub mod run;
pub mod streams;
pub mod table;
pub mod verbs;
pub mod watch;

pub use admission::{Cluster, bootstrap};
pub use http::{BindError, Bound, bind};
pub use run::Api;
