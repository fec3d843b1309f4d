//! A socket before Docker's that can hang, be cut, and be gone: what a Docker that fails looks like from outside.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does with its connections, those that are open too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Everything passes.
    Pass,
    /// Everything passes, at some MB a second.
    Trickle,
    /// Connections are taken, and nothing passes in either direction.
    Hang,
    /// Every connection is closed at once.
    Cut,
    /// Nobody listens: connections are refused, as by a socket whose daemon has ended.
    Gone,
}

/// A running proxy; its socket and its connections end with it.
pub struct Proxy {
    pub socket: PathBuf,
    mood: Arc<watch::Sender<Mood>>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// A proxy before `target`.
    pub fn start(target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let mut listener = UnixListener::bind(&socket).unwrap();
        let mood = Arc::new(watch::Sender::new(Mood::Pass));
        let (moods, mut changes) = (Arc::clone(&mood), mood.subscribe());
        let (target, place): (Arc<str>, _) = (target.into(), socket.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { return };
                        connections.spawn(carry(client, Arc::clone(&target), moods.subscribe()));
                        while connections.try_join_next().is_some() {}
                    }
                    true = until(&mut changes, |mood| mood == Mood::Gone) => {
                        drop(listener);
                        // The file stays, as when a daemon was killed.
                        if !until(&mut changes, |mood| mood != Mood::Gone).await {
                            return;
                        }
                        std::fs::remove_file(&place).unwrap();
                        listener = UnixListener::bind(&place).unwrap();
                    }
                    else => return,
                }
            }
        });
        Self { socket, mood, task, _folder: folder }
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for a mood; `false` when the proxy ends before.
async fn until(moods: &mut watch::Receiver<Mood>, wanted: fn(Mood) -> bool) -> bool {
    moods.wait_for(|mood| wanted(*mood)).await.is_ok()
}

async fn carry(client: UnixStream, target: Arc<str>, moods: watch::Receiver<Mood>) {
    let Ok(server) = UnixStream::connect(&*target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, moods.clone()) => {}
        () = pump(from_server, to_client, moods) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut moods: watch::Receiver<Mood>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mood = *moods.borrow_and_update();
        match mood {
            Mood::Cut | Mood::Gone => return,
            Mood::Hang => {
                if moods.changed().await.is_err() {
                    return;
                }
            }
            Mood::Pass | Mood::Trickle => tokio::select! {
                changed = moods.changed() => if changed.is_err() { return },
                read = from.read(&mut buffer) => match read {
                    Ok(count) if count > 0 => {
                        // What was read while the mood changed waits for the next one.
                        loop {
                            let mood = *moods.borrow_and_update();
                            match mood {
                                Mood::Pass => break,
                                Mood::Trickle => {
                                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                                    break;
                                }
                                Mood::Cut | Mood::Gone => return,
                                Mood::Hang => if moods.changed().await.is_err() { return },
                            }
                        }
                        if to.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
            },
        }
    }
}
