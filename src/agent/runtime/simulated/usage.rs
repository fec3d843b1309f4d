//! What simulated containers use: about what they ask for, each its own share of it, so that tables look alive. Pure.

use super::{ObservedContainer, RunState, Simulated};
use crate::agent::runtime::Limits;
use crate::agent::stats::{ContainerUsage, NodeUsage, Usage};
use crate::clock::Now;

/// What a container uses that asks for nothing: a small web server at rest.
const PLAIN: (u64, u64) = (5, 12 << 20);
/// What the system of a node uses besides.
const SYSTEM: (u64, u64) = (60, 180 << 20);

impl Simulated {
    /// What each container that runs has used since it started, and holds.
    #[must_use]
    pub fn usage(&self, now: Now) -> Usage {
        let mut containers = Vec::new();
        for known in self.pods.values() {
            for run in &known.observed.containers {
                let RunState::Running { started } = run.state else { continue };
                let limits = known.wants.get(&run.name).copied().unwrap_or_default();
                let (milli, memory_bytes) = uses(run, limits);
                let age = u64::try_from(now.wall.0.saturating_sub(started.0)).unwrap_or_default();
                containers.push(ContainerUsage {
                    pod: known.observed.pod.clone(),
                    container: run.name.clone(),
                    id: run.id.clone(),
                    // Thousandths of a core for so many milliseconds: a thousandth of a millisecond each.
                    cpu_nanoseconds: milli.saturating_mul(age).saturating_mul(1000),
                    memory_bytes,
                    tasks: 1,
                });
            }
        }
        let system = SYSTEM.0.saturating_mul(now.tick.0).saturating_mul(1000);
        let node = NodeUsage {
            cpu_nanoseconds: containers.iter().fold(system, |sum, usage| sum.saturating_add(usage.cpu_nanoseconds)),
            memory_bytes: containers.iter().fold(SYSTEM.1, |sum, usage| sum.saturating_add(usage.memory_bytes)),
        };
        Usage { node: Some(node), containers }
    }
}

/// Thousandths of a core and bytes: between half and all of what it asks for, always the same for the same container.
fn uses(run: &ObservedContainer, limits: Limits) -> (u64, u64) {
    let part = 50 + run.id.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))) % 50;
    let of = |asked: Option<u64>, plain: u64| (asked.filter(|asked| *asked > 0).unwrap_or(plain) / 100).max(1) * part;
    let milli = limits.cpu_request_milli.filter(|asked| *asked > 0).unwrap_or(PLAIN.0) * part / 100;
    (milli, of(limits.memory_request_bytes, PLAIN.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_uses_about_what_it_asks_for() {
        let limits = Limits { cpu_request_milli: Some(200), memory_request_bytes: Some(64 << 20), ..Limits::default() };
        for id in ["a", "b", "c"] {
            let run = ObservedContainer { id: id.into(), ..ObservedContainer::default() };
            let (milli, bytes) = uses(&run, limits);
            assert!((100..=200).contains(&milli) && (32 << 20..=64 << 20).contains(&bytes), "{milli} {bytes}");
            let (milli, bytes) = uses(&run, Limits::default());
            assert!((2..=5).contains(&milli) && (6 << 20..=12 << 20).contains(&bytes), "{milli} {bytes}");
        }
    }
}
