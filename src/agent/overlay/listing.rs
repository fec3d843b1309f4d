//! What of Bramble is in a machine's network: named for people, and what of it nobody needs any more.
//!
//! In:       the kernel's links and routes, the load balancers' addresses on loopback, the nftables tables' names, the rules of iptables,
//!           and which agents live here.
//! Out:      one line each, and whether a living agent needs it.
//! Never:    reads or removes (`listing/run.rs`).
//!
//! An agent that lives has a name in its network namespace (an abstract socket), so what is told is told of this namespace alone.

pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::seen::Seen;
use super::{LINK_PREFIX, PROTOCOL, last_metric_of, metric_of, wireguard};
use crate::agent::announce::LABEL_PREFIX;

/// What the names of pods' bridges begin with (`runtime/naming.rs`).
const BRIDGE_PREFIX: &str = "brm-";
/// What the abstract sockets' names begin with.
const CLAIM: &str = "bramble-network-";

/// The abstract socket of the agent with these eight digits.
#[must_use]
pub fn claim_name(agent: &str) -> String {
    format!("{CLAIM}{agent}")
}

/// The agents that live here, by the text of `/proc/net/unix`.
#[must_use]
pub fn living(sockets: &str) -> BTreeSet<String> {
    let names = sockets.lines().filter_map(|line| line.split_whitespace().last());
    names.filter_map(|name| name.strip_prefix('@')?.strip_prefix(CLAIM)).filter(|agent| is_id(agent)).map(str::to_owned).collect()
}

fn is_id(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A device of VXLAN or WireGuard.
    Link,
    /// The bridge of a node's pods: Docker's, that made it for us. It goes with Docker's network, and is only listed here.
    Bridge,
    /// A route to a peer's pods.
    Route,
    /// A load balancer's address on loopback.
    Address,
    /// An nftables table.
    Table,
    /// A rule in somebody's chain: Docker's `DOCKER-USER`, or `FORWARD`.
    Rule,
    /// The same of IPv6.
    Rule6,
}

impl Kind {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Link => "link",
            Kind::Bridge => "bridge",
            Kind::Route => "route",
            Kind::Address => "address",
            Kind::Table => "nftables table",
            Kind::Rule => "iptables rule",
            Kind::Rule6 => "ip6tables rule",
        }
    }
}

/// One thing of ours.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// What it is called; a rule as `iptables -S` has it.
    pub name: String,
    /// Eight digits of the agent, or of the cluster for a link. `None`: it does not say.
    pub of: Option<String>,
    /// Whether an agent that lives here needs it.
    pub needed: bool,
}

/// Everything of ours. `rules`: what `iptables -S` and `ip6tables -S` show, each with what its rules are.
#[must_use]
pub fn things(
    seen: &Seen,
    addresses: &[(String, Ipv4Addr)],
    tables: &[(String, String)],
    rules: &[(Kind, String)],
    living: &BTreeSet<String>,
) -> Vec<Thing> {
    let both = |agent: &String| [metric_of(agent), last_metric_of(metric_of(agent))];
    let metrics: BTreeMap<u32, &String> = living.iter().flat_map(|agent| both(agent).map(|metric| (metric, agent))).collect();
    let mut things = Vec::new();
    let ours = |name: &str| name.strip_prefix(LINK_PREFIX).filter(|id| is_id(id)).map(str::to_owned);
    for (number, link) in seen.links.iter().filter(|(_, link)| link.vxlan.is_some()) {
        let Some(cluster) = ours(&link.name) else { continue };
        let mut users = seen.routes.iter().filter(|route| route.link == Some(*number));
        let needed = users.any(|route| metrics.contains_key(&route.metric));
        things.push(Thing { kind: Kind::Link, name: link.name.clone(), of: Some(cluster), needed });
    }
    for (kind, prefix) in [(Kind::Link, wireguard::LINK_PREFIX), (Kind::Bridge, BRIDGE_PREFIX)] {
        for link in seen.links.values() {
            let Some(agent) = link.name.strip_prefix(prefix).filter(|id| is_id(id)) else { continue };
            let needed = living.contains(agent);
            things.push(Thing { kind, name: link.name.clone(), of: Some(agent.to_owned()), needed });
        }
    }
    for route in &seen.routes {
        let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
        let device =
            route.link.and_then(|link| seen.links.get(&link)).map(|link| format!(" dev {}", link.name)).unwrap_or_default();
        let owner = metrics.get(&route.metric).map(|agent| (*agent).clone());
        things.push(Thing {
            kind: Kind::Route,
            name: format!("{}{via}{device} proto {PROTOCOL} metric {}", route.to, route.metric),
            needed: owner.is_some(),
            of: owner,
        });
    }
    for (label, address) in addresses {
        let Some(agent) = label.strip_prefix(LABEL_PREFIX).filter(|id| is_id(id)) else { continue };
        let needed = living.contains(agent);
        things.push(Thing { kind: Kind::Address, name: format!("{address} label {label}"), of: Some(agent.to_owned()), needed });
    }
    for (family, table) in tables {
        let Some(agent) = table.strip_prefix("bramble-").and_then(|rest| rest.get(..8)).filter(|id| is_id(id)) else { continue };
        let needed = living.contains(agent);
        things.push(Thing { kind: Kind::Table, name: format!("{family} {table}"), of: Some(agent.to_owned()), needed });
    }
    // Rules bear a comment with the agent's eight digits (`pod_network/guard.rs`).
    let lines = rules.iter().flat_map(|(kind, text)| text.lines().map(move |line| (*kind, line)));
    for (kind, rule) in lines.filter(|(_, line)| line.starts_with("-A ")) {
        let mut words = rule.split_whitespace().skip_while(|word| *word != "--comment").skip(1);
        let comment = words.next().and_then(|word| word.trim_matches('"').strip_prefix("bramble-"));
        let Some(agent) = comment.filter(|id| is_id(id)) else { continue };
        let needed = living.contains(agent);
        things.push(Thing { kind, name: rule.to_owned(), of: Some(agent.to_owned()), needed });
    }
    things
}

#[cfg(test)]
mod tests {
    use super::super::seen::{Link, Route, Vxlan};
    use super::*;

    #[test]
    fn what_is_ours_is_told_with_whose_it_is_and_what_is_not_is_not() {
        let living = living(
            "Num RefCount Protocol Flags Type St Inode Path\n0000: 2 0 0 2 1 1 /run/x.sock\n0000: 2 0 0 2 1 2 @bramble-network-0a1b2c3d\n0000: 2 0 0 2 1 3 @bramble-network-x\n",
        );
        assert_eq!(living, ["0a1b2c3d".to_owned()].into());
        let device = |name: &str| Link {
            name: name.into(),
            vxlan: Some(Vxlan { vni: 1, port: 1, local: None, mac: None, learning: false }),
            ..Link::default()
        };
        let route =
            |metric, link| Route { to: "10.244.2.0/24".parse().unwrap(), via: None, link: Some(link), source: None, metric };
        let of_ipv6 = Route { to: "fd12:0:0:102::/64".parse().unwrap(), ..route(metric_of("99999999"), 8) };
        let named = |name: &str| Link { name: name.into(), ..Link::default() };
        let last = Route { via: None, link: None, ..route(last_metric_of(metric_of("0a1b2c3d")), 0) };
        let seen = Seen {
            links: [
                (7, device("bvx-11111111")),
                (8, device("bvx-22222222")),
                (9, device("flannel.1")),
                (10, named("brm-0a1b2c3d")),
                (11, named("bwg-99999999")),
            ]
            .into(),
            routes: [route(metric_of("0a1b2c3d"), 7), route(metric_of("99999999"), 8), of_ipv6, last].into(),
            ..Seen::default()
        };
        let tables: Vec<(String, String)> = ["bramble-0a1b2c3d", "bramble-99999999-overlay", "bramble-mine", "filter"]
            .map(|name| ("ip".to_owned(), name.to_owned()))
            .to_vec();
        let addresses = [("lo:0a1b2c3d", 240), ("lo:99999999", 241), ("lo:mine", 242)]
            .map(|(label, last)| (label.to_owned(), Ipv4Addr::new(192, 0, 2, last)));
        let rules =
            "-N DOCKER-USER\n-A DOCKER-USER -i br-x -m comment --comment bramble-99999999 -j ACCEPT\n-A DOCKER-USER -j RETURN\n";
        let rules = [(Kind::Rule, rules.to_owned()), (Kind::Rule6, rules.to_owned())];
        let told: Vec<String> = things(&seen, &addresses, &tables, &rules, &living)
            .iter()
            .map(|thing| format!("{:?} {} {}", thing.kind, thing.name.chars().take(24).collect::<String>(), thing.needed))
            .collect();
        assert_eq!(
            told,
            [
                "Link bvx-11111111 true",
                "Link bvx-22222222 false",
                "Link bwg-99999999 false",
                "Bridge brm-0a1b2c3d true",
                "Route 10.244.2.0/24 proto 98 m true",
                "Route 10.244.2.0/24 dev bvx-11 true",
                "Route 10.244.2.0/24 dev bvx-22 false",
                "Route fd12:0:0:102::/64 dev bv false",
                "Address 192.0.2.240 label lo:0a1 true",
                "Address 192.0.2.241 label lo:999 false",
                "Table ip bramble-0a1b2c3d true",
                "Table ip bramble-99999999-over false",
                "Rule -A DOCKER-USER -i br-x - false",
                "Rule6 -A DOCKER-USER -i br-x - false",
            ]
        );
    }
}
