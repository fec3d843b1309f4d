//! Three hosts on two segments with a router between them, which forwards and translates nothing:
//!
//! ```text
//!   one 10.78.1.1 ─┐                          ┌─ three 10.78.2.3
//!                  ├─ lan ── eth0 router eth1 ─┤
//!   two 10.78.1.2 ─┘     .254           .254  far
//! ```
//!
//! What is between the segments can be cut, made lossy and made slow; a host's own cable is `hosts.plug`.
#![allow(dead_code)] // each area uses some

use super::hosts::Hosts;

/// The hosts and their addresses.
pub const HOSTS: [(&str, &str, &str); 3] =
    [("one", "lan", "10.78.1.1"), ("two", "lan", "10.78.1.2"), ("three", "far", "10.78.2.3")];

/// The address of a host.
pub fn address(host: &str) -> &'static str {
    HOSTS.iter().find(|(name, _, _)| *name == host).unwrap().2
}

/// The hosts, and what is between them.
pub struct Segments {
    pub hosts: Hosts,
}

impl Segments {
    /// All of it up; the label tells it from others.
    pub fn new(label: &str) -> Self {
        let mut hosts = Hosts::new(label);
        hosts.segment("far");
        hosts.add_bare("router");
        hosts.connect("lan", "router", "eth0", "10.78.1.254/24");
        hosts.connect("far", "router", "eth1", "10.78.2.254/24");
        hosts.inside("router", "echo 1 > /proc/sys/net/ipv4/ip_forward");
        let mut segments = Self { hosts };
        for (host, segment, address) in HOSTS {
            segments.add(host, segment, address);
        }
        segments
    }

    /// One more host, on `lan` or `far`.
    pub fn add(&mut self, host: &str, segment: &str, address: &str) {
        self.hosts.add_bare(host);
        self.hosts.connect(segment, host, "eth0", &format!("{address}/24"));
        self.default_route(host, address);
    }

    /// Gives a host another address on its segment, as a new lease would.
    pub fn readdress(&self, host: &str, address: &str) {
        self.hosts.readdress(host, &format!("{address}/24"));
        self.default_route(host, address);
    }

    fn default_route(&self, host: &str, address: &str) {
        let gateway = format!("{}.254", address.rsplit_once('.').unwrap().0);
        self.hosts.inside(host, &format!("ip route replace default via {gateway}"));
    }

    /// Nothing goes from segment to segment any more.
    pub fn cut(&self) {
        self.hosts.inside("router", "echo 0 > /proc/sys/net/ipv4/ip_forward");
    }

    /// It goes again.
    pub fn restore(&self) {
        self.hosts.inside("router", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    }

    /// So many of a hundred packets from segment to segment are lost; 0 for none.
    pub fn lossy(&self, percent: u32) {
        let lose = format!("iptables -A FORWARD -m statistic --mode random --probability 0.{percent:02} -j DROP");
        self.hosts.inside("router", &format!("iptables -F FORWARD && {}", if percent == 0 { "true" } else { &lose }));
    }

    /// From segment to segment goes at most this much, like `1mbit`; `None` for as much as can be.
    pub fn slow(&self, rate: Option<&str>) {
        for interface in ["eth0", "eth1"] {
            let line = match rate {
                Some(rate) => format!("tc qdisc replace dev {interface} root tbf rate {rate} burst 16kb latency 200ms"),
                None => format!("tc qdisc del dev {interface} root || true"),
            };
            self.hosts.inside("router", &line);
        }
    }
}
