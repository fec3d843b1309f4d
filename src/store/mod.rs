//! The truth: every object, in memory, with a journal below it. (skeleton: in memory only, same interface)
//!
//! In:       [`Batch`]es, each with the revisions it expects.
//! Out:      [`View`]s, read whole and synchronously; a ring of recent changes; a bell.

pub mod batch;
pub mod ring;
pub mod view;

use std::sync::{Arc, RwLock};

pub use batch::{Batch, Change, Expect, Op, WriteError};
pub use ring::{ChangeEvent, Gone};
pub use view::View;

use crate::api::Revision;

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    state: RwLock<State>,
    bell: tokio::sync::watch::Sender<Revision>,
    id: String,
}

struct State {
    view: View,
    ring: ring::Ring,
}

impl Store {
    /// A store that forgets everything when it is dropped: for tests and simulations. Revisions start above `floor`.
    #[must_use]
    pub fn in_memory(id: &str, floor: Revision) -> Self {
        let state = State { view: View::new(floor), ring: ring::Ring::new(floor, 8192) };
        Self {
            inner: Arc::new(Inner { state: RwLock::new(state), bell: tokio::sync::watch::channel(floor).0, id: id.to_owned() }),
        }
    }

    /// The id of this store, made when it was: a share from another store is not obeyed by nodes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Reads consistently. Keep it short: writers wait.
    pub fn view<R>(&self, read: impl FnOnce(&View) -> R) -> R {
        read(&self.inner.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).view)
    }

    /// Says "look again" with the newest revision; the data is in the view and in the ring.
    #[must_use]
    pub fn bell(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.inner.bell.subscribe()
    }

    /// What happened after `cursor`, oldest first, at most `limit` events (events of one revision stay together).
    ///
    /// # Errors
    /// [`Gone`] when the ring no longer reaches back to `cursor`: list again.
    pub fn changes_since(&self, cursor: Revision, limit: usize) -> Result<Vec<ChangeEvent>, Gone> {
        self.inner.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).ring.since(cursor, limit)
    }

    /// Applies a batch once it is durable: all of it or nothing.
    ///
    /// # Errors
    /// When an expected revision does not hold, or the journal cannot keep it.
    pub async fn write(&self, batch: Batch) -> Result<Revision, WriteError> {
        let revision = {
            let mut state = self.inner.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let State { view, ring } = &mut *state;
            batch::check(view, &batch)?;
            let revision = view.revision().next();
            for event in view.apply(revision, batch) {
                ring.push(event);
            }
            revision
        };
        self.inner.bell.send_replace(revision);
        Ok(revision)
    }
}
