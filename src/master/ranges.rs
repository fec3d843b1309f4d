//! Which addresses a cluster may have for its pods and services: none that this machine already knows the way to.
//!
//! In:       this machine's routes (`routes.rs`); the cluster's uid.
//! Out:      the first free of a short list, for `bramble start`; what is wrong with those that somebody chose, for `bramble master`.
//!           Ranges of IPv6 are made, not chosen: RFC 4193 has so many that nobody else has the same.
//! Never:    changes what was chosen once: pods have such addresses.

use ipnet::{Ipv4Net, Ipv6Net};

use crate::routes::{Route, overlap};

/// Pods' and services' ranges, in the order in which they are tried. The first is what kubeadm's users and upstream have; the others are
/// of those parts of RFC 1918 that routers and VPNs take last, and of RFC 6598, which is no home's.
const CHOICES: [(&str, &str); 6] = [
    ("10.244.0.0/16", "10.96.0.0/16"),
    ("10.42.0.0/16", "10.43.0.0/16"),
    ("172.30.0.0/16", "172.31.0.0/16"),
    ("10.212.0.0/16", "10.213.0.0/16"),
    ("100.72.0.0/16", "100.73.0.0/16"),
    ("192.168.240.0/21", "192.168.248.0/21"),
];
/// Devices that agents make for pods, and what they route over: `Owner::bridge` and the overlay's.
const OURS: [&str; 3] = ["brm-", "bvx-", "bwg-"];

/// The ranges of a cluster's pods and services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// `network.pods`.
    pub pods: Ipv4Net,
    /// `network.services`.
    pub services: Ipv4Net,
}

/// A range that is in use already, and by which route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash<'a> {
    /// The key of the configuration.
    pub key: &'static str,
    /// The range.
    pub range: Ipv4Net,
    /// The route.
    pub route: &'a Route,
}

impl Clash<'_> {
    /// Whether this machine itself has an address there, or its neighbours: then nobody reaches them any more.
    #[must_use]
    pub fn is_own(&self) -> bool {
        !self.route.forwarded
    }
}

impl std::fmt::Display for Clash<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, range, route } = self;
        let whose = if route.forwarded { "is reached over" } else { "is the network at" };
        write!(f, "{key} is {range}, and {} {whose} this machine's {}", route.range, route.device)
    }
}

/// What is wrong with these on a machine with such routes. What agents of this or another cluster made for pods is not counted: a
/// device of theirs, or a route to a node's part of the pod network.
#[must_use]
pub fn clashes<'a>(ranges: &Ranges, routes: &'a [Route]) -> Vec<Clash<'a>> {
    let within = |route: &Route| ranges.pods.contains(&route.range) && route.range.prefix_len() > ranges.pods.prefix_len();
    let ours = |route: &Route| within(route) && (route.forwarded || OURS.iter().any(|prefix| route.device.starts_with(prefix)));
    let both = [("network.pods", ranges.pods), ("network.services", ranges.services)];
    both.into_iter()
        .flat_map(|(key, range)| {
            let those = routes.iter().filter(move |route| overlap(&route.range, &range) && !ours(route));
            those.map(move |route| Clash { key, range, route })
        })
        .collect()
}

/// The first of the list that is free, or the first of all when none is: then it is said what clashes.
#[must_use]
pub fn choose(routes: &[Route]) -> Option<Ranges> {
    let all =
        CHOICES.iter().filter_map(|(pods, services)| Some(Ranges { pods: pods.parse().ok()?, services: services.parse().ok()? }));
    // Another cluster's pods are in the way of a new one.
    let free = |ranges: &Ranges| {
        !routes.iter().any(|route| overlap(&route.range, &ranges.pods) || overlap(&route.range, &ranges.services))
    };
    let all: Vec<Ranges> = all.collect();
    all.iter().find(|ranges| free(ranges)).or(all.first()).copied()
}

/// The IPv6 ranges of a cluster's pods and services: of a prefix of its own, whose 40 bits are the first of its uid, which are random.
/// `None` for a uid that does not begin with ten hexadecimal digits. Source: RFC 4193, 3.1 and 3.2.
#[must_use]
pub fn unique_local(uid: &str) -> Option<(Ipv6Net, Ipv6Net)> {
    let digits: String = uid.chars().filter(|digit| *digit != '-').take(10).collect();
    let id = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 10)?;
    let prefix = (0xfd << 120) | (id << 80);
    let pods = Ipv6Net::new((prefix | (0x100 << 64)).into(), 56).ok()?;
    Some((pods, Ipv6Net::new(prefix.into(), 112).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(range: &str, device: &str, forwarded: bool) -> Route {
        Route { range: range.parse().unwrap(), device: device.into(), forwarded }
    }

    #[test]
    fn the_first_that_nobody_at_home_uses_is_chosen() {
        let pods = |routes: &[Route]| choose(routes).unwrap().pods.to_string();
        assert_eq!(pods(&[]), "10.244.0.0/16");
        assert_eq!(pods(&[route("192.168.1.0/24", "eth0", false)]), "10.244.0.0/16");
        assert_eq!(pods(&[route("10.96.0.0/12", "tun0", true)]), "10.42.0.0/16");
        assert_eq!(pods(&[route("10.0.0.0/8", "wg0", true), route("172.16.0.0/12", "docker0", false)]), "100.72.0.0/16");
        assert_eq!(pods(&[route("10.244.3.0/24", "brm-0a1b2c3d", false)]), "10.42.0.0/16", "another cluster's");
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].map(|range| route(range, "vpn", true));
        assert_eq!(pods(&all), "10.244.0.0/16");
    }

    #[test]
    fn all_choices_can_be_configured_and_lie_apart() {
        for (pods, services) in CHOICES {
            let (pods, services): (Ipv4Net, Ipv4Net) = (pods.parse().unwrap(), services.parse().unwrap());
            assert!(!overlap(&pods, &services) && pods.trunc() == pods && services.trunc() == services);
            assert!((8..=24).contains(&pods.prefix_len()) && (12..=28).contains(&services.prefix_len()));
        }
    }

    #[test]
    fn a_cluster_has_a_prefix_of_its_own_by_its_uid() {
        let (pods, services) = unique_local("1234abcd-9f01-4c2d-8e3f-000000000000").unwrap();
        assert_eq!(
            (pods.to_string().as_str(), services.to_string().as_str()),
            ("fd12:34ab:cd9f:100::/56", "fd12:34ab:cd9f::/112")
        );
        for uid in ["", "1234", "my-cluster-1"] {
            assert_eq!(unique_local(uid), None, "{uid}");
        }
        let any = unique_local(&crate::rng::Rng::seeded(1, "cluster").uuid()).unwrap();
        assert!(!any.0.contains(&any.1) && any.0.trunc() == any.0);
    }

    #[test]
    fn what_clashes_is_told_and_our_own_does_not() {
        let ranges = Ranges { pods: "10.244.0.0/16".parse().unwrap(), services: "10.96.0.0/16".parse().unwrap() };
        let told = |routes: &[Route]| clashes(&ranges, routes).iter().map(ToString::to_string).collect::<Vec<_>>();
        let ours = [
            route("10.244.3.0/24", "brm-0a1b2c3d", false),
            route("10.244.4.0/24", "eth0", true),
            route("192.168.1.0/24", "eth0", false),
        ];
        assert!(told(&ours).is_empty());
        assert_eq!(
            told(&[route("10.244.1.0/24", "eth0", false)]),
            ["network.pods is 10.244.0.0/16, and 10.244.1.0/24 is the network at this machine's eth0"]
        );
        let vpn = [route("10.0.0.0/8", "tun0", true)];
        assert_eq!(told(&vpn).len(), 2);
        assert!(clashes(&ranges, &vpn).iter().all(|clash| !clash.is_own()));
    }
}
