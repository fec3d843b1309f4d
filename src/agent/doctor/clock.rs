//! Whether the clock is set: a Pi has no battery behind it, and starts where it stopped.

use super::{Act, Finding, Host, State, unit};

/// This check's name.
pub const ID: &str = "clock";
const TIMESYNCD: &str = "systemd-timesyncd.service";
/// What sets a clock from the network on Debian and its kin.
const SERVICES: &[&str] =
    &[TIMESYNCD, "chrony.service", "chronyd.service", "ntpsec.service", "ntp.service", "ntpd.service", "openntpd.service"];
const WHY: &str =
    "certificates of others look as if they were not valid yet, and times in logs and events are wrong after each boot";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    if !host.exists("/etc") {
        return Finding::absent(ID, "no root file system to judge by");
    }
    let battery = battery(host);
    // A clock with a battery bridges a time without network; without one nothing does.
    let wrong = if battery == Battery::Clock { State::Warning } else { State::Problem };
    let service = SERVICES.iter().find(|service| unit::enabled(host, service));
    if synchronised(host) == Some(true) {
        return match service {
            Some(service) => Finding::ok(ID, format!("set from the network by {service}")),
            None => Finding::ok(ID, "set from the network"),
        };
    }
    if let Some(service) = service {
        let seen = synchronised(host) == Some(false) && host.exists("/run/systemd/system");
        return match seen {
            false => Finding::ok(ID, format!("{service} sets it from the network")),
            true => Finding::new(ID, wrong, format!("{service} runs, and no time has come yet")).because(WHY).todo(format!(
                "is the network up, and may it ask for the time (UDP port 123)? see `timedatectl timesync-status`{}",
                hint(host, battery)
            )),
        };
    }
    let what = match battery {
        Battery::None => "nothing sets it, and this board has no battery clock",
        Battery::Clock | Battery::Unseen => "nothing sets it from the network",
    };
    let found = Finding::new(ID, wrong, what).because(WHY);
    if unit::installed(host, TIMESYNCD) && installed_program(host) {
        let acts = vec![Act::Enable(TIMESYNCD)];
        return found.mended_by(host, format!("enables {TIMESYNCD}{}", hint(host, battery)), acts);
    }
    if let Some(mask) = unit::mask(host, TIMESYNCD) {
        return found.todo(format!("{}: {}", mask.seen(host), mask.lifted(host)));
    }
    let place = if host.runs() { "" } else { "on the machine itself: " };
    found.todo(format!("{place}sudo apt-get install -y systemd-timesyncd{}", hint(host, battery)))
}

/// Whether a clock goes on while the board has no power.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Battery {
    Clock,
    None,
    /// A card says nothing of the board that it comes from.
    Unseen,
}

fn battery(host: &dyn Host) -> Battery {
    match host.list("/sys/class/rtc").iter().any(|name| name.starts_with("rtc")) {
        _ if !host.runs() => Battery::Unseen,
        true => Battery::Clock,
        false => Battery::None,
    }
}

fn installed_program(host: &dyn Host) -> bool {
    ["/usr/lib/systemd/systemd-timesyncd", "/lib/systemd/systemd-timesyncd"].iter().any(|path| host.exists(path))
}

/// What the clock starts with at boot, where nothing keeps it running: either keeps the time of the last shutdown.
fn hint(host: &dyn Host, battery: Battery) -> &'static str {
    let kept = ["/etc/fake-hwclock.data", "/usr/sbin/fake-hwclock", "/sbin/fake-hwclock", "/var/lib/systemd/timesync/clock"];
    match battery {
        Battery::Clock => "",
        _ if kept.iter().any(|path| host.exists(path)) => "",
        Battery::None => "; `fake-hwclock` lets it start at the time of the last shutdown",
        Battery::Unseen => "; on a board without battery clock `fake-hwclock` lets it start at the time of the last shutdown",
    }
}

/// Whether the kernel's clock is synchronised; `None`: not known.
fn synchronised(host: &dyn Host) -> Option<bool> {
    if !host.runs() {
        return None;
    }
    // Touched by timesyncd at each answer: systemd-timesyncd.service(8).
    if host.exists("/run/systemd/timesync/synchronized") {
        return Some(true);
    }
    match host.ask("timedatectl", &["show", "--property=NTPSynchronized", "--value"])?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
