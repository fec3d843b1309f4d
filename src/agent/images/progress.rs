//! How far a fetch is, and when that is worth telling.
//!
//! In:       Docker's lines, one a layer and step.
//! Out:      [`Progress`], and for the node whether a person should hear of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Tick;

/// Nothing is told of a fetch that is younger, nor twice within this.
const SELDOM: Duration = Duration::from_secs(10);
/// A fetch that goes on slowly is told of this often.
const SLOWLY: Duration = Duration::from_secs(60);

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes of the layers whose size is known.
    pub total_bytes: u64,
    /// Layers that are here.
    pub layers_done: usize,
    /// All layers.
    pub layers: usize,
    /// The size of each is known.
    pub sized: bool,
}

impl std::fmt::Display for Progress {
    /// `40 % of 120 MB`, or `48 MB, 2 of 5 layers` while not every layer has said its size.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.percent() {
            Some(percent) => write!(f, "{percent} % of {}", size(self.total_bytes)),
            None => write!(f, "{}, {} of {} layers", size(self.done_bytes), self.layers_done, self.layers),
        }
    }
}

impl Progress {
    fn percent(&self) -> Option<u64> {
        (self.sized && self.total_bytes > 0).then(|| self.done_bytes.saturating_mul(100) / self.total_bytes)
    }
}

/// `120 MB`, `1.5 GB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    done: u64,
    total: Option<u64>,
    here: bool,
}

/// The layers of one fetch.
#[derive(Clone, Debug, Default)]
pub struct Layers(BTreeMap<String, Layer>);

impl Layers {
    /// Takes in one of Docker's lines: which layer, what is done with it, how far that is.
    pub fn take(&mut self, id: &str, status: &str, current: Option<u64>, total: Option<u64>) {
        match status {
            "Pulling fs layer" | "Waiting" | "Retrying" => {
                self.0.entry(id.to_owned()).or_default();
            }
            "Downloading" => {
                let layer = self.0.entry(id.to_owned()).or_default();
                layer.done = current.unwrap_or(layer.done);
                layer.total = total.filter(|total| *total > 0).or(layer.total);
            }
            // It says again of how many bytes: those of the download.
            "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete" | "Already exists" => {
                let layer = self.0.entry(id.to_owned()).or_default();
                let total = layer.total.or(total).unwrap_or_default();
                (layer.total, layer.done) = (Some(total), total);
                layer.here |= matches!(status, "Pull complete" | "Already exists");
            }
            _ => {}
        }
    }

    /// All layers together.
    #[must_use]
    pub fn sum(&self) -> Progress {
        let layers = self.0.values();
        Progress {
            done_bytes: layers.clone().map(|layer| layer.done).sum(),
            total_bytes: layers.clone().filter_map(|layer| layer.total).sum(),
            layers_done: layers.clone().filter(|layer| layer.here).count(),
            layers: self.0.len(),
            sized: layers.clone().all(|layer| layer.total.is_some()),
        }
    }
}

/// What was told of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    at: Tick,
    quarter: u64,
    done_bytes: u64,
}

impl Told {
    /// A fetch begins; that is told by itself.
    #[must_use]
    pub fn begins(now: Tick) -> Self {
        Self { at: now, quarter: 0, done_bytes: 0 }
    }

    /// Whether this is worth telling: another quarter is here, or a minute has gone and something came.
    pub fn worth(&mut self, now: Tick, progress: &Progress) -> bool {
        let since = now.since(self.at);
        let quarter = progress.percent().unwrap_or_default() / 25;
        let further = progress.done_bytes > self.done_bytes;
        if !further || since < SELDOM || (quarter <= self.quarter && since < SLOWLY) {
            return false;
        }
        *self = Self { at: now, quarter: quarter.max(self.quarter), done_bytes: progress.done_bytes };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_docker_become_one_figure() {
        let mut layers = Layers::default();
        for id in ["a", "b", "c"] {
            layers.take(id, "Pulling fs layer", None, None);
        }
        layers.take("latest", "Pulling from library/x", None, None);
        layers.take("a", "Downloading", Some(20_000_000), Some(80_000_000));
        assert_eq!(layers.sum().to_string(), "20 MB, 0 of 3 layers");
        layers.take("b", "Already exists", None, None);
        layers.take("c", "Downloading", Some(28_000_000), Some(40_000_000));
        assert_eq!(layers.sum().to_string(), "40 % of 120 MB");
        layers.take("a", "Download complete", None, None);
        layers.take("a", "Extracting", Some(1), Some(80_000_000));
        layers.take("a", "Pull complete", None, None);
        assert_eq!(layers.sum().to_string(), "90 % of 120 MB");
        assert_eq!(layers.sum().layers_done, 2);
        assert_eq!(
            [999, 1_999, 25_000_000, 1_560_000_000].map(size),
            ["999 bytes", "1 kB", "25 MB", "1.5 GB"].map(str::to_owned)
        );
    }

    #[test]
    fn a_fetch_is_told_of_seldom() {
        let told = |seconds_a_percent: u64| {
            let mut told = Told::begins(Tick(0));
            let progress = |percent| Progress { done_bytes: percent, total_bytes: 100, sized: true, layers: 1, layers_done: 0 };
            (1..=100u64)
                .filter(|percent| told.worth(Tick(percent * seconds_a_percent * 1000), &progress(*percent)))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(1), [25, 50, 75, 100]);
        assert_eq!(told(6).len(), 12, "ten minutes");
        let mut quick = Told::begins(Tick(0));
        let half = Progress { done_bytes: 50, total_bytes: 100, sized: true, ..Progress::default() };
        assert!(!quick.worth(Tick(3000), &half));
        assert!(quick.worth(Tick(10_000), &half));
        assert!(!quick.worth(Tick(900_000), &half), "nothing came since");
    }
}
