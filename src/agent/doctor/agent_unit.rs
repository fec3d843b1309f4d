//! Whether the agent comes back after a boot.

use super::{Finding, Host, State, is_pi, unit};

/// This check's name.
pub const ID: &str = "agent-unit";
/// The agent's unit, as it is shipped in `systemd/`.
pub(super) const UNIT: &str = "bramble-agent.service";
const WHY: &str = "after a power cut nobody starts this node's agent, and its pods stay away";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    if unit::enabled(host, UNIT) {
        return Finding::ok(ID, format!("{UNIT} starts at boot"));
    }
    let found = |what: &str| Finding::new(ID, State::Warning, what).because(WHY);
    let enable = super::systemctl(host, "enable", UNIT);
    if let Some(mask) = unit::mask(host, UNIT) {
        return found(&format!("the agent's unit is masked: {}", mask.seen(host)))
            .todo(format!("if that is not meant: {}", mask.lifted(host)));
    }
    if unit::installed(host, UNIT) {
        return found("the agent's unit is there and is not enabled").todo(enable);
    }
    // Of a card its boot partition alone says nothing of units.
    match is_pi(host) && host.exists("/etc") {
        true => found("the agent is not installed as a service")
            .todo(format!("copy systemd/{UNIT} to {}, then: {enable}", host.shown("/etc/systemd/system"))),
        false => Finding::absent(ID, "the agent is not installed as a service here"),
    }
}
