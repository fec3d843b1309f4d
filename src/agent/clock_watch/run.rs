//! Hands: looks whether the clock can be trusted, and tells systemd as long as it cannot.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Doubt, words};
use crate::clock::{Clock, SystemClock, Wall};
use crate::telemetry::Systemd;

/// Between looks at a clock that is in doubt; one that is not is never looked at again.
const LOOK: Duration = Duration::from_secs(5);

/// Whether the clock is in doubt. systemd puts one that is not set to when it was built, so that its year alone does not tell.
///
/// Source: systemd-timesyncd.service(8): `synchronized` is touched when it has the time; the folder is there while it runs.
#[must_use]
pub fn doubt(root: &Path, wall: Wall) -> Option<Doubt> {
    if !wall.is_set() {
        return Some(Doubt::NotSet);
    }
    let timesync = root.join("run/systemd/timesync");
    (timesync.exists() && !timesync.join("synchronized").exists()).then_some(Doubt::NotSynchronized)
}

/// Tells systemd `say`, and as long as the clock is in doubt that too.
pub async fn follow(clock: SystemClock, systemd: &Systemd, say: &str, stop: &CancellationToken) {
    let look = || {
        let wall = clock.now().wall;
        doubt(Path::new("/"), wall).map(|doubt| words(doubt, wall))
    };
    if let Some(words) = look() {
        systemd.status(&format!("{say}; {words}"));
        while look().is_some() {
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
    systemd.status(say);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_in_doubt_until_its_year_can_be_and_a_time_server_has_answered() {
        let root = tempfile::tempdir().unwrap();
        let (early, good) = (Wall(60_000), Wall(Wall::WRITTEN.0 + 1));
        assert_eq!(doubt(root.path(), early), Some(Doubt::NotSet));
        assert_eq!(doubt(root.path(), good), None, "something else sets it, or nothing does: nobody can tell");
        let timesync = root.path().join("run/systemd/timesync");
        std::fs::create_dir_all(&timesync).unwrap();
        assert_eq!(doubt(root.path(), good), Some(Doubt::NotSynchronized));
        std::fs::write(timesync.join("synchronized"), b"").unwrap();
        assert_eq!(doubt(root.path(), good), None);
    }
}
