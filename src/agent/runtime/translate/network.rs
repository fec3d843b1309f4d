//! From names, name servers, ports and kernel settings to Docker's body and `HostConfig` of the sandbox.
//!
//! All containers of a pod join the sandbox, and so see its `/etc/hosts`, `/etc/resolv.conf` and host name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::{Dns, PortPlan, SandboxPlan};

/// Puts the pod's side of the network into the sandbox's body and `HostConfig`. `resolv_conf`: the host's.
pub(super) fn network(body: &mut Value, host: &mut Value, plan: &SandboxPlan, resolv_conf: &str) {
    if !plan.host_network {
        set(body, "Hostname", json!(plan.hostname));
        if !plan.domain.is_empty() {
            set(body, "Domainname", json!(plan.domain));
        }
    }
    if !plan.extra_hosts.is_empty() {
        set(host, "ExtraHosts", json!(plan.extra_hosts));
    }
    if !plan.sysctls.is_empty() {
        set(host, "Sysctls", json!(plan.sysctls));
    }
    ports(body, host, &plan.ports);
    let dns = resolver(&plan.dns, resolv_conf);
    for (key, list) in [("Dns", dns.servers), ("DnsSearch", dns.searches), ("DnsOptions", options(&dns.options))] {
        if !list.is_empty() {
            set(host, key, json!(list));
        }
    }
}

fn ports(body: &mut Value, host: &mut Value, ports: &[PortPlan]) {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports {
        let binding = json!({"HostIp": port.host_ip, "HostPort": port.host.to_string()});
        bindings.entry(format!("{}/{}", port.container, port.protocol)).or_default().push(binding);
    }
    if !bindings.is_empty() {
        set(body, "ExposedPorts", bindings.keys().map(|port| (port.clone(), json!({}))).collect());
        set(host, "PortBindings", json!(bindings));
    }
}

fn options(options: &[(String, Option<String>)]) -> Vec<String> {
    let line = |(name, value): &(String, Option<String>)| match value {
        Some(value) => format!("{name}:{value}"),
        None => name.clone(),
    };
    options.iter().map(line).collect()
}

/// Whether the pod asks for something beside what the host has, so that the host's own has to be known.
#[must_use]
pub fn asks_resolv_conf(dns: &Dns) -> bool {
    let asks = !dns.servers.is_empty() || !dns.searches.is_empty() || !dns.options.is_empty();
    asks && !dns.instead
}

/// Whom the pod asks: the host's first, then its own, each once. All empty: as Docker does it by itself.
/// Source: upstream `appendDNSConfig`.
fn resolver(asked: &Dns, resolv_conf: &str) -> Dns {
    if !asks_resolv_conf(asked) {
        return asked.clone();
    }
    let mut all = read(resolv_conf);
    let once = |all: &mut Vec<String>, more: &[String]| {
        for one in more {
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
    };
    once(&mut all.servers, &asked.servers);
    once(&mut all.searches, &asked.searches);
    for (name, value) in &asked.options {
        all.options.retain(|(other, _)| other != name);
        all.options.push((name.clone(), value.clone()));
    }
    all
}

/// Whether a `resolv.conf` names a server that a pod can reach; systemd-resolved's own stub does not.
#[must_use]
pub fn has_servers(resolv_conf: &str) -> bool {
    !read(resolv_conf).servers.is_empty()
}

/// Reads resolv.conf(5). A server on the host's own loopback is out of a pod's reach.
fn read(text: &str) -> Dns {
    let mut read = Dns::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                read.servers.extend(words.next().filter(|ip| !ip.starts_with("127.") && *ip != "::1").map(str::to_owned));
            }
            // The last of several counts.
            Some("search" | "domain") => read.searches = words.filter(|domain| *domain != ".").map(str::to_owned).collect(),
            Some("options") => read.options.extend(words.map(|option| match option.split_once(':') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            })),
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_asked_first_and_the_pods_own_options_rule() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let host = "# written by hand\nnameserver 192.168.1.1\nnameserver 127.0.0.53\nsearch old\nsearch home lan\noptions ndots:1 edns0\n";
        let asked = Dns {
            instead: false,
            servers: texts(&["9.9.9.9", "192.168.1.1"]),
            searches: texts(&["lan", "shed"]),
            options: vec![("ndots".into(), Some("3".into())), ("rotate".into(), None)],
        };
        let both = resolver(&asked, host);
        assert_eq!(both.servers, ["192.168.1.1", "9.9.9.9"]);
        assert_eq!(both.searches, ["home", "lan", "shed"]);
        assert_eq!(options(&both.options), ["edns0", "ndots:3", "rotate"]);
        // Only its own; and nothing asked is nothing said.
        let only = Dns { instead: true, ..asked };
        assert_eq!(resolver(&only, host), only);
        assert_eq!(resolver(&Dns::default(), host), Dns::default());
        assert!(has_servers(host) && !has_servers("nameserver 127.0.0.53"));
        assert!(!asks_resolv_conf(&only) && !asks_resolv_conf(&Dns::default()));
    }
}
