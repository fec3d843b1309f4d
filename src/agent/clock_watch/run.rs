//! Hands: tells systemd that the clock is not set, until it is.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::words;
use crate::clock::{Clock, SystemClock};
use crate::telemetry::Systemd;

/// Between looks at a clock that is not set; one that is is never looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// Tells systemd `say`, and as long as the clock is not set that too.
pub async fn follow(clock: SystemClock, systemd: &Systemd, say: &str, stop: &CancellationToken) {
    let wall = clock.now().wall;
    if !wall.is_set() {
        systemd.status(&format!("{say}; {}", words(wall)));
        while !clock.now().wall.is_set() {
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
    systemd.status(say);
}
