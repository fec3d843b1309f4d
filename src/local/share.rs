//! What each node on one Docker may say that it has: an equal share of this machine.

use super::state::{Cluster, Node, Runtime};

/// What is left to the system, the master and Docker itself.
const RESERVED_MIB: u64 = 512;

/// This machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Cores.
    pub cores: usize,
    /// RAM.
    pub memory_mib: u64,
}

impl Machine {
    /// What this machine has; one core and no memory where it does not tell.
    #[must_use]
    pub fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self { cores, memory_mib: total_mib(&meminfo).unwrap_or(0) }
    }
}

fn total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// The capacity that `node`'s configuration names: what it was given, else its share; `None` where the board tells.
#[must_use]
pub fn capacity(cluster: &Cluster, node: &Node, machine: Machine) -> (Option<f64>, Option<u64>) {
    if cluster.runtime == Runtime::Simulated {
        return (node.cpus, node.memory_mib);
    }
    let nodes = cluster.nodes.len().max(1);
    // Whole thousandths, rounded down: that is what a cpu quantity can say.
    let milli = machine.cores * 1000 / nodes;
    let memory = machine.memory_mib.saturating_sub(RESERVED_MIB) / nodes as u64;
    let cpus = node.cpus.or_else(|| u32::try_from(milli.max(1)).ok().map(|milli| f64::from(milli) / 1000.0));
    // A machine that does not tell, or has too little: at least something a small pod fits in.
    (cpus, node.memory_mib.or(Some(memory.max(64))))
}

#[cfg(test)]
mod tests {
    use super::super::state::Ports;
    use super::*;

    #[test]
    fn nodes_on_one_docker_share_the_machine_equally() {
        let machine = Machine { cores: 4, memory_mib: 8192 };
        let mut cluster = Cluster::new("u".into(), String::new(), Runtime::Docker, None, Ports { api: 1, mqtts: 2, mqtt: 3 });
        cluster.grow(1, None, None);
        assert_eq!(capacity(&cluster, &cluster.nodes[0], machine), (Some(4.0), Some(7680)));
        cluster.grow(3, None, Some(256));
        assert_eq!(capacity(&cluster, &cluster.nodes[0], machine), (Some(1.333), Some(2560)));
        assert_eq!(capacity(&cluster, &cluster.nodes[2], machine), (Some(1.333), Some(256)));
        let small = Machine { cores: 1, memory_mib: 400 };
        assert_eq!(capacity(&cluster, &cluster.nodes[0], small), (Some(0.333), Some(64)));
        cluster.runtime = Runtime::Simulated;
        assert_eq!(capacity(&cluster, &cluster.nodes[0], machine), (None, None), "the board file tells");
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(total_mib("MemTotal:        8048576 kB\nMemFree: 1 kB\n"), Some(7859));
        assert_eq!(total_mib("nothing"), None);
    }
}
