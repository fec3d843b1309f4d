//! Two looks at what has been used → what is used. Pure.
//!
//! In:       [`Look`]s.
//! Out:      [`NodeStats`], and whether a kept look still serves.
//! Never:    looks (`run.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ContainerUsage, NodeUsage};
use crate::api::Uid;
use crate::api::time::rfc3339;
use crate::clock::Now;
use crate::link::stats::{ContainerStats, NodeStats, PodStats};

/// A rate over less than this is mostly chance.
pub const LEAST_WINDOW: Duration = Duration::from_millis(500);
/// A rate over more than this says little about now: metrics-server looks every 15 s, `kubectl top` by hand comes in minutes.
const MOST_WINDOW: Duration = Duration::from_secs(60);

/// What was seen at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// When.
    pub at: Now,
    /// The machine.
    pub node: NodeUsage,
    /// Each container that ran.
    pub containers: Vec<ContainerUsage>,
}

impl Look {
    /// Whether this look serves as the earlier one of two now.
    #[must_use]
    pub fn serves(&self, now: Now) -> bool {
        let age = now.tick.since(self.at.tick);
        age >= LEAST_WINDOW && age <= MOST_WINDOW
    }
}

/// What was used between two looks, and is held at the second.
#[must_use]
pub fn between(before: &Look, after: &Look) -> NodeStats {
    let window = after.at.tick.since(before.at.tick);
    // Thousand-millionths of a core: nanoseconds a second.
    let rate = |from: u64, to: u64| {
        let used = u128::from(to.saturating_sub(from));
        u64::try_from(used * 1_000_000_000 / window.as_nanos().max(1)).unwrap_or(u64::MAX)
    };
    let earlier: BTreeMap<&str, u64> = before.containers.iter().map(|usage| (usage.id.as_str(), usage.cpu_nanoseconds)).collect();
    let mut pods: BTreeMap<&Uid, PodStats> = BTreeMap::new();
    for usage in &after.containers {
        let pod = pods.entry(&usage.pod.uid).or_insert_with(|| PodStats {
            uid: usage.pod.uid.clone(),
            namespace: usage.pod.namespace.clone(),
            name: usage.pod.name.clone(),
            containers: Vec::new(),
        });
        // One that was not there before has used what it has used since.
        let from = earlier.get(usage.id.as_str()).copied().unwrap_or_default();
        pod.containers.push(ContainerStats {
            name: usage.container.clone(),
            cpu_nanocores: rate(from, usage.cpu_nanoseconds),
            memory_bytes: usage.memory_bytes,
        });
    }
    for pod in pods.values_mut() {
        pod.containers.sort_by(|a, b| a.name.cmp(&b.name));
    }
    NodeStats {
        time: rfc3339(after.at.wall),
        window_milliseconds: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        cpu_nanocores: rate(before.node.cpu_nanoseconds, after.node.cpu_nanoseconds),
        memory_bytes: after.node.memory_bytes,
        pods: pods.into_values().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runtime::PodRef;
    use crate::clock::{Tick, Wall};

    fn usage(pod: &str, container: &str, id: &str, cpu: u64) -> ContainerUsage {
        ContainerUsage {
            pod: PodRef { uid: pod.into(), namespace: "default".into(), name: pod.into() },
            container: container.into(),
            id: id.into(),
            cpu_nanoseconds: cpu,
            memory_bytes: 7,
            tasks: 1,
        }
    }

    fn look(tick: u64, cpu: u64, containers: Vec<ContainerUsage>) -> Look {
        let at = Now { tick: Tick(tick), wall: Wall(0) };
        Look { at, node: NodeUsage { cpu_nanoseconds: cpu, memory_bytes: 99 }, containers }
    }

    #[test]
    fn a_rate_is_what_was_used_between_by_the_same_container() {
        let before = look(1000, 0, vec![usage("a", "x", "1", 1_000_000_000), usage("a", "y", "2", 500), usage("b", "z", "3", 0)]);
        let after = look(
            3000,
            3_000_000_000,
            vec![usage("a", "y", "22", 4_000_000), usage("a", "x", "1", 2_000_000_000), usage("c", "new", "4", 0)],
        );
        let stats = between(&before, &after);
        assert_eq!((stats.window_milliseconds, stats.cpu_nanocores, stats.memory_bytes), (2000, 1_500_000_000, 99));
        let told: Vec<_> = stats
            .pods
            .iter()
            .flat_map(|pod| pod.containers.iter().map(|c| (pod.name.as_str(), c.name.as_str(), c.cpu_nanocores)))
            .collect();
        assert_eq!(told, [("a", "x", 500_000_000), ("a", "y", 2_000_000), ("c", "new", 0)]);
    }

    #[test]
    fn a_look_serves_between_half_a_second_and_a_minute() {
        let kept = look(1000, 0, Vec::new());
        let serves = |tick| kept.serves(Now { tick: Tick(tick), wall: Wall(0) });
        assert_eq!([1000, 1499, 1500, 61_000, 61_001].map(serves), [false, false, true, true, false]);
    }
}
