//! Hands: keeps the files of last words short while containers write them.
//!
//! The kernel wakes us (inotify) when such a file is made and when it is written to. What it does not tell of (a file that is
//! written through memory, a table of watches that is full) is found by a look every ten seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::{FILE, disk};

/// Between looks when nothing wakes us: one `stat` a container.
const LOOK: Duration = Duration::from_secs(10);
/// Between looks while somebody writes: what a container can put there in this time is what it can take for itself.
const FLOCK: Duration = Duration::from_millis(200);

/// Watches until `stop`.
pub async fn watch(run_dir: PathBuf, stop: CancellationToken) {
    let wakes = match Wakes::open() {
        Ok(wakes) => Some(Arc::new(wakes)),
        Err(error) => {
            tracing::warn!(%error, "the kernel does not tell of last words: they are looked at every {} s", LOOK.as_secs());
            None
        }
    };
    loop {
        let (folder, watched) = (run_dir.clone(), wakes.clone());
        let look = move || {
            disk::bound(&folder, |path| {
                if let Some(wakes) = &watched {
                    wakes.cover(path);
                }
            })
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(0)) => {}
            Ok(Ok(files)) => tracing::debug!(files, "last words were too long and are cut"),
            Ok(Err(error)) => tracing::debug!(%error, "cannot look for last words"),
            Err(error) => tracing::error!(%error, "looking for last words died"),
        }
        let woken = async {
            match &wakes {
                Some(wakes) => wakes.next().await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            if tokio::time::timeout(LOOK, woken).await.is_ok() {
                tokio::time::sleep(FLOCK).await;
            }
        };
        tokio::select! { biased;
            () = stop.cancelled() => return,
            () = next => {}
        }
    }
}

/// The kernel's words about folders and files. They come as from a pipe, which is how tokio reads them without `unsafe`.
struct Wakes(pipe::Receiver);

impl Wakes {
    fn open() -> std::io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Self(pipe::Receiver::from_file_unchecked(fd.into())?))
    }

    /// Watches a file for what is written to it, a folder for what is made in it. One that is watched already stays so; one that is
    /// not there has its parent watched, and a watch ends with what it is for.
    fn cover(&self, path: &Path) {
        use inotify::WatchFlags as Flags;
        let flags = if path.ends_with(FILE) { Flags::MODIFY } else { Flags::CREATE | Flags::MOVED_TO | Flags::ONLYDIR }
            | Flags::DONT_FOLLOW;
        // What cannot be watched is found by the look each 10 s.
        let _ = inotify::add_watch(&self.0, path, flags);
    }

    /// Until something was made or written. What it was does not matter: everything is looked at. Never, when nothing more is told.
    async fn next(&self) {
        let mut buffer = [0u8; 16 << 10];
        while self.0.readable().await.is_ok() {
            match self.0.try_read(&mut buffer) {
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MOST, TOLD};
    use super::*;
    use crate::agent::pods::dir;
    use crate::api::Uid;

    #[tokio::test]
    async fn a_file_that_is_made_later_is_cut_long_before_the_next_look() {
        let run = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(watch(run.path().to_owned(), stop.clone()));
        // Folders come one after another, as a pod's do.
        for (pod, attempt) in [("a", 0), ("a", 1), ("b", 0)] {
            let folder = dir::container(run.path(), &Uid::from(pod), "app", attempt);
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join(FILE);
            std::fs::write(&path, "").unwrap();
            for round in 0..2 {
                tokio::time::sleep(FLOCK * 2).await;
                std::fs::write(&path, vec![b'x'; usize::try_from(MOST).unwrap() * 2]).unwrap();
                let cut = async {
                    while std::fs::metadata(&path).unwrap().len() != TOLD {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                let within = LOOK / 2;
                tokio::time::timeout(within, cut)
                    .await
                    .unwrap_or_else(|_| panic!("{pod} {attempt} {round}: not cut in {within:?}"));
            }
        }
        stop.cancel();
        task.await.unwrap();
    }
}
