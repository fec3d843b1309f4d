//! NetworkManager's configuration files: which value of a key counts.
//!
//! Source: NetworkManager.conf(5): files of `conf.d` in the order of their names, `/etc` before `/run` before `/usr/lib` where a name
//! is there twice; what is read later counts.

use std::collections::BTreeMap;

use super::{Host, settings};

/// The folder that people write into.
pub const FOLDER: &str = "/etc/NetworkManager/conf.d";

/// Whether it manages this machine's network.
#[must_use]
pub fn installed(host: &dyn Host) -> bool {
    host.exists("/usr/sbin/NetworkManager") || host.exists("/sbin/NetworkManager")
}

/// The value of a key among the defaults of connections.
#[must_use]
pub fn connection_default(host: &dyn Host, key: &str) -> Option<String> {
    let mut files = BTreeMap::new();
    for folder in ["/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d", FOLDER] {
        files.extend(host.list(folder).into_iter().filter(|name| name.ends_with(".conf")).map(|name| (name, folder)));
    }
    let paths = files.into_iter().map(|(name, folder)| format!("{folder}/{name}"));
    let texts = ["/etc/NetworkManager/NetworkManager.conf".to_owned()]
        .into_iter()
        .chain(paths)
        .filter_map(|path| host.read(&path).text());
    texts.filter_map(|text| in_connection(&text, key)).last()
}

fn in_connection(text: &str, key: &str) -> Option<String> {
    let (mut inside, mut found) = (false, None);
    for line in settings(text) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.starts_with("connection");
        } else if let Some((name, value)) = line.split_once('=')
            && inside
            && name.trim() == key
        {
            found = Some(value.trim().to_owned());
        }
    }
    found
}
