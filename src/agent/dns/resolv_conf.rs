//! `resolv.conf`: the host's, read; a pod's, made.
//!
//! In:       the host's text, a pod's wishes, whom this node's pods ask.
//! Out:      the pod's text, as the kubelet writes it; what of it had to be left out.
//! Source:   the kubelet's `GetPodDNS`, `appendDNSConfig` and `formDNS…FitsLimits`; resolv.conf(5).

use std::net::IpAddr;

use super::NameServer;
use crate::agent::runtime::{Dns, DnsPolicy, Note};

/// The host's, the first that names a server. Source: systemd-resolved(8); Docker and the kubelet look at the second too, where the
/// first names a stub only.
pub const OF_HOST: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// Servers of a pod. Source: upstream MaxDNSNameservers; more are ignored by the C library.
const MOST_SERVERS: usize = 3;
/// Domains to look below, and their characters. Source: upstream MaxDNSSearchPaths and MaxDNSSearchListChars.
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_BYTES: usize = 2048;

/// What a `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses.
    pub servers: Vec<String>,
    /// Domains.
    pub searches: Vec<String>,
    /// Name and value.
    pub options: Vec<(String, Option<String>)>,
}

impl ResolvConf {
    /// Reads resolv.conf(5).
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => read.servers.extend(words.next().map(str::to_owned)),
                // The last of several counts.
                Some("search" | "domain") => {
                    read.searches = words.filter(|domain| *domain != ".").map(str::to_owned).collect();
                }
                Some("options") => read.options.extend(words.map(|option| match option.split_once(':') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (option.to_owned(), None),
                })),
                _ => {}
            }
        }
        read
    }

    /// The same without servers on the host's own loopback: they are out of a pod's reach.
    #[must_use]
    pub fn within_reach(mut self) -> Self {
        let reached = |server: &String| server.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback());
        self.servers.retain(reached);
        self
    }

    /// Adds a pod's own: servers and domains after those that are there, each once; its options rule. Source: upstream `appendDNSConfig`.
    fn add(&mut self, asked: &Dns) {
        for (all, more) in [(&mut self.servers, &asked.servers), (&mut self.searches, &asked.searches)] {
            for one in more {
                if !all.contains(one) {
                    all.push(one.clone());
                }
            }
        }
        for (name, value) in &asked.options {
            self.options.retain(|(other, _)| other != name);
            self.options.push((name.clone(), value.clone()));
        }
    }

    /// Leaves out what a C library would not read; what that was, in the kubelet's words.
    fn fit(&mut self) -> Vec<Note> {
        let mut told = Vec::new();
        // A newline in any of them would begin a line of its own.
        let sound = |text: &String| !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        self.servers.retain(sound);
        self.searches.retain(sound);
        self.options.retain(|(name, value)| sound(name) && value.as_ref().is_none_or(sound));
        if self.servers.len() > MOST_SERVERS {
            self.servers.truncate(MOST_SERVERS);
            let applied = self.servers.join(" ");
            told.push(forming(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {applied}"
            )));
        }
        let searches = self.searches.len();
        self.searches.truncate(MOST_SEARCHES);
        while self.searches.join(" ").len() > MOST_SEARCH_BYTES {
            self.searches.pop();
        }
        if self.searches.len() < searches {
            let applied = self.searches.join(" ");
            told.push(forming(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {applied}"
            )));
        }
        told
    }

    /// As a file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            let option = |(name, value): &(String, Option<String>)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            let options: Vec<String> = self.options.iter().map(option).collect();
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        text
    }
}

/// As the kubelet calls it.
fn forming(message: String) -> Note {
    Note { reason: "DNSConfigForming", message }
}

/// The file that a pod gets; `None`: the engine makes it as it does for any container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFile {
    /// What is in it.
    pub text: Option<String>,
    /// What a person should know.
    pub warnings: Vec<Note>,
}

/// What a pod of this namespace gets. `host`: the host's file.
#[must_use]
pub fn for_pod(asked: &Dns, namespace: &str, server: &NameServer, host: &str) -> PodFile {
    let host = ResolvConf::read(host).within_reach();
    let mut warnings = Vec::new();
    let mut conf = match (asked.policy, server) {
        (DnsPolicy::Own, _) => ResolvConf::default(),
        (DnsPolicy::Cluster, NameServer::Here { address, domain }) => {
            let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            // What the host says of how to ask is about the host's servers.
            let options = vec![("ndots".to_owned(), Some("5".to_owned()))];
            ResolvConf { servers: vec![address.to_string()], searches: own.into_iter().chain(host.searches).collect(), options }
        }
        (DnsPolicy::Cluster | DnsPolicy::Host, _) => {
            if asked.policy == DnsPolicy::Cluster {
                const WORDS: &str =
                    "this node answers no names of the cluster; the pod has the host's name servers (dnsPolicy acts as Default)";
                warnings.push(Note { reason: "MissingClusterDNS", message: WORDS.to_owned() });
            }
            host
        }
    };
    conf.add(asked);
    if conf.servers.is_empty() && asked.policy != DnsPolicy::Own {
        if !asked.searches.is_empty() || !asked.options.is_empty() {
            warnings.push(forming("dnsConfig has no effect: the host names no server within a pod's reach".to_owned()));
        }
        // The engine may know a way that we do not.
        return PodFile { text: None, warnings };
    }
    warnings.extend(conf.fit());
    PodFile { text: Some(conf.text()), warnings }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# by hand\nnameserver 127.0.0.53\nnameserver 192.168.1.1\nsearch old\nsearch lan . home\noptions edns0 timeout:3\n";

    fn here() -> NameServer {
        NameServer::Here { address: [10, 244, 3, 1].into(), domain: "cluster.local".into() }
    }

    fn made(asked: &Dns, server: &NameServer, host: &str) -> String {
        let made = for_pod(asked, "home", server, host);
        let warned = made.warnings.iter().map(|note| format!("! {}\n", note.message)).collect::<String>();
        made.text.unwrap_or_else(|| "as the engine makes it\n".into()) + &warned
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn each_policy_gives_what_the_kubelet_writes() {
        let config = Dns {
            servers: texts(&["9.9.9.9", "192.168.1.1"]),
            searches: texts(&["lan", "shed"]),
            options: vec![("ndots".into(), Some("2".into())), ("rotate".into(), None)],
            policy: DnsPolicy::Own,
        };
        let plain = |policy| Dns { policy, ..Dns::default() };
        let with = |policy| Dns { policy, ..config.clone() };
        let cluster = "search home.svc.cluster.local svc.cluster.local cluster.local lan home";
        for (asked, server, host, expected) in [
            (plain(DnsPolicy::Cluster), here(), HOST, format!("{cluster}\nnameserver 10.244.3.1\noptions ndots:5\n")),
            (plain(DnsPolicy::Cluster), here(), "", "search home.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.244.3.1\noptions ndots:5\n".into()),
            (with(DnsPolicy::Cluster), here(), HOST, format!("{cluster} shed\nnameserver 10.244.3.1\nnameserver 9.9.9.9\nnameserver 192.168.1.1\noptions ndots:2 rotate\n")),
            (plain(DnsPolicy::Host), here(), HOST, "search lan home\nnameserver 192.168.1.1\noptions edns0 timeout:3\n".into()),
            (with(DnsPolicy::Host), here(), HOST, "search lan home shed\nnameserver 192.168.1.1\nnameserver 9.9.9.9\noptions edns0 timeout:3 ndots:2 rotate\n".into()),
            (plain(DnsPolicy::Host), here(), "nameserver ::1", "as the engine makes it\n".into()),
            (with(DnsPolicy::Own), here(), HOST, "search lan shed\nnameserver 9.9.9.9\nnameserver 192.168.1.1\noptions ndots:2 rotate\n".into()),
            (plain(DnsPolicy::Cluster), NameServer::Host, HOST, "search lan home\nnameserver 192.168.1.1\noptions edns0 timeout:3\n! this node answers no names of the cluster; the pod has the host's name servers (dnsPolicy acts as Default)\n".into()),
        ] {
            assert_eq!(made(&asked, &server, host), expected, "{asked:?}");
        }
    }

    #[test]
    fn more_than_a_c_library_reads_is_left_out_and_said() {
        let many: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
        let asked = Dns { servers: texts(&["1.1.1.1", "2.2.2.2", "3.3.3.3"]), searches: many, ..Dns::default() };
        let asked = Dns { policy: DnsPolicy::Cluster, ..asked };
        let made = for_pod(&asked, "home", &here(), "");
        let text = made.text.unwrap();
        assert_eq!(text.matches("nameserver").count(), 3);
        assert_eq!(text.lines().next().unwrap().split(' ').count(), 33);
        assert_eq!(made.warnings.len(), 2);
        assert!(
            made.warnings.iter().all(|note| note.reason == "DNSConfigForming" && note.message.contains("limits were exceeded")),
            "{:?}",
            made.warnings
        );
        let long = Dns { searches: (0..30).map(|n| format!("{n}{}", "x".repeat(100))).collect(), ..asked };
        let text = for_pod(&long, "home", &here(), "").text.unwrap();
        assert!(text.lines().next().unwrap().len() <= 2048 + "search ".len());
    }

    #[test]
    fn a_line_is_not_smuggled_in() {
        let asked = Dns {
            policy: DnsPolicy::Own,
            servers: texts(&["1.1.1.1\nnameserver 6.6.6.6"]),
            searches: texts(&["a b", "c\n", "ok"]),
            options: vec![("x\ny".into(), None), ("a".into(), Some("1 2".into()))],
        };
        assert_eq!(made(&asked, &here(), HOST), "search ok\n");
    }
}
