//! The files that cloud-init reads from the boot partition (its data source NoCloud).
//!
//! Strings are written as JSON has them, which YAML takes as they are; what is not printable ASCII by its number, as YAML has it.
//! Source: cloud-init's documentation (users and groups, NoCloud, network configuration version 2) and netplan's reference.

use super::plan::MARK;
use super::settings::{Settings, User, Wifi};

/// The groups of Raspberry Pi OS' first user. Source: pi-gen, `stage2/04-cloud-init`.
pub const GROUPS: &str = "adm,dialout,cdrom,audio,users,sudo,video,games,plugdev,input,gpio,spi,i2c,netdev,render";

/// A string in quotes. Source: YAML 1.2, 5.7: `\u` and four digits; past them `\U` and eight, where JSON would have two of four.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let escaped = |c: char| match c {
        ' '..='~' => c.to_string(),
        '\0'..='\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    quoted.chars().map(escaped).collect()
}

/// `user-data`: name, person, and the script that puts the agent into place.
///
/// `bootcmd` runs on every boot, so a first one that was cut short is made up for; `runcmd` would be ticked off before it ends. The script is gone
/// when it is done.
#[must_use]
pub fn user_data(settings: &Settings) -> String {
    let name = json(&settings.name);
    let mut text = format!("#cloud-config\n# {MARK}.\nhostname: {name}\nmanage_etc_hosts: true\n");
    if let Some(user) = &settings.user {
        text.push_str(&person(user));
    }
    let run = "for boot in /boot/firmware /boot; do if [ -f $boot/bramble/install.sh ]; then sh $boot/bramble/install.sh $boot start; break; fi; done";
    text.push_str(&format!("bootcmd:\n- [sh, -c, {}]\n", json(run)));
    text
}

fn person(user: &User) -> String {
    let mut text = format!(
        "ssh_pwauth: false\nusers:\n- name: {}\n  groups: {}\n  shell: /bin/bash\n  sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n",
        json(&user.name),
        json(GROUPS)
    );
    match &user.password_hash {
        // The first counts for an account that cloud-init makes, the second for one that the image has.
        Some(hash) => {
            text.push_str(&format!("  lock_passwd: false\n  passwd: {0}\n  hashed_passwd: {0}\n", json(hash)));
        }
        None => text.push_str("  lock_passwd: true\n"),
    }
    if !user.keys.is_empty() {
        text.push_str("  ssh_authorized_keys:\n");
        for key in &user.keys {
            text.push_str(&format!("  - {}\n", json(key)));
        }
    }
    text
}

/// `meta-data`. A new instance id has cloud-init set the machine up anew.
#[must_use]
pub fn meta_data(settings: &Settings, instance: &str) -> String {
    format!("# {MARK}.\ninstance-id: {}\nlocal-hostname: {}\ndsmode: local\n", json(instance), json(&settings.name))
}

/// `network-config`: an address on the cable, and one by Wi-Fi if the node has it. Without Wi-Fi the image's own does, as long as it is there.
#[must_use]
pub fn network_config(wifi: Option<&Wifi>) -> String {
    let cable = format!("# {MARK}.\nnetwork:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      optional: true\n");
    cable + &wifi.map(radio).unwrap_or_default()
}

fn radio(wifi: &Wifi) -> String {
    let access = wifi.key.as_ref().map_or("{}".to_owned(), |key| format!("{{password: {}}}", json(key)));
    format!(
        "  wifis:\n    wlan0:\n      dhcp4: true\n      optional: true\n      regulatory-domain: {}\n      access-points:\n        {}: {access}\n",
        json(&wifi.country),
        json(&wifi.ssid),
    )
}
