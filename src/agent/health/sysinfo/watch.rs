//! Looks at the board: every 10 s, and at once when the kernel says that the firmware's word on power has changed.
//!
//! In:       the files of the board.
//! Out:      [`Seen`], always the newest; whoever waits for it is woken only when a [`Strain`] has come or gone.
//!
//! The kernel asks the firmware every 2 s by itself, and wakes who polls its file when the answer is another one: so a dip is told
//! within some two seconds, and a steady board costs nothing between the looks. Where the file cannot be polled (it is an ordinary
//! one) it is looked at as often as the kernel asks.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::files::Files;
use super::{firmware, hardware};
use crate::agent::disk;
use crate::agent::health::hardware::{Boot, Flag, Hardware};
use crate::agent::health::strain::{Judge, Strain};
use crate::agent::health::wear::{Kept, Stops, Wear, Word};
use crate::clock::{Clock, SystemClock};
use crate::error::Chain;
use crate::link::message::Health;

/// Between looks while nothing rings: as often as the node tells how it is.
const CALM: Duration = Duration::from_secs(10);
/// Between looks where the firmware's file cannot ring. Source: the kernel's voltage driver asks as often.
const POLL: Duration = Duration::from_secs(2);
/// Between a ring and the look: a change of several flags is one.
const FLOCK: Duration = Duration::from_millis(100);
/// What was written, in the node's data folder.
const WRITTEN: &str = "written.json";

/// What was seen of the board last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// How it is.
    pub hardware: Hardware,
    /// What it suffers.
    pub strain: Strain,
    /// What it has suffered since the machine was started: under-voltage, capped, throttled, soft temperature limit.
    pub since_boot: [Option<bool>; 4],
    /// What was written on the device that it starts from, since Bramble came to it.
    pub disk_written_total_bytes: Option<u64>,
}

impl Seen {
    /// Puts it into what the node tells.
    pub fn tell(&self, health: &mut Health) {
        let Self { hardware, strain, since_boot, disk_written_total_bytes } = *self;
        let [under_voltage, capped, throttled, soft_limit] = since_boot;
        health.temperature_celsius = hardware.temperature_celsius;
        health.hot = strain.hot;
        health.throttled = strain.throttled;
        health.under_voltage = strain.under_voltage;
        health.firmware_throttled = hardware.throttle.map(|throttle| format!("{:#x}", throttle.bits));
        health.under_voltage_since_boot = under_voltage;
        health.frequency_capped_since_boot = capped;
        health.throttled_since_boot = throttled;
        health.soft_temperature_limit_since_boot = soft_limit;
        health.cpu_mhz = hardware.cpu_mhz;
        health.cpu_max_mhz = hardware.cpu_max_mhz;
        health.boot_disk_written_bytes = hardware.disk_written_bytes;
        health.boot_disk_written_total_bytes = disk_written_total_bytes;
        health.emmc_life_used_percent = hardware.emmc.used_percent;
        health.emmc_spare = hardware.emmc.spare.map(|spare| spare.word().to_owned());
        health.wifi_signal_dbm = hardware.wifi_signal_dbm;
        health.wifi_power_save = hardware.wifi_power_save;
        health.time_synchronized = hardware.time_synchronized;
    }
}

/// What the watch works with.
#[derive(Debug)]
pub struct Parts {
    /// The board's files.
    pub root: PathBuf,
    /// What the machine started from.
    pub boot: Boot,
    /// Changes with each boot.
    pub boot_id: String,
    /// Where the node keeps its own files.
    pub data_dir: PathBuf,
    /// From here on it is too hot.
    pub hot_celsius: f32,
    /// So long a trouble stays after its last sign.
    pub clears: Duration,
    /// The time.
    pub clock: SystemClock,
}

/// A board that is watched.
pub struct Watch {
    parts: Parts,
    files: Arc<Files>,
    judge: Judge,
    wear: Option<Wear>,
}

impl Watch {
    /// With the first look. Blocks on small files.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Seen) {
        let files = Arc::new(Files::below(&parts.root));
        let first = hardware(&files, &parts.boot);
        // A card by its serial number; a disk by its name, which is the best that every kernel tells.
        let device = if parts.boot.card_serial.is_empty() { &parts.boot.device } else { &parts.boot.card_serial };
        let wear = first.disk_written_bytes.map(|bytes| Wear::new(kept(&parts.data_dir), device, &parts.boot_id, bytes));
        let judge = Judge::new(parts.hot_celsius, parts.clears);
        let mut watch = Self { parts, files, judge, wear };
        let seen = watch.judge(first);
        (watch, seen)
    }

    fn judge(&mut self, hardware: Hardware) -> Seen {
        let strain = self.judge.after(self.parts.clock.now().tick, &hardware);
        let total = hardware.disk_written_bytes.and_then(|bytes| Some(self.wear.as_mut()?.count(bytes)));
        let flags = [Flag::UnderVoltage, Flag::Capped, Flag::Throttled, Flag::SoftLimit];
        Seen { hardware, strain, since_boot: flags.map(|flag| self.judge.since_boot(flag)), disk_written_total_bytes: total }
    }

    /// Watches until `stop`.
    pub async fn run(mut self, seen: watch::Sender<Seen>, stop: CancellationToken) {
        let mut bell = None;
        loop {
            let (files, boot, known) = (self.files.clone(), self.parts.boot.clone(), bell.take());
            let mut polls = false;
            if let Ok(look) = tokio::task::spawn_blocking(move || look(&files, &boot, known)).await {
                bell = look.bell;
                polls = look.polls;
                let new = self.judge(look.hardware);
                seen.send_if_modified(|known| std::mem::replace(known, new).strain != new.strain);
            }
            self.keep(Stops::No).await;
            let pause = if polls { POLL } else { CALM };
            let rings = async {
                match &bell {
                    Some(bell) => bell.rings().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                () = stop.cancelled() => break,
                rang = rings => {
                    if rang.is_err() {
                        bell = None;
                    }
                    tokio::time::sleep(FLOCK).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.keep(Stops::Yes).await;
    }

    /// Keeps what was written, if it has grown enough.
    async fn keep(&mut self, stops: Stops) {
        let Some(wear) = &mut self.wear else { return };
        let now = self.parts.clock.now().tick;
        let Some(kept) = wear.to_keep(stops, now).cloned() else { return };
        let total = kept.total_bytes;
        let data_dir = self.parts.data_dir.clone();
        let saved = tokio::task::spawn_blocking(move || {
            // Strings and numbers: cannot fail.
            let bytes = serde_json::to_vec(&kept).unwrap_or_default();
            disk::replace(&data_dir, WRITTEN, &bytes)
        });
        match saved.await {
            Ok(Ok(())) => {
                if wear.kept(total) == Some(Word::KeptAgain) {
                    tracing::info!("how much was written is kept again");
                }
            }
            Ok(Err(error)) => {
                if wear.not_kept(now) == Some(Word::Unkept) {
                    tracing::warn!(error = %Chain(&error), "how much was written cannot be kept: after the next boot it is counted from less");
                }
            }
            Err(error) => {
                wear.not_kept(now);
                tracing::error!(%error, "keeping how much was written died");
            }
        }
    }
}

/// What one look brings.
struct Look {
    bell: Option<Bell>,
    /// There is a word on power, and nothing that rings when it changes.
    polls: bool,
    hardware: Hardware,
}

/// Listens first, looks then: what changes in between rings. Blocks on small files; needs the runtime's reactor.
fn look(files: &Files, boot: &Boot, bell: Option<Bell>) -> Look {
    let file = if bell.is_some() { None } else { firmware::power_file(files) };
    let bell = bell.or_else(|| Bell::open(&files.path(file.as_ref()?)).ok());
    Look { polls: file.is_some() && bell.is_none(), bell, hardware: hardware(files, boot) }
}

/// What was kept; one that makes no sense is none.
fn kept(data_dir: &Path) -> Option<Kept> {
    let text = Files::below(data_dir).text(WRITTEN)?;
    let kept = serde_json::from_str(&text);
    kept.inspect_err(|error| tracing::warn!(%error, "{WRITTEN} makes no sense: what was written is counted anew")).ok()
}

/// A file of the kernel's that rings when its content changes. Source: the kernel's `fs/kernfs/file.c`, `kernfs_fop_poll`: the file is
/// read, then polled for what is urgent.
struct Bell(AsyncFd<File>);

impl Bell {
    /// # Errors
    /// When it is no such file.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        // Deprecated for types whose descriptor may become another one; a file's does not. What is named instead is `unsafe`.
        #[allow(deprecated)]
        let bell = Self(AsyncFd::with_interest(file, Interest::PRIORITY)?);
        bell.hush()?;
        Ok(bell)
    }

    /// What it said counts as heard.
    fn hush(&self) -> io::Result<()> {
        self.0.get_ref().read_at(&mut [0; 64], 0).map(drop)
    }

    /// Until it rings. Safe to drop half way.
    async fn rings(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        self.hush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::tree;
    use super::*;

    /// The host's name is set to what it is: that file of the kernel's rings as those of drivers do.
    #[tokio::test]
    async fn a_file_of_the_kernels_rings_when_it_changes_and_an_ordinary_one_cannot() {
        let place = Path::new("/proc/sys/kernel/hostname");
        let bell = Bell::open(place).unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(200), bell.rings()).await;
        assert!(quiet.is_err(), "it rings before anything has changed");
        let ordinary = tree(&[("get_throttled", "0\n")]);
        assert!(Bell::open(&ordinary.path().join("get_throttled")).is_err());
        if !rustix::process::geteuid().is_root() {
            println!("NOT RUN: only root may set the host's name, so nothing rings");
            return;
        }
        for _ in 0..2 {
            let name = std::fs::read_to_string(place).unwrap();
            std::fs::write(place, name).unwrap();
            tokio::time::timeout(Duration::from_secs(5), bell.rings()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_written_is_kept_at_an_orderly_stop_and_only_if_something_was() {
        let stat = |sectors: u64| format!("1 2 3 4 5 6 {sectors} 8 9 10 11\n");
        let root = tree(&[("sys/class/block/mmcblk0/stat", &stat(4096))]);
        let data = tempfile::tempdir().unwrap();
        let boot = Boot { device: "mmcblk0".into(), card_serial: "0x1".into(), ..Boot::default() };
        let live = |boot_id: &str, sectors: Option<u64>| {
            let parts = Parts {
                root: root.path().to_owned(),
                boot: boot.clone(),
                boot_id: boot_id.to_owned(),
                data_dir: data.path().to_owned(),
                hot_celsius: 80.0,
                clears: Duration::from_secs(60),
                clock: SystemClock::start(),
            };
            let (watch, first) = Watch::new(parts);
            if let Some(sectors) = sectors {
                std::fs::write(root.path().join("sys/class/block/mmcblk0/stat"), stat(sectors)).unwrap();
            }
            async move {
                let (told, seen) = watch::channel(first);
                let stop = CancellationToken::new();
                stop.cancel();
                watch.run(told, stop).await;
                seen.borrow().disk_written_total_bytes
            }
        };
        assert_eq!(live("a", None).await, Some(4096 * 512));
        assert!(std::fs::read_dir(data.path()).unwrap().next().is_none(), "nothing was written: nothing is kept");
        assert_eq!(live("a", Some(8192)).await, Some(8192 * 512));
        assert!(data.path().join(WRITTEN).exists());
        assert_eq!(live("b", None).await, Some(2 * 8192 * 512), "the next boot goes on from there");
        std::fs::write(data.path().join(WRITTEN), "[7").unwrap();
        assert_eq!(live("b", None).await, Some(8192 * 512), "nonsense is as good as nothing");
    }
}
