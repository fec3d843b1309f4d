//! Hands: looks at the devices when `/dev` changes, and says what is there when that is something else.
//!
//! The kernel wakes us (inotify): an idle node does nothing for its devices. Where it cannot be asked for that, we look every few
//! seconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::disk::{self, BY_ID};
use super::inventory::Inventory;

/// A stick brings several files and links: one look serves them all.
const FLOCK: Duration = Duration::from_millis(100);
/// Between looks where the kernel does not wake us.
const POLL: Duration = Duration::from_secs(5);

/// Tells `inventory` of every change below `root` until `stop`.
pub async fn watch(root: PathBuf, inventory: watch::Sender<Inventory>, stop: CancellationToken) {
    let wakes = Wakes::open();
    if let Err(error) = &wakes {
        tracing::warn!(%error, "the kernel does not tell of changes in /dev: it is looked at every {} s", POLL.as_secs());
    }
    loop {
        // Watched first, looked at then: what changes in between wakes us once more.
        if let Ok(wakes) = &wakes {
            wakes.cover(&root);
        }
        let folder = root.clone();
        if let Ok(found) = tokio::task::spawn_blocking(move || disk::look(&folder)).await {
            inventory.send_if_modified(|known| {
                let changed = *known != found;
                if changed {
                    *known = found;
                }
                changed
            });
        }
        let next = async {
            match &wakes {
                Ok(wakes) => wakes.next().await,
                Err(_) => tokio::time::sleep(POLL).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = next => tokio::time::sleep(FLOCK).await,
        }
    }
}

/// The kernel's words about folders. They come as from a pipe, which is how tokio reads them without `unsafe`.
struct Wakes(pipe::Receiver);

impl Wakes {
    fn open() -> std::io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Self(pipe::Receiver::from_file_unchecked(fd.into())?))
    }

    /// Watches the folders that there are: udev makes those of the links with the first stick, and removes them with the last.
    fn cover(&self, root: &Path) {
        use inotify::WatchFlags as Flags;
        let flags = Flags::CREATE | Flags::DELETE | Flags::MOVED_FROM | Flags::MOVED_TO | Flags::ONLYDIR;
        for folder in ["dev", "dev/serial", BY_ID] {
            // One that is not there has its parent watched.
            let _ = inotify::add_watch(&self.0, root.join(folder), flags);
        }
    }

    /// Until something has changed. What it was does not matter: everything is looked at.
    async fn next(&self) {
        let mut buffer = [0u8; 4096];
        loop {
            if self.0.readable().await.is_err() {
                return tokio::time::sleep(POLL).await;
            }
            match self.0.try_read(&mut buffer) {
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return tokio::time::sleep(POLL).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::devices::Device;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn sticks_come_and_go_with_their_folders_and_nothing_wakes_in_between() {
        let root = tempfile::tempdir().unwrap();
        let dev = root.path().join("dev");
        std::fs::create_dir(&dev).unwrap();
        let (sender, mut inventory) = watch::channel(Inventory::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(watch(root.path().to_owned(), sender, stop.clone()));
        let keys = |inventory: &Inventory| inventory.iter().map(Device::key).collect::<Vec<_>>();
        for round in 0..3 {
            let by_id = dev.join("serial/by-id");
            symlink("/dev/null", dev.join("ttyUSB0")).unwrap();
            std::fs::create_dir_all(&by_id).unwrap();
            symlink("../../ttyUSB0", by_id.join("usb-a")).unwrap();
            let there =
                tokio::time::timeout(Duration::from_secs(10), inventory.wait_for(|found| keys(found) == ["serial-usb-a"]));
            there.await.unwrap_or_else(|_| panic!("round {round}")).unwrap();
            std::fs::remove_dir_all(dev.join("serial")).unwrap();
            std::fs::remove_file(dev.join("ttyUSB0")).unwrap();
            let gone = tokio::time::timeout(Duration::from_secs(10), inventory.wait_for(|found| keys(found).is_empty()));
            gone.await.unwrap().unwrap();
        }
        // The same again is no news.
        inventory.mark_unchanged();
        std::fs::write(dev.join("sound"), "").unwrap();
        tokio::time::sleep(FLOCK * 3).await;
        assert!(!inventory.has_changed().unwrap());
        stop.cancel();
        task.await.unwrap();
    }
}
