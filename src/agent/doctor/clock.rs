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
    let has_rtc = host.list("/sys/class/rtc").iter().any(|name| name.starts_with("rtc"));
    // A clock with a battery bridges a time without network; without one nothing does.
    let wrong = if has_rtc { State::Warning } else { State::Problem };
    let service = SERVICES.iter().find(|service| unit::enabled(host, service));
    if synchronised(host) == Some(true) {
        return match service {
            _ if !host.runs() => Finding::ok(ID, "set from the network"),
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
                hint(host, has_rtc)
            )),
        };
    }
    let found = Finding::new(
        ID,
        wrong,
        if has_rtc { "nothing sets it from the network" } else { "nothing sets it, and this board has no battery clock" },
    )
    .because(WHY);
    if unit::installed(host, TIMESYNCD) && installed_program(host) {
        let acts = vec![Act::Enable(TIMESYNCD)];
        return found.mended_by(host, format!("enables {TIMESYNCD}{}", hint(host, has_rtc)), acts);
    }
    if unit::masked(host, TIMESYNCD) {
        return found.todo("somebody has masked it: sudo systemctl unmask systemd-timesyncd && sudo timedatectl set-ntp true");
    }
    found.todo(format!("sudo apt-get install -y systemd-timesyncd{}", hint(host, has_rtc)))
}

fn installed_program(host: &dyn Host) -> bool {
    ["/usr/lib/systemd/systemd-timesyncd", "/lib/systemd/systemd-timesyncd"].iter().any(|path| host.exists(path))
}

/// What the clock starts with at boot, where nothing keeps it running: either keeps the time of the last shutdown.
fn hint(host: &dyn Host, has_rtc: bool) -> &'static str {
    let kept = ["/etc/fake-hwclock.data", "/usr/sbin/fake-hwclock", "/sbin/fake-hwclock", "/var/lib/systemd/timesync/clock"];
    if has_rtc || kept.iter().any(|path| host.exists(path)) {
        ""
    } else {
        "; `fake-hwclock` lets it start at the time of the last shutdown"
    }
}

/// Whether the kernel's clock is synchronised; `None`: not known.
fn synchronised(host: &dyn Host) -> Option<bool> {
    // Touched by timesyncd at each answer: systemd-timesyncd.service(8).
    if host.exists("/run/systemd/timesync/synchronized") {
        return Some(true);
    }
    if !host.runs() {
        return host.exists("/run/systemd/timesync").then_some(false);
    }
    match host.ask("timedatectl", &["show", "--property=NTPSynchronized", "--value"])?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
