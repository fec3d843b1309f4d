//! Hands: says that the clock is not set, waits until it is, and says that too.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::words;
use crate::api::time::rfc3339;
use crate::clock::{Clock, SystemClock};
use crate::telemetry::Systemd;

/// Between looks at a clock that is not set; a clock that is right is never looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// Says once that the clock is not set, if that is so, and waits until it is. `say` is what systemd is told when all is well.
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
        tracing::info!(now = rfc3339(clock.now().wall), was = rfc3339(wall), "the clock was set");
    }
    systemd.status(say);
}
