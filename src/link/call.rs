//! Requests to one node: some are answered by a stream (logs; exec and port-forward later), small questions by one JSON document.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// A small question to a node. The answer is one JSON document of at most [`MOST_ANSWER`] bytes; each says of which type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// What the node and its pods use at this moment: [`super::stats::NodeStats`].
    Stats,
    /// What an image is made for: a list of texts like `linux/arm64`, empty when the node does not know.
    ImagePlatforms(ImageQuestion),
    /// Which board is it? Its LEDs blink for a while: [`Identified`].
    Identify(IdentifyQuestion),
}

/// Which board this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentifyQuestion {
    /// For so long its LEDs blink.
    pub seconds: u32,
}

/// What a node does to be found. JSON: `{"leds":8}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identified {
    /// So many LEDs blink; 0: it has none.
    pub leds: usize,
    /// Why they blink in drawings only, or why there are none; the node's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlit: Option<String>,
}

/// About an image.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageQuestion {
    /// As the pod names it.
    pub image: String,
    /// The pod's pull secrets, whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Value>,
}

impl std::fmt::Debug for ImageQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets are never shown.
        f.debug_struct("ImageQuestion").field("image", &self.image).finish_non_exhaustive()
    }
}

/// Bytes of an answer, beyond which it is given up: the figures of 110 pods with ten containers each are a third of it.
pub const MOST_ANSWER: usize = 512 * 1024;

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

/// The answer to a [`Question`]. Dropping it ends the call on the node.
pub type Answer = Pin<Box<dyn Future<Output = Result<Value, CallError>> + Send>>;

/// Calls nodes. Implemented by the master's side of the link; by a table in tests.
pub trait Calls: Send + Sync + 'static {
    /// Starts to read a container's log on `node`. The receiver is bounded: who reads slowly slows the node down.
    fn logs(&self, node: &str, request: LogRequest) -> Chunks;
    /// Puts a question to `node`. A node that has not said all after `within` has not answered.
    fn ask(&self, node: &str, question: Question, within: Duration) -> Answer;
}
