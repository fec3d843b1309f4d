//! A pod's address: the last one that was seen, and whether its sandbox has lost it.
//!
//! In:       its newest sandbox, each time the pod is looked at, and whether this engine tells addresses at all.
//! Out:      [`Address::has_lost`]; the address that an ended pod still tells.
//! Never:    makes the new sandbox (`pods/plan.rs`).
//! Source:   the kubelet's PodSandboxChanged: "No ready sandbox for pod can be found" also when a pod that is not on the host's
//!           network has a sandbox without an address. We differ in that one look is not enough: a look may be caught between the
//!           start of a sandbox and its address.

use std::time::Duration;

use crate::agent::runtime::ObservedSandbox;
use crate::clock::Tick;

/// Without an address for so long, in two looks, it has none.
const CERTAIN: Duration = Duration::from_secs(1);

/// What is remembered of a pod's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The last that were seen, the one of IPv4 first; none: none was.
    pub last: Vec<String>,
    /// The sandbox that runs without an address, since when, and whether that is certain.
    without: Option<(String, Tick, bool)>,
}

impl Address {
    /// Takes in a look at the pod's newest sandbox. Where no address was ever told, its lack says nothing; that a sandbox is on no
    /// network does.
    pub fn see(&mut self, sandbox: Option<&ObservedSandbox>, told: bool, now: Tick) {
        let running = sandbox.filter(|sandbox| sandbox.state.is_running());
        if let Some(sandbox) = running.filter(|sandbox| sandbox.ip.is_some()) {
            self.last = sandbox.addresses();
        }
        self.without = running.filter(|sandbox| sandbox.ip.is_none() && (told || sandbox.off_network)).map(|sandbox| match self
            .without
            .take()
        {
            Some((id, since, sure)) if id == sandbox.id => (id, since, sure || now.since(since) >= CERTAIN),
            _ => (sandbox.id.clone(), now, false),
        });
        // Nobody reaches the pod there any more.
        if self.without.as_ref().is_some_and(|(_, _, sure)| *sure) {
            self.last.clear();
        }
    }

    /// Whether this sandbox runs and is certain to have no address. On the host's network it never has one.
    #[must_use]
    pub fn has_lost(&self, sandbox: &ObservedSandbox, host_network: bool) -> bool {
        !host_network && self.without.as_ref().is_some_and(|(id, _, sure)| *sure && *id == sandbox.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runtime::RunState;
    use crate::clock::Wall;

    fn sandbox(id: &str, ip: Option<&str>, state: RunState) -> ObservedSandbox {
        ObservedSandbox { id: id.into(), ip: ip.map(str::to_owned), state, ..ObservedSandbox::default() }
    }

    #[test]
    fn only_a_second_look_at_the_same_running_sandbox_makes_it_certain() {
        let runs = || RunState::Running { started: Wall(0) };
        let (with, without) = (sandbox("a", Some("10.0.0.2"), runs()), sandbox("a", None, runs()));
        let made = sandbox("a", None, RunState::Created);
        for (what, looks, lost) in [
            ("one look", vec![(&with, 0), (&without, 5_000)], false),
            ("two looks", vec![(&with, 0), (&without, 5_000), (&without, 7_000)], true),
            ("two looks at one moment", vec![(&without, 5_000), (&without, 5_100)], false),
            ("the address came", vec![(&without, 5_000), (&with, 6_000), (&without, 9_000)], false),
            ("before its start it has none", vec![(&made, 0), (&made, 9_000), (&without, 9_500)], false),
            ("another one", vec![(&without, 0), (&sandbox("b", None, runs()), 9_000)], false),
        ] {
            let mut address = Address::default();
            for (look, at) in looks {
                address.see(Some(look), true, Tick(at));
            }
            assert_eq!(address.has_lost(&without, false), lost, "{what}");
            assert!(!address.has_lost(&without, true), "{what}, on the host's network");
        }
    }

    #[test]
    fn where_no_address_was_ever_told_only_one_that_is_on_no_network_is_lost() {
        let without = sandbox("a", None, RunState::Running { started: Wall(0) });
        for off_network in [false, true] {
            let without = ObservedSandbox { off_network, ..without.clone() };
            let mut address = Address::default();
            for at in [0, 1200] {
                address.see(Some(&without), false, Tick(at));
            }
            assert_eq!(address.has_lost(&without, false), off_network);
        }
    }

    #[test]
    fn the_last_address_outlives_its_sandbox() {
        let mut address = Address::default();
        let runs = sandbox("a", Some("10.0.0.2"), RunState::Running { started: Wall(0) });
        let runs = ObservedSandbox { ip6: Some("fd00::2".into()), ..runs };
        address.see(Some(&runs), true, Tick(0));
        address.see(None, true, Tick(10));
        assert_eq!(address.last, ["10.0.0.2", "fd00::2"]);
    }
}
