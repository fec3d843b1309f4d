//! Which images go, so that a small card does not fill up.
//!
//! In:       all images, what containers and pods use, how full the disk is, `now`.
//! Out:      which of the images that Bramble fetched are removed.
//! Never:    takes one that a container or a pod uses, one that somebody else brought, or the sandbox's.
//! Source:   the kubelet's image manager: nothing below 85 % of the disk, down to 80 % above it, least recently used first, none
//!           that has been here for less than 2 min. When an image was last used is known since the agent's start only, as there.
//!           We differ in that the owner's own images stay: on a Pi, Docker is seldom Bramble's alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Disk, Fetched, ImageFacts, Wanted};
use crate::clock::Tick;

/// When images go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Above so much of the disk in use, images are removed …
    pub high_percent: u8,
    /// … down to this.
    pub low_percent: u8,
    /// None that has been here for less.
    pub minimum_age: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, minimum_age: Duration::from_secs(120) }
    }
}

/// Why it is looked for images to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is time to.
    Time,
    /// Disk space is wanted at once: all go that may.
    Now,
}

/// What Bramble fetched, by the runtime's id: the names that it was fetched by. On disk as JSON, written when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ours(pub BTreeMap<String, BTreeSet<String>>);

impl Ours {
    /// Takes in a fetch; whether that was news. What was here before somebody else brought: it is theirs.
    pub fn fetched(&mut self, fetched: &Fetched) -> bool {
        if !fetched.new && !self.0.contains_key(&fetched.id) {
            return false;
        }
        self.0.entry(fetched.id.clone()).or_default().insert(fetched.name.clone())
    }

    /// Forgets what is not here any more; whether there was any.
    pub fn keep_only(&mut self, images: &[ImageFacts]) -> bool {
        let before = self.0.len();
        self.0.retain(|id, _| images.iter().any(|image| image.id == *id));
        self.0.len() != before
    }
}

/// All that one look sees.
#[derive(Clone, Copy, Debug)]
pub struct There<'a> {
    /// All images.
    pub images: &'a [ImageFacts],
    /// Which of them Bramble fetched.
    pub ours: &'a Ours,
    /// The names that pods want.
    pub wanted: &'a Wanted,
    /// The file system that they are on.
    pub disk: Disk,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Tick,
    used: Option<Tick>,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ids, in this order.
    pub remove: Vec<String>,
    /// Bytes that are wanted and not to be had by this.
    pub short_bytes: u64,
}

/// Remembers when images were used.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    seen: BTreeMap<String, Seen>,
}

impl Collector {
    /// Takes in what is here, and says what goes.
    pub fn look(&mut self, now: Tick, limits: Thresholds, why: Why, there: &There<'_>) -> Plan {
        let There { images, ours, wanted, disk } = *there;
        self.seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        let used = |image: &ImageFacts| {
            let names = image.tags.iter().chain(&image.digests).chain(ours.0.get(&image.id).into_iter().flatten());
            image.used || names.into_iter().any(|name| wanted.contains(name))
        };
        for image in images {
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen { first: now, used: None });
            if used(image) {
                seen.used = Some(now);
            }
        }
        let mut missing = match why {
            Why::Now => u64::MAX,
            Why::Time => wanted_bytes(limits, disk),
        };
        let mut candidates: Vec<(Option<Tick>, Tick, &ImageFacts)> = images
            .iter()
            .filter(|image| ours.0.contains_key(&image.id) && !image.sandbox && !used(image))
            .filter_map(|image| self.seen.get(&image.id).map(|seen| (seen.used, seen.first, image)))
            .filter(|(_, first, _)| now.since(*first) >= limits.minimum_age)
            .collect();
        candidates.sort_by(|a, b| (a.0, a.1, &a.2.id).cmp(&(b.0, b.1, &b.2.id)));
        let mut plan = Plan::default();
        for (_, _, image) in candidates {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(image.size_bytes.max(1));
            plan.remove.push(image.id.clone());
        }
        plan.short_bytes = if why == Why::Now { 0 } else { missing };
        plan
    }
}

/// What is to be freed: nothing up to the high mark, above it so much that the low one is reached.
fn wanted_bytes(limits: Thresholds, disk: Disk) -> u64 {
    let used = disk.total_bytes.saturating_sub(disk.available_bytes);
    let percent = |percent: u8| disk.total_bytes / 100 * u64::from(percent);
    if disk.total_bytes == 0 || used < percent(limits.high_percent) {
        0
    } else {
        used.saturating_sub(percent(limits.low_percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn image(id: &str, gigabytes: u64) -> ImageFacts {
        ImageFacts { id: id.into(), tags: vec![format!("{id}:1")], size_bytes: gigabytes * GB, ..ImageFacts::default() }
    }

    fn ours(ids: &[&str]) -> Ours {
        let mut ours = Ours::default();
        for id in ids {
            ours.fetched(&Fetched { id: (*id).to_owned(), name: format!("{id}:1"), new: true });
        }
        ours
    }

    fn disk(used_percent: u64) -> Disk {
        Disk { total_bytes: 100 * GB, available_bytes: (100 - used_percent) * GB }
    }

    fn minutes(minutes: u64) -> Tick {
        Tick(minutes * 60_000)
    }

    #[test]
    fn the_least_recently_used_of_ours_go_until_the_low_mark() {
        let limits = Thresholds::default();
        let ours = ours(&["never", "old", "new", "busy", "pod", "sandbox"]);
        let mut images: Vec<ImageFacts> =
            ["never", "old", "new", "busy", "pod", "theirs", "sandbox"].map(|id| image(id, 4)).into();
        images[6].sandbox = true;
        let wanted: Wanted = ["pod:1".to_owned()].into();
        let mut collector = Collector::default();
        // By minute: which containers there are, how full it is, what goes.
        for (minute, busy, used, gone, short) in [
            (0, &["old", "new", "busy"][..], 90, &[][..], 10),
            (1, &["new", "busy"], 90, &[], 10),
            (2, &["busy"], 84, &[], 0),
            (3, &["busy"], 85, &["never", "old"], 0),
            (4, &["busy"], 90, &["never", "old", "new"], 0),
            (5, &["busy"], 99, &["never", "old", "new"], 7),
        ] {
            for image in &mut images {
                image.used = busy.contains(&image.id.as_str());
            }
            let plan = collector.look(
                minutes(minute),
                limits,
                Why::Time,
                &There { images: &images, ours: &ours, wanted: &wanted, disk: disk(used) },
            );
            assert_eq!(
                (plan.remove, plan.short_bytes / GB),
                (gone.iter().map(|id| (*id).to_owned()).collect(), short),
                "{minute}"
            );
        }
        let all = collector.look(
            minutes(6),
            limits,
            Why::Now,
            &There { images: &images, ours: &ours, wanted: &wanted, disk: disk(10) },
        );
        assert_eq!(all.remove, ["never", "old", "new"], "under pressure all that may go, go");
    }

    #[test]
    fn a_young_image_stays_also_under_pressure() {
        let (limits, ours, mut collector) = (Thresholds::default(), ours(&["a"]), Collector::default());
        let (images, wanted) = ([image("a", 1)], Wanted::new());
        let there = There { images: &images, ours: &ours, wanted: &wanted, disk: disk(99) };
        let mut look = |at| collector.look(at, limits, Why::Now, &there).remove;
        assert_eq!((look(minutes(0)).len(), look(Tick(119_999)).len(), look(minutes(2)).len()), (0, 0, 1));
    }

    #[test]
    fn what_was_here_before_is_not_ours() {
        let mut ours = Ours::default();
        let fetch = |name: &str, new| Fetched { id: "i".into(), name: name.into(), new };
        assert!(!ours.fetched(&fetch("a", false)));
        assert!(ours.fetched(&fetch("a", true)));
        assert!(!ours.fetched(&fetch("a", false)), "known: nothing is written");
        assert!(ours.fetched(&fetch("b", false)), "another name for an image of ours");
        assert!(!ours.keep_only(&[image("i", 1)]));
        assert!(ours.keep_only(&[image("j", 1)]) && ours.0.is_empty());
    }
}
