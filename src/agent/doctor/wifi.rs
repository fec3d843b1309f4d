//! Whether the Wi-Fi chip dozes between packets: then a node answers late, or looks as if it were gone.
//!
//! Source: NetworkManager's `wifi.powersave` (2: off, 3: on); `iw dev NAME get power_save`. Raspberry Pi's driver (brcmfmac) has it on
//! unless it is told otherwise, and keeps what it is told before the link comes up.

use super::{Act, Finding, Host, State, is_pi, network_manager, undo_of_file};
use crate::terminal;

/// This check's name.
pub const ID: &str = "wifi-power-save";
const WHY: &str =
    "packets wait until the chip wakes: hundreds of milliseconds at each answer, and a node that looks lost now and then";
/// Behind Debian's own `default-wifi-powersave-on.conf`.
const CONF: &str = "/etc/NetworkManager/conf.d/zz-bramble-wifi.conf";
const CONF_CONTENT: &str =
    "# Written by `bramble doctor --fix wifi-power-save`: the Wi-Fi chip stays awake.\n[connection]\nwifi.powersave = 2\n";
const RULE: &str = "/etc/udev/rules.d/70-bramble-wifi.rules";
const IW: &[&str] = &["/usr/sbin/iw", "/sbin/iw", "/usr/bin/iw"];

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let wireless =
        |name: &String| ["wireless", "phy80211"].iter().any(|what| host.exists(&format!("/sys/class/net/{name}/{what}")));
    let links: Vec<String> = host.list("/sys/class/net").into_iter().filter(wireless).collect();
    if links.is_empty() {
        let what = if host.runs() { "no Wi-Fi link here" } else { "which network links there are is seen only where it runs" };
        return Finding::absent(ID, what);
    }
    let told = links.iter().filter_map(|link| Some((link, host.ask("iw", &["dev", link, "get", "power_save"])?)));
    let (on, off): (Vec<_>, Vec<_>) = told.partition(|(_, words)| words.to_lowercase().contains("power save: on"));
    let (manager, iw) = (network_manager::installed(host), IW.iter().find(|path| host.exists(path)));
    let configured_off = match manager {
        true => network_manager::connection_default(host, "wifi.powersave").as_deref() == Some("2"),
        false => host.exists(RULE),
    };
    let undo = || match (host.exists(CONF), host.exists(RULE)) {
        (true, _) => undo_of_file(host, CONF).or_else(|| Some(format!("sudo rm {}", terminal::quoted(&host.shown(CONF))))),
        (_, true) => Some(format!("sudo rm {}", terminal::quoted(&host.shown(RULE)))),
        _ => None,
    };
    if on.is_empty() && (configured_off || !off.is_empty()) {
        let seen = if off.is_empty() { "the configuration keeps the Wi-Fi chip awake" } else { "the Wi-Fi chip stays awake" };
        return Finding::ok(ID, seen).undoable(undo());
    }
    if on.is_empty() && !is_pi(host) {
        return Finding::unseen(ID, "whether the Wi-Fi chip dozes: the program `iw` is not here");
    }
    let what = match on.first() {
        Some((link, _)) => format!("{link} saves power between packets"),
        None => format!("nothing keeps {} from saving power between packets", links.join(" and ")),
    };
    let found = Finding::new(ID, State::Warning, what).because(WHY);
    let now = on.iter().map(|(link, _)| Act::Now {
        program: "iw",
        arguments: ["dev", link, "set", "power_save", "off"].map(str::to_owned).into(),
    });
    let file = match (manager, iw) {
        _ if configured_off => None,
        (true, _) => Some((CONF, CONF_CONTENT.to_owned())),
        (false, Some(iw)) => Some((RULE, rule(iw))),
        (false, None) => return found.todo("sudo apt-get install -y iw, then: sudo bramble doctor --fix wifi-power-save"),
    };
    let does = match &file {
        Some((path, _)) if on.is_empty() => format!("writes {}", host.shown(path)),
        Some((path, _)) => format!("writes {} and switches it off now", host.shown(path)),
        None => "switches it off now; the configuration does already from the next start of the link".to_owned(),
    };
    let write = file.map(|(path, content)| Act::Write { path: path.to_owned(), content });
    let then = match host.runs() {
        true if !on.is_empty() => "",
        true if manager => "sudo nmcli general reload, and reconnect",
        _ => "sudo reboot",
    };
    found.mended_by(host, does, write.into_iter().chain(now).collect()).then(then)
}

fn rule(iw: &str) -> String {
    format!(
        "# Written by `bramble doctor --fix wifi-power-save`: the Wi-Fi chip stays awake.\n\
         ACTION==\"add\", SUBSYSTEM==\"net\", ENV{{DEVTYPE}}==\"wlan\", RUN+=\"{iw} dev $name set power_save off\"\n"
    )
}
