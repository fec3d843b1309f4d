//! Requests to one node that are answered by a stream: logs now, exec and port-forward later.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Which part of a container's log is wanted; the query of `GET …/pods/NAME/log`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogRequest {
    /// The pod's uid.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
    /// Goes on until the container ends.
    pub follow: bool,
    /// Of the run before this one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Stops after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only what is younger than this.
    pub since_seconds: Option<u64>,
    /// Each line begins with its time, RFC 3339 with nanoseconds.
    pub timestamps: bool,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CallError {
    /// The node has no such pod, container or run; its words.
    #[error("{0}")]
    NotFound(String),
    /// The node cannot do it now; its words.
    #[error("{0}")]
    Failed(String),
    /// The node did not answer in time, or its link is down.
    #[error("node {0} does not answer: its link is down")]
    NoAnswer(String),
}

/// The answers of a call, in order. An error is the last item. Dropping the receiver ends the call on the node.
pub type Chunks = tokio::sync::mpsc::Receiver<Result<Bytes, CallError>>;

/// Calls nodes. Implemented by the master's side of the link; by a table in tests.
pub trait Calls: Send + Sync + 'static {
    /// Starts to read a container's log on `node`. The receiver is bounded: who reads slowly slows the node down.
    fn logs(&self, node: &str, request: LogRequest) -> Chunks;
}
