//! What a first boot without cloud-init needs: the script that systemd runs once, and what it reads.
//!
//! The script is the same for every node; what differs lies in files beside it, so nothing has to be quoted for a shell.
//! Source: systemd-run-generator(8); Raspberry Pi Imager, which starts its own `firstrun.sh` so; NetworkManager's keyfile format.

use super::settings::{Settings, Wifi};

/// The script's name on the boot partition; Raspberry Pi Imager gives its own the same.
pub const NAME: &str = "firstrun.sh";
const SCRIPT: &str = include_str!("first_boot/firstrun.sh");
/// Bookworm, the first that mounts the boot partition at `/boot/firmware`, came out on this day.
const BOOKWORM: &str = "2023-10-10";

/// Where an image mounts its boot partition, by its `issue.txt` (`Raspberry Pi reference 2024-11-19`).
#[must_use]
pub fn mount(issue: &str) -> &'static str {
    let is_date = |word: &&str| {
        word.len() == 10 && word.chars().enumerate().all(|(at, c)| if at == 4 || at == 7 { c == '-' } else { c.is_ascii_digit() })
    };
    match issue.split_whitespace().find(is_date) {
        Some(date) if date < BOOKWORM => "/boot",
        _ => "/boot/firmware",
    }
}

/// What the kernel's command line says for it.
#[must_use]
pub fn command(mount: &str) -> String {
    format!("systemd.run={mount}/{NAME} systemd.run_success_action=reboot systemd.unit=kernel-command-line.target")
}

/// Paths on the boot partition, and contents.
#[must_use]
pub fn files(settings: &Settings) -> Vec<(String, String)> {
    let mut files = vec![(NAME.to_owned(), SCRIPT.to_owned())];
    let mut add = |name: &str, text: String| files.push((format!("bramble/{name}"), text));
    add("hostname", format!("{}\n", settings.name));
    if let Some(user) = &settings.user {
        add("user", format!("{}\n", user.name));
        if !user.keys.is_empty() {
            add("authorized_keys", user.keys.join("\n") + "\n");
        }
        if let Some(hash) = &user.password_hash {
            add("password", format!("{hash}\n"));
        }
    }
    if let Some(wifi) = &settings.wifi {
        add("wifi.nmconnection", network_manager(wifi));
        add("wpa_supplicant.conf", wpa_supplicant(wifi));
    }
    files
}

/// Bookworm and later.
fn network_manager(wifi: &Wifi) -> String {
    // A key file escapes with a backslash, and takes a name as bytes with `;` between them.
    let ssid: String = wifi.ssid.bytes().map(|byte| format!("{byte};")).collect();
    let security = wifi.key.as_ref().map(|key| format!("\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={key}\n")).unwrap_or_default();
    format!(
        "[connection]\nid=bramble\ntype=wifi\ninterface-name=wlan0\n\n[wifi]\nmode=infrastructure\nssid={ssid}\n{security}\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )
}

/// Bullseye. A name in hexadecimal needs no quotes.
fn wpa_supplicant(wifi: &Wifi) -> String {
    let ssid: String = wifi.ssid.bytes().map(|byte| format!("{byte:02x}")).collect();
    let key = wifi.key.as_ref().map_or("key_mgmt=NONE".to_owned(), |key| format!("psk={key}"));
    format!(
        "country={}\nctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev\nupdate_config=1\nnetwork={{\n\tssid={ssid}\n\t{key}\n}}\n",
        wifi.country
    )
}
