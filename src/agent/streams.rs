//! Hands: answers calls of the master, that is logs, as frames with credit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::runtime::Runtime;
use super::stats::run::Answers;
use crate::clock::SystemClock;
use crate::link::bus::{Bus, Publish};
use crate::link::call::{CallError, Chunks, Question};
use crate::link::codec::encode;
use crate::link::message::{CallBody, CallRequest, Credit, End, StreamFrame};
use crate::link::stream::FrameSender;
use crate::link::{NodeTopic, Topics};

/// Calls at the same time: each is a person at a terminal.
const MOST_CALLS: usize = 32;
/// A master that gives no credit for so long is gone.
const NO_CREDIT: Duration = Duration::from_secs(120);
/// Credits that wait to be looked at; each frame brings one.
const CREDITS: usize = 1024;

/// The calls that are under way.
pub struct Streams {
    runtime: Arc<dyn Runtime>,
    answers: Answers,
    bus: Arc<dyn Bus>,
    topics: Topics,
    node: String,
    calls: BTreeMap<String, mpsc::Sender<Option<u64>>>,
    tasks: JoinSet<String>,
}

impl Streams {
    /// None yet.
    pub fn new(runtime: Arc<dyn Runtime>, clock: SystemClock, bus: Arc<dyn Bus>, topics: Topics, node: String) -> Self {
        let answers = Answers::new(runtime.clone(), clock);
        Self { runtime, answers, bus, topics, node, calls: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// A call begins. One that is there already (the message came twice) goes on.
    pub fn start(&mut self, id: String, request: CallRequest) {
        if self.calls.contains_key(&id) {
            return;
        }
        if self.calls.len() >= MOST_CALLS {
            return self.refuse(&id, &request, "too many logs are being read on this node; try again".to_owned());
        }
        let (mut wire, credits) = self.wire(&id, &request);
        self.calls.insert(id.clone(), credits);
        let (runtime, answers) = (self.runtime.clone(), self.answers.clone());
        self.tasks.spawn(async move {
            let mut chunks = match request.body {
                CallBody::Logs(request) => runtime.logs(request),
                CallBody::Ask(question) => answer(&answers, &question).await,
            };
            loop {
                let chunk = tokio::select! {
                    chunk = chunks.recv() => chunk,
                    // An end of the call, or credit that comes while nothing is to be sent.
                    more = wire.more.recv() => match more {
                        Some(Some(bytes)) => { wire.frames.add_credit(bytes); continue }
                        Some(None) | None => break,
                    },
                };
                match chunk {
                    Some(Ok(data)) => {
                        if !wire.send(data).await {
                            break;
                        }
                    }
                    Some(Err(error)) => {
                        let end = wire.frames.end(End::Error(error));
                        wire.publish(&end);
                        break;
                    }
                    None => {
                        let end = wire.frames.end(End::Done);
                        wire.publish(&end);
                        break;
                    }
                }
            }
            id
        });
    }

    /// A call ends before it begins, and says why.
    pub fn refuse(&self, id: &str, request: &CallRequest, words: String) {
        let (mut wire, _) = self.wire(id, request);
        let end = wire.frames.end(End::Error(CallError::Failed(words)));
        wire.publish(&end);
    }

    /// A question that is answered at once.
    pub fn reply(&self, id: &str, request: &CallRequest, answer: &Value) {
        let (mut wire, _) = self.wire(id, request);
        let mut data = Bytes::from(answer.to_string());
        while let Some(frame) = wire.frames.frame(&mut data) {
            wire.publish(&frame);
        }
        let end = wire.frames.end(End::Done);
        wire.publish(&end);
    }

    fn wire(&self, id: &str, request: &CallRequest) -> (Wire, mpsc::Sender<Option<u64>>) {
        let (credits, more) = mpsc::channel(CREDITS);
        let topic = self.topics.node(&self.node, &NodeTopic::CallData(id.to_owned()));
        (Wire { bus: self.bus.clone(), topic, frames: FrameSender::new(request.credit), more }, credits)
    }

    /// Credit for a call, or its end.
    pub fn credit(&mut self, id: &str, credit: Credit) {
        if let Some(call) = self.calls.get(id)
            && call.try_send(credit.bytes).is_err()
        {
            // More credits than frames: not from our master.
            self.calls.remove(id);
        }
    }

    /// The link is down: nobody reads any more.
    pub fn end_all(&mut self) {
        self.calls.clear();
        self.tasks.abort_all();
    }

    /// Waits for a call to end; for ever when there is none. Safe to drop half way.
    pub async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(id)) => {
                self.calls.remove(&id);
            }
            Some(Err(error)) if error.is_cancelled() => {}
            Some(Err(error)) => tracing::error!(%error, "a call died"),
            None => std::future::pending().await,
        }
    }
}

/// The answer to a question as what a stream passes on.
async fn answer(answers: &Answers, question: &Question) -> Chunks {
    let (whole, chunks) = mpsc::channel(1);
    let answered = answers.answer(question).await.map(|value| Bytes::from(value.to_string()));
    // The channel is new: there is room.
    let _ = whole.try_send(answered);
    chunks
}

struct Wire {
    bus: Arc<dyn Bus>,
    topic: String,
    frames: FrameSender,
    more: mpsc::Receiver<Option<u64>>,
}

impl Wire {
    fn publish(&self, frame: &StreamFrame) -> bool {
        self.bus
            .publish(Publish { topic: self.topic.clone(), payload: encode(frame), retain: false, expiry_seconds: Some(60) })
            .is_ok()
    }

    /// Sends data as credit allows; whether the call goes on.
    async fn send(&mut self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            if let Some(frame) = self.frames.frame(&mut data) {
                // A frame that cannot be sent is missed by its number, and the master ends the call: so wait for room.
                let mut tries = 0;
                while !self.publish(&frame) {
                    tries += 1;
                    if tries > 100 {
                        return false;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                continue;
            }
            match tokio::time::timeout(NO_CREDIT, self.more.recv()).await {
                Ok(Some(Some(bytes))) => self.frames.add_credit(bytes),
                _ => return false,
            }
        }
        true
    }
}
