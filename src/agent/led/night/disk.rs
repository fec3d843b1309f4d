//! Hands: reads the machine's time zone.

use std::path::Path;

use super::Zone;

/// The time zone of this machine, and what to say when it cannot be had: then it is UTC. `tz` is the variable TZ. Below `root` stand the
/// machine's files.
///
/// Source: tzset(3): TZ names rules, or a file of the time zone database, by `:` or without; without TZ it is `/etc/localtime`, and
/// UTC where there is none.
#[must_use]
pub fn zone(tz: Option<&str>, root: &Path) -> (Zone, Option<String>) {
    match tz {
        None => match std::fs::read(root.join("etc/localtime")) {
            Ok(bytes) => known("/etc/localtime", Zone::of_file(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Zone::default(), None),
            Err(error) => known("/etc/localtime", Err::<Zone, _>(error)),
        },
        Some("") => (Zone::default(), None),
        Some(tz) => {
            let name = tz.strip_prefix(':').unwrap_or(tz);
            let file = match name.strip_prefix('/') {
                Some(path) => root.join(path),
                None => root.join("usr/share/zoneinfo").join(name),
            };
            match std::fs::read(file) {
                Ok(bytes) => known(tz, Zone::of_file(&bytes)),
                Err(_) => known(tz, Zone::of_rules(name)),
            }
        }
    }
}

fn known<E: std::fmt::Display>(name: &str, read: Result<Zone, E>) -> (Zone, Option<String>) {
    match read {
        Ok(zone) => (zone, None),
        Err(error) => {
            let words = format!(
                "the time zone {name:?} cannot be used ({error}): leds.night is taken as UTC; set it with `timedatectl set-timezone`"
            );
            (Zone::default(), Some(words))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time zone file of version 1 with one kind of local time: this far from UTC, always (RFC 9636, section 3).
    fn file(offset_seconds: i32) -> Vec<u8> {
        let mut bytes = b"TZif".to_vec();
        bytes.extend([0; 16]);
        // Counts: UT/local and standard/wall indicators, leap seconds, transitions, kinds, letters.
        for count in [0u32, 0, 0, 0, 1, 4] {
            bytes.extend(count.to_be_bytes());
        }
        bytes.extend(offset_seconds.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(b"XYZ\0");
        bytes
    }

    #[test]
    fn the_zone_is_where_other_programs_look_for_it() {
        let root = tempfile::tempdir().unwrap();
        let look = |tz| zone(tz, root.path());
        assert_eq!(look(None), (Zone::default(), None), "no file is UTC");
        let folder = root.path().join("usr/share/zoneinfo/Europe");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::write(folder.join("Nowhere"), file(7200)).unwrap();
        std::fs::write(root.path().join("etc/localtime"), file(3600)).unwrap();
        let of = |offset| (Zone::of_file(&file(offset)).unwrap(), None);
        assert_eq!(look(None), of(3600));
        for tz in ["Europe/Nowhere", ":Europe/Nowhere", "/usr/share/zoneinfo/Europe/Nowhere"] {
            assert_eq!(look(Some(tz)), of(7200), "{tz}");
        }
        assert_eq!(look(Some("")), (Zone::default(), None));
        assert_eq!(look(Some("CET-1CEST,M3.5.0,M10.5.0/3")), (Zone::of_rules("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(), None));
    }

    #[test]
    fn what_cannot_be_read_is_utc_with_a_word_about_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/localtime")).unwrap();
        for tz in [None, Some("Atlantis/Capital")] {
            let (found, words) = zone(tz, root.path());
            assert_eq!(found, Zone::default());
            assert!(words.unwrap().contains("is taken as UTC; set it with"), "{tz:?}");
        }
    }
}
