//! Feeds one watch: waits for the bell, reads the changes, hands out lines as fast as the client takes them.
//!
//! In:       the bell, the store's changes, a stop, the watch's own end.
//! Out:      a stream of lines; nothing is queued but what the client was handed last.
//! Never:    decides what a client sees ([`Watch`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{Object, Revision};
use crate::apiserver::run::Lines;
use crate::clock::Clock;
use crate::store::Store;

use super::Watch;

/// The most changes that a watch reads at once: bounds what one slow client holds in memory.
const CHANGES: usize = 256;
/// How often a watch that asks for it is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What one watch holds while its client reads.
pub(crate) struct Feed {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub watch: Watch,
    pub initial: VecDeque<Arc<Object>>,
    pub bell: tokio::sync::watch::Receiver<Revision>,
    pub bookmarks: bool,
    pub ends: Instant,
    pub stop: CancellationToken,
    pub over: bool,
}

impl Feed {
    /// The lines as they come.
    pub fn lines(self) -> Lines {
        Box::pin(stream::unfold(self, |mut feed| async move { feed.next().await.map(|lines| (lines, feed)) }))
    }

    /// The next lines; `None` at the end. Asked only when the client took the last ones.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        self.watch.at(self.clock.now().wall);
        if !self.initial.is_empty() {
            let count = self.initial.len().min(CHANGES);
            let lines: Vec<u8> = self.initial.drain(..count).flat_map(|object| self.watch.initial(&object)).collect();
            return Some(lines.into());
        }
        let bookmark_at = Instant::now() + BOOKMARK_EVERY;
        loop {
            self.bell.borrow_and_update();
            let changes = match self.store.changes_since(self.watch.cursor(), CHANGES) {
                Ok(changes) => changes,
                Err(gone) => {
                    self.over = true;
                    return Some(super::gone(&gone).into());
                }
            };
            let more = changes.len() >= CHANGES;
            self.watch.at(self.clock.now().wall);
            let lines: Vec<u8> = changes.iter().filter_map(|change| self.watch.change(change)).flatten().collect();
            if !lines.is_empty() {
                return Some(lines.into());
            }
            if more {
                continue;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.last(),
                () = tokio::time::sleep_until(self.ends) => return self.last(),
                rung = self.bell.changed() => if rung.is_err() { return self.last() },
                () = tokio::time::sleep_until(bookmark_at), if self.bookmarks => return Some(self.watch.bookmark().into()),
            }
        }
    }

    fn last(&mut self) -> Option<Bytes> {
        self.over = true;
        self.bookmarks.then(|| self.watch.bookmark().into())
    }
}
