//! Whether the agent may use the GPIO pins: LEDs that a HAT or a board file names hang there.

use super::{Finding, Host, State, is_pi, unit};
use crate::terminal;

/// This check's name.
pub const ID: &str = "gpio";
const GROUP: &str = "gpio";
const WHY: &str = "LEDs on pins stay dark; pods are not touched by it";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let devices = host.list("/dev");
    let is = |prefix: &str| devices.iter().any(|name| name.starts_with(prefix));
    if !is_pi(host) || !host.exists("/proc/device-tree/model") {
        return Finding::absent(ID, "not a Raspberry Pi that runs");
    }
    let found = |what: String| Finding::new(ID, State::Warning, what).because(WHY);
    if !is("gpiomem") && !is("gpiochip") {
        return found("there is neither /dev/gpiomem nor /dev/gpiochip0".to_owned())
            .todo("use the kernel of Raspberry Pi OS, or load the driver of the pins (pinctrl-bcm2835, pinctrl-rp1)");
    }
    let users = unit::values(host, super::agent_unit::UNIT, "User");
    let user = match users.last().map(String::as_str) {
        None | Some("root" | "0") => return Finding::ok(ID, "the agent may use the GPIO pins"),
        Some(user) => user,
    };
    let groups = unit::values(host, super::agent_unit::UNIT, "SupplementaryGroups").join(" ");
    let given = groups.split_ascii_whitespace().any(|group| group == GROUP);
    // `gpio:x:986:pi,bramble`
    let member = host.read("/etc/group").text().is_some_and(|text| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("gpio:"));
        lines.any(|line| line.rsplit(':').next().is_some_and(|names| names.split(',').any(|name| name.trim() == user)))
    });
    match given || member {
        true => Finding::ok(ID, format!("the agent's user {user:?} is in the group {GROUP}")),
        false => found(format!("the agent's user {user:?} is not in the group {GROUP}")).todo(format!(
            "sudo usermod -aG {GROUP} {} && sudo systemctl restart {}",
            terminal::quoted(user),
            super::agent_unit::UNIT
        )),
    }
}
