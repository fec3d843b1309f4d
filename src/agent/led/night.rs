//! Night hours: when the LEDs are dark or dimmed.
//!
//! In:       the hours, the time zone, time.
//! Out:      whether it is night, and when to look again: at the minute when that changes, not every minute.
//! Never:    believes a clock that was not set yet (a Pi has no battery for one): then it is day.

pub mod disk;

use std::time::Duration;

use tz::{LocalTimeType, TimeZone, TimeZoneSettings};

use crate::clock::{Now, Tick, Wall};

/// A clock that shows less was not set: 2024-01-01.
const SET: Wall = Wall(1_704_067_200_000);
/// How long until one that was not set is looked at again.
const UNSET: Duration = Duration::from_secs(60);
/// A clock that is put right wakes nobody: it is looked at so often at least. At a restart a Pi goes on with the time of its last
/// shutdown until NTP answers.
const AT_MOST: Duration = Duration::from_secs(600);
/// A clock that has gone so far off by itself was put right meanwhile.
const JUMP_MILLIS: i64 = 1000;
const MINUTE_MILLIS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;

/// From when to when, in minutes of the local day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    /// What a person may write.
    pub const EXPECTED: &'static str = "from when to when, like \"22:00-07:00\"";

    /// Reads `22:00-07:00`; hours that are empty are none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let digits = |text: &str, most: u16| {
                let short = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|number| short && *number <= most)
            };
            Some(digits(hours, 23)? * 60 + digits(minutes, 59).filter(|_| minutes.len() == 2)?)
        };
        let (from, to) = text.split_once('-')?;
        let hours = Self { from: minute(from)?, to: minute(to)? };
        (hours.from != hours.to).then_some(hours)
    }

    /// Whether this minute of the day is one of them.
    fn have(self, minute: i64) -> bool {
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }
}

/// A time zone; UTC when nobody says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone(Option<TimeZone>);

impl Zone {
    /// By the rules of a file of the time zone database (TZif, RFC 9636).
    ///
    /// # Errors
    /// When it is none.
    pub fn of_file(bytes: &[u8]) -> Result<Self, tz::TzError> {
        TimeZone::from_tz_data(bytes).map(|zone| Self(Some(zone)))
    }

    /// By rules in words, like `CET-1CEST,M3.5.0,M10.5.0/3` (POSIX, environment variable TZ).
    ///
    /// # Errors
    /// When they are none.
    pub fn of_rules(text: &str) -> Result<Self, tz::Error> {
        TimeZoneSettings::new(&[], |_| Err("it names no rules".into())).parse_posix_tz(text).map(|zone| Self(Some(zone)))
    }

    /// The minute of the local day.
    fn minute(&self, wall: Wall) -> i64 {
        let seconds = wall.0.div_euclid(1000);
        let offset = self.0.as_ref().and_then(|zone| zone.find_local_time_type(seconds).ok()).map_or(0, LocalTimeType::ut_offset);
        (seconds + i64::from(offset)).div_euclid(60).rem_euclid(DAY_MINUTES)
    }
}

/// Watches for the night.
#[derive(Debug)]
pub(super) struct Watch {
    hours: Option<Hours>,
    zone: Zone,
    night: bool,
    /// When to look again; `None`: it was never looked.
    again: Option<Tick>,
    /// Wall clock minus ticks, when it was looked last.
    apart: i64,
}

impl Watch {
    /// Day, until the first look.
    pub(super) fn new(hours: Option<Hours>, zone: Zone) -> Self {
        Self { hours, zone, night: false, again: None, apart: 0 }
    }

    /// Whether it is night.
    pub(super) fn is_night(&self) -> bool {
        self.night
    }

    /// Looks at the clock, if it is time to, or the clock was put right. Whether that changed anything.
    pub(super) fn look(&mut self, now: Now) -> bool {
        let Some(hours) = self.hours else { return false };
        let apart = now.wall.0.saturating_sub(i64::try_from(now.tick.0).unwrap_or(i64::MAX));
        let jumped = apart.abs_diff(self.apart) > JUMP_MILLIS.unsigned_abs();
        if self.again.is_some_and(|again| now.tick < again) && !jumped {
            return false;
        }
        self.apart = apart;
        let before = self.night;
        let wait = if now.wall < SET {
            self.night = false;
            UNSET
        } else {
            self.night = hours.have(self.zone.minute(now.wall));
            self.until_change(hours, now.wall)
        };
        self.again = Some(now.tick.after(wait));
        self.night != before
    }

    /// From here to the minute when it changes, at most [`AT_MOST`]. Minute by minute, so that whatever a zone does with its clock at
    /// night is done here too.
    fn until_change(&self, hours: Hours, wall: Wall) -> Duration {
        let begun = wall.0.div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS;
        let most = i64::try_from(AT_MOST.as_millis()).unwrap_or(i64::MAX);
        let wait = (1..)
            .map(|minute| begun + minute * MINUTE_MILLIS)
            .take_while(|at| at - wall.0 < most)
            .find(|at| hours.have(self.zone.minute(Wall(*at))) != self.night)
            .map_or(most, |at| at - wall.0);
        Duration::from_millis(wait.unsigned_abs())
    }

    /// When to look again.
    pub(super) fn next_wake(&self) -> Option<Tick> {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    /// 2026-11-30T00:00:00Z.
    const NOVEMBER: i64 = 1_795_996_800_000;
    const HOUR: i64 = 3_600_000;

    fn hours(text: &str) -> Option<Hours> {
        Hours::parse(text)
    }

    fn watch(text: &str, zone: &str) -> Watch {
        Watch::new(hours(text), Zone::of_rules(zone).unwrap())
    }

    fn at(tick: u64, wall: i64) -> Now {
        Now { tick: Tick(tick), wall: Wall(wall) }
    }

    #[test]
    fn hours_are_read_as_people_write_them() {
        assert_eq!(hours("22:00-07:00"), Some(Hours { from: 1320, to: 420 }));
        assert_eq!(hours(" 0:05 - 23:59 "), Some(Hours { from: 5, to: 1439 }));
        for bad in ["", "22-7", "22:00", "24:00-07:00", "22:60-07:00", "22:00-22:00", "+2:00-07:00", "22:0-07:00", "022:00-07:00"]
        {
            assert_eq!(hours(bad), None, "{bad}");
        }
    }

    #[test]
    fn night_is_by_local_time_and_over_midnight() {
        // Local time is an hour ahead in November, two in July.
        for (zone, wall, night) in [
            ("UTC0", NOVEMBER + 21 * HOUR + 59 * 60_000, false),
            ("UTC0", NOVEMBER + 22 * HOUR, true),
            ("UTC0", NOVEMBER, true),
            ("UTC0", NOVEMBER + 7 * HOUR - 1, true),
            ("UTC0", NOVEMBER + 7 * HOUR, false),
            (BERLIN, NOVEMBER + 21 * HOUR, true),
            (BERLIN, NOVEMBER + 21 * HOUR - 1, false),
            (BERLIN, NOVEMBER + 6 * HOUR, false),
            // 2026-07-01T20:00:00Z.
            (BERLIN, 1_782_936_000_000, true),
            (BERLIN, 1_782_936_000_000 - 1, false),
            ("<-0330>3:30", NOVEMBER + 25 * HOUR + 30 * 60_000, true),
        ] {
            let mut watch = watch("22:00-07:00", zone);
            watch.look(at(5, wall));
            assert_eq!(watch.is_night(), night, "{zone} {wall}");
        }
        let mut noon = watch("12:00-13:00", "UTC0");
        noon.look(at(0, NOVEMBER + 12 * HOUR));
        assert!(noon.is_night());
        noon.look(at(600_000, NOVEMBER + 13 * HOUR));
        assert!(!noon.is_night());
    }

    #[test]
    fn it_changes_at_the_minute_and_nobody_is_woken_before() {
        let mut watch = watch("22:00-07:00", "UTC0");
        assert_eq!(watch.next_wake(), None, "never looked");
        // 21:55:30.
        let wall = NOVEMBER + 21 * HOUR + 55 * 60_000 + 30_000;
        assert!(!watch.look(at(1000, wall)));
        assert_eq!(watch.next_wake(), Some(Tick(1000 + 270_000)));
        assert!(!watch.look(at(100_000, wall + 99_000)), "somebody else's wake changes nothing");
        assert!(watch.look(at(271_000, wall + 270_000)) && watch.is_night());
        assert_eq!(watch.next_wake(), Some(Tick(271_000 + 600_000)), "a look in ten minutes, should the clock be put right");
    }

    /// A whole night through a change of the clocks, by wakes alone.
    fn edges(zone: &str, from: i64, hours_long: i64, text: &str) -> Vec<i64> {
        let mut watch = watch(text, zone);
        let mut now = at(0, from);
        let mut edges = Vec::new();
        watch.look(now);
        while now.wall.0 < from + hours_long * HOUR {
            let next = watch.next_wake().unwrap();
            now = at(next.0, from + i64::try_from(next.0).unwrap());
            if watch.look(now) {
                edges.push((now.wall.0 - from) / 60_000);
            }
        }
        edges
    }

    #[test]
    fn a_night_in_which_clocks_are_put_forward_or_back_ends_by_the_clock_on_the_wall() {
        // 2026-03-28T12:00Z; clocks go forward at 01:00Z of the 29th: 21:00Z is 22:00, 05:00Z is 07:00.
        assert_eq!(edges(BERLIN, 1_774_699_200_000, 24, "22:00-07:00"), [9 * 60, 17 * 60]);
        // Hours that begin at a time that there is not (02:30) begin when the clock jumps over it.
        assert_eq!(edges(BERLIN, 1_774_699_200_000, 24, "02:30-07:00"), [13 * 60, 17 * 60]);
        // 2026-10-24T12:00Z; clocks go back at 01:00Z of the 25th: 20:00Z is 22:00, 06:00Z is 07:00.
        assert_eq!(edges(BERLIN, 1_792_843_200_000, 24, "22:00-07:00"), [8 * 60, 18 * 60]);
    }

    #[test]
    fn a_clock_that_was_not_set_or_is_put_right_is_noticed() {
        let mut watch = watch("22:00-07:00", "UTC0");
        watch.look(at(0, 1_000_000));
        assert!(!watch.is_night(), "00:16 of 1970 is no night");
        assert_eq!(watch.next_wake(), Some(Tick(60_000)));
        // NTP answers, and somebody wakes us for another reason.
        assert!(watch.look(at(20_000, NOVEMBER)) && watch.is_night());
        // It was three hours behind: it is morning.
        assert!(watch.look(at(21_000, NOVEMBER + 8 * HOUR)) && !watch.is_night());
        // A drift of less than a second is none.
        let again = watch.next_wake();
        assert!(!watch.look(at(22_000, NOVEMBER + 8 * HOUR + 1500)));
        assert_eq!(watch.next_wake(), again);
    }

    #[test]
    fn without_hours_nobody_is_woken() {
        let mut watch = Watch::new(None, Zone::default());
        assert!(!watch.look(at(0, NOVEMBER)));
        assert_eq!((watch.next_wake(), watch.is_night()), (None, false));
    }

    #[test]
    fn what_is_no_zone_is_an_error() {
        assert!(Zone::of_rules("").is_err() && Zone::of_rules("Nowhere/Land").is_err());
        assert!(Zone::of_file(b"TZif").is_err() && Zone::of_file(b"").is_err());
    }
}
