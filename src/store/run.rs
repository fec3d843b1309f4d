//! Hands: the store's handle, and its one writer.
//!
//! In:       [`Batch`]es from anywhere.
//! Out:      revisions, once durable; the view, the ring and the bell follow in the same moment.
//! Never:    judges (`group.rs`) or knows a file (`embedded.rs`).
//!
//! A store with a journal that blocks has a thread of its own, which ends with [`Store::close`] or with the last handle.
//! A store in memory does the same work at once, in the caller: there is nothing to wait for, and a simulation or a test
//! with paused time sees no other thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use crate::api::Revision;

use super::batch::{Batch, WriteError};
use super::group::{Accepted, Pending};
use super::journal::{Journal, JournalError, Nothing, Snapshot, Tended};
use super::ring::{self, ChangeEvent, Gone, Ring};
use super::view::View;

/// How many batches share one sync at most, and how many may wait for the next. Each waiting writer has one: a scheduler, a
/// few controllers, a connection each of some dozen API clients. At the 2 KiB of a usual object a full queue is half a
/// mebibyte. Who finds it full waits (none is dropped), so a slow card slows its writers.
const QUEUE: usize = 256;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many changes are remembered for watches at most, when there are many objects (`ring.rs`). One costs the two versions
    /// of its object, as far as they are not the newest.
    pub ring: usize,
}

impl Default for Options {
    fn default() -> Self {
        // A rolling restart of 1,000 pods makes about six changes a pod.
        Self { ring: 8192 }
    }
}

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    id: String,
    writer: Hand,
}

/// Where writes go.
enum Hand {
    /// They are done in the caller.
    Here(Mutex<Option<Writer>>),
    /// They are done by a thread.
    Thread { queue: mpsc::Sender<Message>, thread: Mutex<Option<JoinHandle<()>>> },
}

enum Message {
    Write(Write),
    Close(oneshot::Sender<Result<(), JournalError>>),
}

struct Write {
    batch: Batch,
    answer: oneshot::Sender<Result<Revision, WriteError>>,
}

/// What readers see.
struct Shared {
    state: RwLock<State>,
    bell: watch::Sender<Revision>,
}

struct State {
    view: View,
    ring: Ring,
}

impl Shared {
    fn new(snapshot: Snapshot, options: Options) -> Self {
        let Snapshot { floor, objects, .. } = snapshot;
        let state = State { view: View::with(floor, objects), ring: Ring::new(floor, options.ring.max(ring::LEAST)) };
        Self { state: RwLock::new(state), bell: watch::channel(floor).0 }
    }

    // A reader that panicked changed nothing, and the writer's few lines do not panic.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// A store that forgets everything when it is dropped: for tests and simulations. Revisions start above `floor`.
    #[must_use]
    pub fn in_memory(id: &str, floor: Revision) -> Self {
        let shared = Arc::new(Shared::new(Snapshot { floor, ..Snapshot::default() }, Options::default()));
        let writer = Writer { journal: Box::new(Nothing), shared: shared.clone() };
        Self { inner: Arc::new(Inner { shared, id: id.to_owned(), writer: Hand::Here(Mutex::new(Some(writer))) }) }
    }

    /// Opens what a journal keeps. Reading it takes as long as it takes; dropping the future lets go of it.
    ///
    /// # Errors
    /// When the journal cannot give back all that it kept.
    pub async fn open(journal: impl Journal, options: Options) -> Result<Self, JournalError> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let (ready, loaded) = oneshot::channel();
        let work = move || {
            let mut journal = Box::new(journal);
            match journal.load() {
                Ok(mut snapshot) => {
                    let id = std::mem::take(&mut snapshot.id);
                    let shared = Arc::new(Shared::new(snapshot, options));
                    let writer = Writer { journal, shared: shared.clone() };
                    // When nobody waits any more, the queue is closed as well, and the loop ends at once.
                    let _ = ready.send(Ok((shared, id)));
                    writer.serve_all(messages);
                }
                Err(error) => {
                    drop(journal);
                    // Nobody waits for a store whose opening was given up.
                    let _ = ready.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(work).map_err(JournalError::Thread)?;
        let gone = || JournalError::Thread(std::io::Error::other("it ended while it read the journal"));
        let (shared, id) = loaded.await.map_err(|_| gone())??;
        Ok(Self { inner: Arc::new(Inner { shared, id, writer: Hand::Thread { queue, thread: Mutex::new(Some(thread)) } }) })
    }

    /// Writes what waits, then ends: later writes get [`WriteError::Closed`], reading goes on. The second call does nothing.
    ///
    /// # Errors
    /// When the journal was broken; what was acknowledged is kept all the same.
    pub async fn close(&self) -> Result<(), JournalError> {
        match &self.inner.writer {
            Hand::Here(writer) => {
                locked(writer).take();
                Ok(())
            }
            Hand::Thread { queue, thread } => {
                let (answer, closed) = oneshot::channel();
                if queue.send(Message::Close(answer)).await.is_err() {
                    return Ok(());
                }
                let result = closed.await.unwrap_or(Ok(()));
                // It has answered and has nothing left to do but to return.
                let thread = locked(thread).take();
                if let Some(Err(_)) = thread.map(JoinHandle::join) {
                    tracing::error!("the store's thread died");
                }
                result
            }
        }
    }

    /// The id of this store, made when it was: a share from another store is not obeyed by nodes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Reads consistently. Keep it short: writers wait.
    pub fn view<R>(&self, read: impl FnOnce(&View) -> R) -> R {
        read(&self.inner.shared.read().view)
    }

    /// Says "look again" with the newest revision; the data is in the view and in the ring.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<Revision> {
        self.inner.shared.bell.subscribe()
    }

    /// What happened after `cursor`, oldest first, at most `limit` events (events of one revision stay together).
    ///
    /// # Errors
    /// [`Gone`] when the ring no longer reaches back to `cursor`: list again.
    pub fn changes_since(&self, cursor: Revision, limit: usize) -> Result<Vec<ChangeEvent>, Gone> {
        self.inner.shared.read().ring.since(cursor, limit)
    }

    /// Applies a batch once it is durable: all of it or nothing. Dropping the future does not take back what was handed
    /// over; there is no time-out here, since nobody can say what became of a write that was given up.
    ///
    /// # Errors
    /// When an expected revision does not hold, or the journal cannot keep it. After [`WriteError::Journal`] the change is
    /// not in the view; whether it is there after the next start is open.
    pub async fn write(&self, batch: Batch) -> Result<Revision, WriteError> {
        let (answer, mut answered) = oneshot::channel();
        let write = Write { batch, answer };
        match &self.inner.writer {
            Hand::Here(writer) => {
                let mut writer = locked(writer);
                writer.as_mut().ok_or(WriteError::Closed)?.serve(vec![write]);
                answered.try_recv().unwrap_or(Err(WriteError::Closed))
            }
            Hand::Thread { queue, .. } => {
                queue.send(Message::Write(write)).await.map_err(|_| WriteError::Closed)?;
                answered.await.unwrap_or(Err(WriteError::Closed))
            }
        }
    }
}

/// The one who writes.
struct Writer {
    journal: Box<dyn Journal>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Serves until it is told to close or nobody is left who could ask.
    fn serve_all(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut tended = Tended::Done;
        loop {
            let first = match tended {
                Tended::Done => messages.blocking_recv(),
                Tended::More => match messages.try_recv() {
                    Ok(message) => Some(message),
                    Err(mpsc::error::TryRecvError::Disconnected) => None,
                    Err(mpsc::error::TryRecvError::Empty) => {
                        tended = self.tend();
                        continue;
                    }
                },
            };
            let Some(first) = first else { return };
            let mut writes = Vec::new();
            let mut close = None;
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Write(write) => writes.push(write),
                    Message::Close(answer) => {
                        close = Some(answer);
                        break;
                    }
                }
                next = if writes.len() < QUEUE { messages.try_recv().ok() } else { None };
            }
            if !writes.is_empty() {
                self.serve(writes);
                tended = self.tend();
            }
            if let Some(answer) = close {
                // Those who wait behind the close find the queue gone, and so do those who come later.
                drop(messages);
                let Self { mut journal, shared } = self;
                let result = journal.close(&shared.read().view);
                drop(journal);
                // Whoever asked may have stopped waiting; the journal is closed all the same.
                let _ = answer.send(result);
                return;
            }
        }
    }

    fn tend(&mut self) -> Tended {
        // Held during the work, which hurts nobody: the only one who writes is busy here.
        self.journal.tend(&self.shared.read().view)
    }

    /// One group: one commit, then the view, the ring and the bell, then the answers.
    fn serve(&mut self, mut writes: Vec<Write>) {
        while !writes.is_empty() {
            let mut refused = Vec::new();
            let mut accepted: Vec<(Accepted, oneshot::Sender<_>)> = Vec::new();
            let state = self.shared.read();
            let mut pending = Pending::on(&state.view);
            for Write { batch, answer } in writes.drain(..) {
                match pending.admit(batch) {
                    Ok(batch) => accepted.push((batch, answer)),
                    Err(error) => refused.push((error, answer)),
                }
            }
            let newest = pending.revision();
            drop(pending);
            drop(state);
            let entries: Vec<_> = accepted.iter().filter_map(|(batch, _)| batch.entry()).collect();
            match if accepted.is_empty() { Ok(()) } else { self.journal.commit(newest, &entries) } {
                Ok(()) => self.apply(accepted),
                Err(error) => {
                    let error = Arc::new(error);
                    let any_stored = !entries.is_empty();
                    drop(entries);
                    for (batch, answer) in accepted {
                        // A volatile batch fails only when the journal takes nothing at all; else it is decided anew,
                        // on a view without those that failed.
                        if any_stored && batch.entry().is_none() {
                            writes.push(Write { batch: batch.into_batch(), answer });
                        } else {
                            let _ = answer.send(Err(WriteError::Journal(error.clone())));
                        }
                    }
                }
            }
            // Last, so that who looks again sees what was in the way.
            for (error, answer) in refused {
                let _ = answer.send(Err(error));
            }
        }
    }

    fn apply(&self, accepted: Vec<(Accepted, oneshot::Sender<Result<Revision, WriteError>>)>) {
        let mut answers = Vec::with_capacity(accepted.len());
        let mut state = self.shared.write();
        for (batch, answer) in accepted {
            answers.push((batch.revision, answer));
            let State { view, ring } = &mut *state;
            for event in view.place_all(batch.revision, batch.ops) {
                ring.push(event);
            }
        }
        let objects = state.view.len();
        state.ring.fit(objects);
        drop(state);
        if let Some((newest, _)) = answers.last() {
            self.shared.bell.send_replace(*newest);
        }
        for (revision, answer) in answers {
            // Whoever asked may be gone; the change stands all the same.
            let _ = answer.send(Ok(revision));
        }
    }
}

#[cfg(test)]
mod tests;
