//! The node's pods that have an address of their own, for who makes rules about addresses before the master knows them.

use crate::agent::policy::LocalPod;
use crate::agent::policy::rules::LocalPods;
use crate::agent::runtime::RunState;

use super::Node;

impl Node {
    /// The pods whose sandbox runs and has an address: from before their first container is made until the sandbox is seen to be gone.
    #[must_use]
    pub fn local_pods(&self) -> LocalPods {
        let pods = self.pods.values().filter_map(|pod| {
            let sandbox = pod.observed.sandboxes.last().filter(|sandbox| matches!(sandbox.state, RunState::Running { .. }))?;
            Some((sandbox.ip.as_ref()?.parse().ok()?, LocalPod::of(pod.raw.as_ref()?)))
        });
        pods.collect()
    }
}
