//! Hands: kills for memory, as the kernel itself tells of them, for an engine that does not.
//!
//! Podman 4 has no event for it, and looks for conmon's note of it where conmon does not put it. The kernel rings for whoever
//! asked: control groups of version 1 an eventfd, those of version 2 a file that is watched.
//! Source: kernel documentation, `cgroup-v1/memory` (10. OOM Control) and `cgroup-v2` (memory.events).

use std::io::{Error, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::{Shared, lock};
use crate::agent::stats::cgroup::{self, Place};
use crate::agent::stats::sysinfo::Groups;

/// Whether a container was started just now: a kill before we began to listen is then news, else it was told by another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Start,
    Before,
}

impl Shared {
    /// Begins to listen for kills in a container that runs, by one of its processes. Nothing for an engine that tells of them, or
    /// where the files are out of reach; once for each container.
    pub(super) fn listen_for_oom(&self, id: &str, pid: Option<i64>, since: Since) {
        let pid = pid.filter(|pid| *pid > 0).and_then(|pid| u64::try_from(pid).ok());
        let Some(pid) = pid.filter(|_| !self.engine().tells_oom() && !lock(&self.listened).contains(id)) else { return };
        let Some(place) = Groups::default().place(pid) else { return };
        let Some((folder, control)) = control(Path::new("/sys/fs/cgroup"), &place) else { return };
        let bell = match Bell::at(&folder, &control) {
            Ok(bell) => bell,
            Err(error) => {
                tracing::debug!(container = id, %error, "a kill for memory would not be heard");
                return;
            }
        };
        lock(&self.listened).insert(id.to_owned());
        let (oom, news, id) = (Arc::clone(&self.oom), Arc::clone(&self.oom_news), id.to_owned());
        let mut listeners = lock(&self.listeners);
        while listeners.try_join_next().is_some() {}
        listeners.spawn(async move {
            let mut killed = since == Since::Start && kills(&control) > 0;
            loop {
                if killed && lock(&oom).insert(id.clone()) {
                    news.notify_one();
                }
                let Some(heard) = bell.heard(&control).await else { return };
                killed = heard;
            }
        });
    }
}

/// The folder of a container's memory, and the file that counts kills; none where the kernel has no memory groups.
fn control(root: &Path, place: &Place) -> Option<(PathBuf, PathBuf)> {
    let (folder, file) = match place {
        Place::V1 { memory, .. } => (memory.as_ref()?, "memory.oom_control"),
        Place::V2 { folder } => (folder, "memory.events"),
    };
    let folder = root.join(folder);
    let file = folder.join(file);
    Some((folder, file))
}

/// How many were killed, as both versions count.
fn kills(control: &Path) -> u64 {
    std::fs::read_to_string(control).ok().and_then(|text| cgroup::field(&text, "oom_kill")).unwrap_or_default()
}

/// The other way to say this is unsafe, and an `OwnedFd` is what its safety asks for: it is nobody else's to close.
#[allow(deprecated)]
fn registered(bell: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(bell)
}

/// What the kernel rings.
enum Bell {
    /// Version 1.
    V1(AsyncFd<OwnedFd>),
    /// Version 2.
    V2(AsyncFd<OwnedFd>),
}

impl Bell {
    fn at(folder: &Path, control: &Path) -> std::io::Result<Self> {
        if control.ends_with("memory.oom_control") {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let file = std::fs::File::open(control)?;
            let words = format!("{} {}", bell.as_raw_fd(), file.as_raw_fd());
            std::fs::OpenOptions::new()
                .write(true)
                .open(folder.join("cgroup.event_control"))
                .and_then(|mut at| std::io::Write::write_all(&mut at, words.as_bytes()))?;
            return Ok(Self::V1(registered(bell)?));
        }
        let bell = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&bell, control, what)?;
        Ok(Self::V2(registered(bell)?))
    }

    /// Waits for the next ring; whether somebody was killed. `None`: the container is over.
    async fn heard(&self, control: &Path) -> Option<bool> {
        let (Self::V1(bell) | Self::V2(bell)) = self;
        let rings = loop {
            let mut ready = bell.readable().await.ok()?;
            match ready.try_io(|bell| self.read(bell.as_fd())) {
                Ok(rings) => break rings.ok()?,
                Err(_would_block) => {}
            }
        };
        match (self, control.exists()) {
            // Its end rings as well, once: twice means that there was a kill before it.
            (Self::V1(..), there) => (there || rings > 1).then_some(true),
            (Self::V2(_), true) => Some(kills(control) > 0),
            (Self::V2(_), false) => None,
        }
    }

    /// How often it rang; of version 2, at least once.
    fn read(&self, bell: impl AsFd) -> std::io::Result<u64> {
        match self {
            Self::V1(..) => {
                let mut count = [0; 8];
                match rustix::io::read(bell, &mut count)? {
                    8 => Ok(u64::from_ne_bytes(count)),
                    _ => Err(Error::from(ErrorKind::UnexpectedEof)),
                }
            }
            Self::V2(_) => {
                let mut events = [MaybeUninit::uninit(); 1024];
                rustix::io::read(bell, &mut events)?;
                Ok(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kill_of_version_two_is_heard_by_its_count_and_the_end_too() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::V2 { folder: "machine.slice/libpod-1.scope".to_owned() };
        let (folder, control) = control(root.path(), &place).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&control, "low 0\noom 0\noom_kill 0\n").unwrap();
        let bell = Bell::at(&folder, &control).unwrap();
        std::fs::write(&control, "low 9\noom 1\noom_kill 0\n").unwrap();
        assert_eq!(bell.heard(&control).await, Some(false), "only the limit was met");
        std::fs::write(&control, "low 9\noom 1\noom_kill 1\n").unwrap();
        assert_eq!(bell.heard(&control).await, Some(true));
        std::fs::remove_file(&control).unwrap();
        let end = async { while bell.heard(&control).await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(20), end).await.unwrap();
    }

    #[test]
    fn a_kernel_without_memory_groups_has_no_bell() {
        let place = Place::V1 { cpu: "cpu/a".to_owned(), memory: None };
        assert_eq!(control(Path::new("/"), &place), None);
    }
}
