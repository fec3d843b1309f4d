//! RFC 3339 times as the API writes them, and ages as `kubectl get` shows them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Wall;

/// `2026-11-22T20:09:05Z`, whole seconds, UTC: `metav1.Time`.
#[must_use]
pub fn rfc3339(wall: Wall) -> String {
    format(wall.0.div_euclid(1000), 0)
}

/// `2026-11-22T20:09:05.123000Z`: `metav1.MicroTime`, as leases and events have it.
#[must_use]
pub fn rfc3339_micro(wall: Wall) -> String {
    let whole = format(wall.0.div_euclid(1000), 0);
    let millis = wall.0.rem_euclid(1000);
    format!("{}.{millis:03}000Z", whole.trim_end_matches('Z'))
}

fn format(seconds: i64, nanos: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .map(|at| at + time::Duration::nanoseconds(nanos))
        .and_then(|at| at.format(&Rfc3339).ok())
        // Only years beyond 9999 come here.
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Reads an RFC 3339 time; `None` when it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Wall> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(Wall)
}

/// An age as `kubectl get` shows it: `5s`, `3m20s`, `2h`, `3d4h`, `2y30d`.
///
/// Source: apimachinery `duration.HumanDuration`.
#[must_use]
pub fn age(since: Wall, now: Wall) -> String {
    let seconds = (now.0 - since.0) / 1000;
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let pair = |high: i64, high_unit: &str, low: i64, low_unit: &str| {
        if low == 0 { format!("{high}{high_unit}") } else { format!("{high}{high_unit}{low}{low_unit}") }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        pair(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        pair(days, "d", hours % 24, "h")
    } else if days < 730 {
        format!("{days}d")
    } else if days < 2920 {
        pair(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_out_and_come_back() {
        let wall = Wall(1_795_378_145_123);
        assert_eq!(rfc3339(wall), "2026-11-22T20:09:05Z");
        assert_eq!(rfc3339_micro(wall), "2026-11-22T20:09:05.123000Z");
        assert_eq!(parse("2026-11-22T20:09:05.123000Z"), Some(wall));
        assert_eq!(parse("2026-11-22T21:09:05+01:00"), Some(Wall(1_795_378_145_000)));
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (190_000, "2d4h"),
            (864_000, "10d"),
            (63_072_000, "2y"),
        ] {
            assert_eq!(age(Wall(0), Wall(seconds * 1000)), text, "{seconds}");
        }
    }
}
