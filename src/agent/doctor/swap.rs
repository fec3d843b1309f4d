//! Whether memory is swapped to an SD card: nothing wears one out faster, and nothing is slower.
//!
//! Made by `dphys-swapfile` (Raspberry Pi OS up to Bookworm), by `rpi-swap` (Trixie; its default is compressed memory, which is fine),
//! or by `/etc/fstab`. Source: proc(5) for `/proc/swaps`; rpi-swap's `swap.conf(5)` for `Mechanism=`.

use super::medium::{disk_of, is_card, on_card, unescaped};
use super::{Act, Finding, Host, State, settings, undo_of_file, unit};
use crate::terminal;

/// This check's name.
pub const ID: &str = "swap";
const WHY: &str = "swapping wears the card out and stalls every pod while it waits for it";
const DPHYS: &str = "dphys-swapfile.service";
/// What switches rpi-swap to memory alone; the last name wins.
const RPI_SWAP: &str = "/etc/rpi/swap.conf.d/zz-bramble.conf";
const RPI_SWAP_CONTENT: &str =
    "# Written by `bramble doctor --fix swap`: swap in compressed memory alone, nothing on the card.\n[Main]\nMechanism=zram\n";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let active = on_the_card(host);
    let listed = active.join(" and ");
    let found = |what: String| Finding::new(ID, State::Warning, what).because(WHY);
    let swaps = || found(format!("memory is swapped to {listed}, which is on the card"));

    if unit::enabled(host, DPHYS) && on_card(host, &dphys_file(host)) {
        let found = match active.is_empty() {
            true => found("dphys-swapfile puts swap on the card at each boot".to_owned()),
            false => swaps(),
        };
        let off = Act::Now { program: "dphys-swapfile", arguments: vec!["swapoff".to_owned()] };
        // The unit first: reading swap back may take long or fail, and what comes at the next boot does not hang on it.
        let acts = [Act::Disable(DPHYS)].into_iter().chain((!active.is_empty()).then_some(off)).collect();
        return found.mended_by(host, "switches dphys-swapfile off, now and at each boot", acts);
    }
    let rpi_swap = rpi_swap(host);
    if let Some(mechanism) = rpi_swap.as_deref() {
        // What it was told already counts at the next boot only.
        let wanted = mechanism == "swapfile" || (mechanism != "zram" && mechanism != "none" && !active.is_empty());
        if wanted && on_card(host, "/var/swap") {
            let found = match active.is_empty() {
                true => found("rpi-swap puts swap on the card at each boot".to_owned()),
                false => swaps(),
            };
            let acts = vec![Act::Write { path: RPI_SWAP.to_owned(), content: RPI_SWAP_CONTENT.to_owned() }];
            let does = format!("tells rpi-swap in {} to swap to compressed memory alone", host.shown(RPI_SWAP));
            return found.mended_by(host, does, acts).then(if active.is_empty() { "" } else { "sudo reboot" });
        }
    }
    if !active.is_empty() {
        let fstab = host
            .read("/etc/fstab")
            .text()
            .is_some_and(|text| settings(&text).any(|line| line.split_ascii_whitespace().nth(2) == Some("swap")));
        let permanent =
            if fstab { ", and take its line out of /etc/fstab" } else { "; at the next boot nothing known switches it on again" };
        let names = active.iter().map(|name| terminal::quoted(name)).collect::<Vec<_>>().join(" ");
        return swaps().todo(format!("sudo swapoff {names}{permanent}")).undoable(undo(host));
    }
    match host.read("/proc/swaps").text() {
        Some(text) if text.lines().skip(1).any(|line| !line.trim().is_empty()) => Finding::ok(ID, "swap is not on a card"),
        Some(_) => Finding::ok(ID, "no swap"),
        None if host.exists("/etc") => Finding::ok(ID, "nothing puts swap on the card"),
        None => return Finding::absent(ID, "no root file system to judge by"),
    }
    .undoable(undo(host))
}

/// Whether `dphys-swapfile` was switched off here or by somebody else is not to be seen; what was written is.
fn undo(host: &dyn Host) -> Option<String> {
    let remove = || format!("sudo rm {}", terminal::quoted(&host.shown(RPI_SWAP)));
    host.exists(RPI_SWAP).then(|| undo_of_file(host, RPI_SWAP).unwrap_or_else(remove))
}

/// Files and partitions on the card that are swapped to now.
fn on_the_card(host: &dyn Host) -> Vec<String> {
    let text = host.read("/proc/swaps").text().unwrap_or_default();
    let swaps = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        Some((unescaped(fields.next()?), fields.next()?.to_owned()))
    });
    swaps
        .filter(|(name, kind)| match kind.as_str() {
            "partition" => disk_of(host, name).is_some_and(|disk| is_card(&disk)),
            "file" => on_card(host, name),
            _ => false,
        })
        .map(|(name, _)| name)
        .collect()
}

fn dphys_file(host: &dyn Host) -> String {
    let text = host.read("/etc/dphys-swapfile").text().unwrap_or_default();
    let named = settings(&text).filter_map(|line| line.strip_prefix("CONF_SWAPFILE=")).next_back();
    named.map(|name| name.trim_matches(['"', '\''])).filter(|name| name.starts_with('/')).unwrap_or("/var/swap").to_owned()
}

/// How rpi-swap swaps; `None`: it is not there.
fn rpi_swap(host: &dyn Host) -> Option<String> {
    let main = host.read("/etc/rpi/swap.conf");
    if main == super::Seen::Missing && !host.exists("/usr/lib/systemd/system-generators/rpi-swap-generator") {
        return None;
    }
    let folder = "/etc/rpi/swap.conf.d";
    let more = host.list(folder).into_iter().filter(|name| name.ends_with(".conf"));
    let texts = main.text().into_iter().chain(more.filter_map(|name| host.read(&format!("{folder}/{name}")).text()));
    let mechanism = |text: String| {
        let mut pairs = settings(&text).filter_map(|line| line.split_once('='));
        pairs.rfind(|(name, _)| name.trim() == "Mechanism").map(|(_, value)| value.trim().to_owned())
    };
    let named = texts.filter_map(mechanism).last();
    Some(named.unwrap_or_else(|| "auto".to_owned()))
}
