//! Hands: what the kernel says in files about the pods' bridge, and the one thing that is set there.
//!
//! Never:    touches an interface that is no port of the pods' bridge.

use std::fs;
use std::path::Path;

use crate::agent::family::Family;

/// Whether packets that stay on a bridge pass the rules.
#[must_use]
pub fn bridge_filter(family: Family) -> bool {
    fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{}tables", family.word()))
        .is_ok_and(|text| text.trim() == "1")
}

/// Lets every port of the bridge send back what came in by it: so a pod reaches itself through its service, when packets on the bridge
/// pass the rules. Says for how many ports that was new.
#[must_use]
pub fn let_pods_reach_themselves(bridge: &str) -> usize {
    // A name is never a path.
    if bridge.is_empty() || bridge.contains(['/', '.']) {
        return 0;
    }
    let ports = Path::new("/sys/class/net").join(bridge).join("brif");
    let ports = fs::read_dir(ports).into_iter().flatten().flatten();
    let closed = ports
        .map(|port| port.path().join("hairpin_mode"))
        .filter(|file| fs::read_to_string(file).is_ok_and(|mode| mode.trim() == "0"));
    // Where /sys is read only, as in a container, a pod does not reach itself; all else goes.
    closed.filter(|file| fs::write(file, "1").is_ok()).count()
}
