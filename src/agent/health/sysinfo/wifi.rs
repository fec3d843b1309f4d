//! The wireless interface: how strong its signal is, and whether it sleeps between packets.

use super::files::Files;
use super::power_save;

/// The signal of the first wireless interface that is connected, in dBm, and its name.
///
/// Source: the kernel's `net/wireless/wext-proc.c`: two lines of headings, then `wlan0: 0000   54.  -56.  -256  …`, of which the
/// third number is the level. Kernels without wireless extensions (`CONFIG_CFG80211_WEXT`; Raspberry Pi's have them) have no such file.
#[must_use]
pub fn signal(files: &Files) -> Option<(String, i32)> {
    // A file with headings only is no nonsense: there is no interface, or none that is connected.
    let text = files.text("proc/net/wireless")?;
    text.lines().skip(2).find_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let level: i32 = numbers.split_whitespace().nth(2)?.trim_end_matches('.').parse().ok()?;
        // Drivers without a scale of their own say 0, or 256 for nothing at all.
        (-120..0).contains(&level).then(|| (name.trim().to_owned(), level))
    })
}

/// The first wireless interface, connected or not.
#[must_use]
pub fn interface(files: &Files) -> Option<String> {
    let wireless =
        |name: &String| ["wireless", "phy80211"].iter().any(|file| files.is_there(&format!("sys/class/net/{name}/{file}")));
    files.names("sys/class/net").into_iter().find(wireless)
}

/// Whether an interface sleeps between packets, as the kernel says. `None` when it cannot be asked (no `nl80211`, another machine's
/// files) or does not answer.
#[must_use]
pub fn power_save(files: &Files, interface: &str) -> Option<bool> {
    if !files.are_of_this_machine() {
        return None;
    }
    let index = files.number(&format!("sys/class/net/{interface}/ifindex"), 1, i64::from(i32::MAX))?;
    power_save::of(u32::try_from(index).ok()?)
}
