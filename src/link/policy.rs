//! What a network policy comes to, once its selectors are resolved: the words between `dispatcher/policy.rs` and `agent/policy`.
//!
//! One entry of `Share::policies`, by the policy's `namespace/name`:
//!
//! ```json
//! {"selector": {"matchLabels": {"app": "db"}},
//!  "pods": ["10.244.0.5-10.244.0.7", "10.244.2.9"],
//!  "ingress": [{"peers": ["10.244.1.7"], "ports": ["tcp/5432", "tcp/8000-8010", "udp"]},
//!              {"pods": ["10.244.2.9"], "ports": ["tcp/8080"]}],
//!  "egress": []}
//! ```
//!
//! * `selector` is the policy's own `podSelector`, so that a node finds those of its pods whose addresses the master does not know yet;
//!   `pods` are the addresses that the master knows of those it selects.
//! * `ingress`: what may reach these pods; `egress`: what they may reach. Not there: the policy says nothing of this direction.
//!   There and empty: nothing is allowed.
//! * Of a rule, what is not there is not asked: no `peers` is everybody, no `ports` everything of every protocol, no `pods` all pods of
//!   the policy (it is there where a named port has another number in other pods).
//!
//! * In a dual-stack cluster what is of IPv6 stands beside it, in `pods6` and `peers6`. Where there is no `pods` or `peers`, both families are
//!   meant; where there is one, IPv6 is what `…6` says, and nothing when it is not there.
//!
//! Size: 15 to 31 bytes a range of addresses; pods whose addresses follow each other are one range.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ranges::{Address, Ranges};

/// One policy, resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", default)]
pub struct ResolvedPolicy {
    /// Its `podSelector`.
    pub selector: Value,
    /// The addresses of the pods that it selects, as far as the master knows them.
    #[serde(skip_serializing_if = "Ranges::is_empty")]
    pub pods: Ranges,
    /// Those of IPv6.
    #[serde(skip_serializing_if = "Ranges::is_empty")]
    pub pods6: Ranges<Ipv6Addr>,
    /// What may reach them; `None`: whatever other policies say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<Rule>>,
    /// What they may reach; `None`: whatever other policies say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<Rule>>,
}

/// One thing that a policy allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", default)]
pub struct Rule {
    /// To which of the policy's pods it applies; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Ranges>,
    /// Their addresses of IPv6, if not all of them are meant.
    #[serde(skip_serializing_if = "Ranges::is_empty")]
    pub pods6: Ranges<Ipv6Addr>,
    /// The other side; `None`: everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Ranges>,
    /// Its addresses of IPv6, if it is not everybody.
    #[serde(skip_serializing_if = "Ranges::is_empty")]
    pub peers6: Ranges<Ipv6Addr>,
    /// The ports that are connected to; `None`: all, of every protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<BTreeSet<PortRange>>,
}

impl ResolvedPolicy {
    /// The pods that it selects, by their addresses of one family.
    #[must_use]
    pub fn pods_of<A: Address>(&self) -> &Ranges<A> {
        A::pick(&self.pods, &self.pods6)
    }
}

impl Rule {
    /// To which of the policy's pods it applies, in one family; `None`: all.
    #[must_use]
    pub fn pods_of<A: Address>(&self) -> Option<&Ranges<A>> {
        self.pods.as_ref().map(|pods| A::pick(pods, &self.pods6))
    }

    /// The other side, in one family; `None`: everybody.
    #[must_use]
    pub fn peers_of<A: Address>(&self) -> Option<&Ranges<A>> {
        self.peers.as_ref().map(|peers| A::pick(peers, &self.peers6))
    }
}

/// Protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// As nftables and the link write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// From Kubernetes' word for it, in capitals; `""` is TCP.
    #[must_use]
    pub fn of_kubernetes(word: &str) -> Option<Self> {
        if word.is_empty() {
            Some(Protocol::Tcp)
        } else {
            Self::ALL.into_iter().find(|one| word.eq_ignore_ascii_case(one.word()))
        }
    }
}

/// Ports of one protocol. As text `tcp`, `tcp/80` or `tcp/8000-8010`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// Whose ports.
    pub protocol: Protocol,
    /// First and last; `None`: all.
    pub ports: Option<(u16, u16)>,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub fn one(protocol: Protocol, port: u16) -> Self {
        Self { protocol, ports: Some((port, port)) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.protocol.word())?;
        match self.ports {
            None => Ok(()),
            Some((first, last)) if first == last => write!(f, "/{first}"),
            Some((first, last)) => write!(f, "/{first}-{last}"),
        }
    }
}

/// A text that names no ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no ports: tcp, tcp/80 or tcp/8000-8010 was expected")]
pub struct NoPorts(String);

impl FromStr for PortRange {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let read = || {
            let (protocol, ports) = text.split_once('/').map_or((text, None), |(protocol, ports)| (protocol, Some(ports)));
            let protocol = Protocol::ALL.into_iter().find(|one| one.word() == protocol)?;
            let ports = match ports {
                None => None,
                Some(ports) => {
                    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                    Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)?.into()
                }
            };
            Some(Self { protocol, ports })
        };
        read().ok_or_else(|| NoPorts(text.to_owned()))
    }
}

impl TryFrom<String> for PortRange {
    type Error = NoPorts;

    fn try_from(text: String) -> Result<Self, NoPorts> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(ports: PortRange) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_on_the_wire_what_the_header_says() {
        let text = json!({"selector": {"matchLabels": {"app": "db"}}, "pods": ["10.244.0.5-10.244.0.7", "10.244.2.9"],
            "ingress": [{"peers": ["10.244.1.7"], "ports": ["tcp/5432", "tcp/8000-8010", "udp"]},
                {"pods": ["10.244.2.9"], "ports": ["tcp/8080"]}], "egress": []});
        let read: ResolvedPolicy = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read.egress, Some(Vec::new()));
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
        // Nothing is said of IPv6: nobody by it, but where everybody is meant.
        let [one, two] = &read.ingress.unwrap()[..] else { panic!() };
        assert_eq!((one.peers_of::<Ipv6Addr>(), two.peers_of::<Ipv6Addr>()), (Some(&Ranges::default()), None));
        let text = json!({"selector": null, "pods": ["10.244.2.9"], "pods6": ["fd00::9"], "egress": [{"peers": [], "peers6": ["fd00::1-fd00::2"]}]});
        let read: ResolvedPolicy = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read.pods_of::<Ipv6Addr>().texts().collect::<Vec<_>>(), ["fd00::9"]);
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
    }

    #[test]
    fn ports_that_are_none_are_refused() {
        for broken in ["", "icmp", "tcp/", "tcp/0x1", "tcp/9-1", "tcp/70000", "tcp/1-2-3", "TCP"] {
            assert!(broken.parse::<PortRange>().is_err(), "{broken}");
        }
        assert_eq!("sctp/7".parse(), Ok(PortRange::one(Protocol::Sctp, 7)));
    }
}
