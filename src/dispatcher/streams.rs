//! Hands: calls to nodes, that is who asked and which frames are theirs.
//!
//! Each call is a small task of the dispatcher: it passes data on as fast as it is read and gives the node credit for as much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::link::bus::{Bus, Publish};
use crate::link::call::{Answer, CallError, Calls, Chunks, LogRequest, MOST_ANSWER, Question};
use crate::link::codec::encode;
use crate::link::message::{CallBody, CallRequest, Credit, SCHEMA, StreamFrame};
use crate::link::stream::{FrameReceiver, Received, WINDOW};
use crate::link::{NodeTopic, Topics};
use crate::rng::Rng;

/// A node on a bad wireless link takes a second or two to answer; one that is away never does.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// Frames of a call that are not yet looked at: the window in frames of 256 bytes, which is what a frame costs at least.
const FRAMES: usize = 1024;

/// Asks the dispatcher for calls. Cheap to clone.
#[derive(Clone)]
pub struct NodeCalls {
    new: mpsc::Sender<NewCall>,
}

/// A call that the dispatcher is to start.
pub struct NewCall {
    node: String,
    body: CallBody,
    answer: mpsc::Sender<Result<bytes::Bytes, CallError>>,
}

/// The asking side, and what the dispatcher takes. 64 calls may wait to be started: each is a person at a terminal.
#[must_use]
pub fn channel() -> (NodeCalls, mpsc::Receiver<NewCall>) {
    let (new, taken) = mpsc::channel(64);
    (NodeCalls { new }, taken)
}

impl NodeCalls {
    fn call(&self, node: &str, body: CallBody) -> Chunks {
        let (answer, chunks) = mpsc::channel(8);
        let call = NewCall { node: node.to_owned(), body, answer };
        if let Err(mpsc::error::TrySendError::Full(call) | mpsc::error::TrySendError::Closed(call)) = self.new.try_send(call) {
            // The channel is new: there is room.
            let _ = call.answer.try_send(Err(CallError::Failed("too many calls at once; try again".to_owned())));
        }
        chunks
    }
}

impl Calls for NodeCalls {
    fn logs(&self, node: &str, request: LogRequest) -> Chunks {
        self.call(node, CallBody::Logs(request))
    }

    fn ask(&self, node: &str, question: Question, within: Duration) -> Answer {
        let chunks = self.call(node, CallBody::Ask(question));
        let node = node.to_owned();
        Box::pin(async move { tokio::time::timeout(within, whole(chunks)).await.unwrap_or(Err(CallError::NoAnswer(node))) })
    }
}

/// A whole answer out of its pieces.
async fn whole(mut chunks: Chunks) -> Result<serde_json::Value, CallError> {
    let mut text = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        text.extend_from_slice(&chunk?);
        if text.len() > MOST_ANSWER {
            return Err(CallError::Failed(format!("the node's answer is longer than {MOST_ANSWER} bytes")));
        }
    }
    serde_json::from_slice(&text).map_err(|_| CallError::Failed("the node's answer was not understood".to_owned()))
}

/// The calls that are under way.
pub struct Running {
    bus: Arc<dyn Bus>,
    topics: Topics,
    calls: BTreeMap<String, (String, mpsc::Sender<StreamFrame>)>,
    tasks: JoinSet<String>,
    ids: Rng,
}

impl Running {
    /// None yet.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, topics: Topics) -> Self {
        Self { bus, topics, calls: BTreeMap::new(), tasks: JoinSet::new(), ids: Rng::from_os("calls") }
    }

    /// Starts a call.
    pub fn start(&mut self, call: NewCall) {
        let id = format!("{:016x}", self.ids.bits());
        let (frames, inbox) = mpsc::channel(FRAMES);
        self.calls.insert(id.clone(), (call.node.clone(), frames));
        let wire = Wire { bus: self.bus.clone(), topics: self.topics.clone(), node: call.node.clone(), id: id.clone() };
        self.tasks.spawn(async move {
            wire.carry(call, inbox).await;
            id
        });
    }

    /// A frame came from `node`. One for a call that is over, or of another node, is dropped.
    pub fn frame(&mut self, node: &str, id: &str, frame: StreamFrame) {
        if let Some((owner, frames)) = self.calls.get(id)
            && owner == node
            && frames.try_send(frame).is_err()
        {
            // More than its credit allows: the task sees the gap and ends the call.
            tracing::debug!(node, "a frame beyond its credit was dropped");
        }
    }

    /// The node's link is down: its calls end.
    pub fn node_lost(&mut self, node: &str) {
        self.calls.retain(|_, (owner, _)| owner != node);
    }

    /// Waits for a call to end; for ever when there is none. Safe to drop half way.
    pub async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(id)) => {
                self.calls.remove(&id);
            }
            Some(Err(error)) => tracing::error!(%error, "a call died"),
            None => std::future::pending().await,
        }
    }
}

struct Wire {
    bus: Arc<dyn Bus>,
    topics: Topics,
    node: String,
    id: String,
}

impl Wire {
    fn publish(&self, topic: &NodeTopic, payload: bytes::Bytes) -> bool {
        let topic = self.topics.node(&self.node, topic);
        self.bus.publish(Publish { topic, payload, retain: false, expiry_seconds: Some(60) }).is_ok()
    }

    fn credit(&self, bytes: Option<u64>) {
        if !self.publish(&NodeTopic::CallCredit(self.id.clone()), encode(&Credit { v: SCHEMA, bytes })) {
            tracing::debug!(node = self.node, "no room for credit in the outbox");
        }
    }

    async fn carry(self, call: NewCall, mut inbox: mpsc::Receiver<StreamFrame>) {
        let request = encode(&CallRequest { v: SCHEMA, body: call.body.clone(), credit: WINDOW });
        if !self.publish(&NodeTopic::CallRequest(self.id.clone()), request) {
            // Who asked may be gone; then nobody is owed an answer (here and below).
            let _ = call.answer.send(Err(CallError::NoAnswer(self.node.clone()))).await;
            return;
        }
        let mut receiver = FrameReceiver::default();
        let mut first = true;
        loop {
            let frame = tokio::select! {
                frame = inbox.recv() => frame,
                () = call.answer.closed() => break,
                () = tokio::time::sleep(FIRST_FRAME), if first => None,
            };
            let Some(frame) = frame else {
                // Whoever asked may be gone, which is as well.
                let _ = call.answer.send(Err(CallError::NoAnswer(self.node.clone()))).await;
                break;
            };
            first = false;
            match receiver.take(frame) {
                Received::Again => {}
                Received::Error(error) => {
                    let _ = call.answer.send(Err(error)).await;
                    break;
                }
                Received::Data(data, last) => {
                    let size = (data.len() as u64).max(256);
                    if !data.is_empty() && call.answer.send(Ok(data)).await.is_err() {
                        break;
                    }
                    if last {
                        return;
                    }
                    self.credit(Some(size));
                }
            }
        }
        self.credit(None);
    }
}
