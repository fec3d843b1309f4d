//! The cluster's names: an index over the network's share.
//!
//! In:       services, endpoint slices and the cluster's network of a [`Share`].
//! Out:      a [`Zone`]: which services there are, where they are, and which names addresses have.
//! Never:    makes records (`answer.rs`), or looks at a question.
//!
//! It is made once a share, in one pass, and holds per endpoint its address, its label and its share of a list of ports: 500 services
//! with 5,000 endpoints come to less than 1 MiB (a test holds it to that).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::DEFAULT_DOMAIN;
use crate::agent::mdns::names;
use crate::api::Object;
use crate::api::core::service::Service;
use crate::api::discovery::endpoint_slice::{EndpointSlice, SERVICE_NAME};
use crate::link::share::Share;

/// What the cluster's names are.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// The labels of the cluster's domain, in lower case, in order.
    domain: Vec<String>,
    /// Whether the share has told of the network at all: before it has, no name of the cluster is known not to be.
    known: bool,
    /// By `service.namespace`.
    services: HashMap<Box<str>, Entry>,
    namespaces: HashSet<Box<str>>,
    /// Which names an address has, without the domain: `service.namespace.svc`, `host.service.namespace.svc`.
    reverse: HashMap<IpAddr, Vec<Box<str>>>,
    /// All pods' addresses, one range a family.
    pods: Vec<IpNet>,
    service_ranges: Vec<IpNet>,
    dns: Vec<IpAddr>,
    /// Names in the local network that services and ingresses have, by the label before `.local`.
    local: BTreeMap<String, Vec<IpAddr>>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its name leads.
    pub at: At,
    /// Its named ports, as the service has them.
    pub ports: Vec<Port>,
}

/// Where a service's name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// To addresses of its own.
    Addresses(Vec<IpAddr>),
    /// To those who serve it; in order of their labels.
    Endpoints(Vec<Endpoint>),
    /// To another name.
    Name(Box<str>),
}

/// One who serves a service that has no address of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its label below the service's name: its host name, else its address with dashes.
    pub label: Box<str>,
    /// Where it is.
    pub address: IpAddr,
    /// The ports that it serves at; shared by all of its slice.
    pub ports: Arc<[Port]>,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name, in lower case.
    pub name: Box<str>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Its number.
    pub number: u16,
}

impl Zone {
    /// The index over a share.
    #[must_use]
    pub fn of(share: &Share) -> Self {
        let network = share.network.as_ref();
        let domain = network.map(|network| network.domain.as_str()).filter(|domain| !domain.is_empty()).unwrap_or(DEFAULT_DOMAIN);
        let mut zone = Self {
            domain: domain.trim_matches('.').to_ascii_lowercase().split('.').map(str::to_owned).collect(),
            known: network.is_some(),
            ..Self::default()
        };
        if let Some(network) = network {
            zone.pods = read([&network.pods, &network.pods6]);
            zone.service_ranges = read([&network.services, &network.services6]);
            zone.dns = read([&network.dns, &network.dns6]);
        }
        let slices = slices_by_service(share);
        for service in share.services.values() {
            zone.add(service, &slices);
        }
        zone.add_name_server();
        let local = names::all(share).into_iter();
        zone.local = local.map(|(name, all)| (name, all.into_iter().map(IpAddr::V4).collect())).collect();
        zone
    }

    fn add(&mut self, object: &Object, slices: &BTreeMap<(&str, &str), Vec<&Object>>) {
        let (namespace, name) = (object.namespace(), object.name());
        if !is_label(namespace) || !is_label(name) {
            return;
        }
        let service = Service(object);
        let at = if service.is_external_name() {
            At::Name(object.str_at(&["spec", "externalName"]).trim_end_matches('.').into())
        } else if service.is_headless() {
            let slices = slices.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
            At::Endpoints(endpoints(slices))
        } else {
            At::Addresses(service.cluster_ips().filter_map(|address| address.parse().ok()).collect())
        };
        let ports = service.ports().filter_map(|port| Some((port.name(), port.protocol(), port.port()?)));
        self.insert(namespace, name, Entry { at, ports: named(ports) });
    }

    fn insert(&mut self, namespace: &str, name: &str, entry: Entry) {
        match &entry.at {
            At::Addresses(addresses) => {
                for &address in addresses {
                    self.reverse.entry(address).or_default().push(format!("{name}.{namespace}.svc").into());
                }
            }
            At::Endpoints(endpoints) => {
                for endpoint in endpoints {
                    let names = self.reverse.entry(endpoint.address).or_default();
                    let full: Box<str> = format!("{}.{name}.{namespace}.svc", endpoint.label).into();
                    if !names.contains(&full) {
                        names.push(full);
                    }
                }
            }
            At::Name(_) => {}
        }
        self.namespaces.insert(namespace.into());
        self.services.insert(format!("{name}.{namespace}").into(), entry);
    }

    /// Programs look for the name server under the name that it has everywhere else.
    fn add_name_server(&mut self) {
        if self.dns.is_empty() || self.services.contains_key("kube-dns.kube-system") {
            return;
        }
        let port = |name: &str, protocol| Port { name: name.into(), protocol, number: 53 };
        let ports = vec![port("dns", "udp"), port("dns-tcp", "tcp")];
        self.insert("kube-system", "kube-dns", Entry { at: At::Addresses(self.dns.clone()), ports });
    }

    /// Whether the share has told of the network.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// The labels of the cluster's domain, in lower case.
    #[must_use]
    pub fn domain(&self) -> &[String] {
        &self.domain
    }

    /// A service, by its name and namespace in lower case.
    #[must_use]
    pub fn service(&self, name: &str, namespace: &str) -> Option<&Entry> {
        // A label may hold a dot, which would make one name out of two.
        if name.contains('.') || namespace.contains('.') {
            return None;
        }
        self.services.get(format!("{name}.{namespace}").as_str())
    }

    /// Where a name in the local network leads, by the label before `.local`; `None` for one that no service has.
    #[must_use]
    pub fn local(&self, label: &str) -> Option<&[IpAddr]> {
        self.local.get(label).map(Vec::as_slice)
    }

    /// Whether there is a service in it.
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// The names of an address, without the domain.
    #[must_use]
    pub fn names_of(&self, address: IpAddr) -> &[Box<str>] {
        self.reverse.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    /// The cluster's range in which an address is.
    #[must_use]
    pub fn range_of(&self, address: IpAddr) -> Option<IpNet> {
        self.pods.iter().chain(&self.service_ranges).find(|range| range.contains(&address)).copied()
    }

    /// Whether it is an address of a pod; which pod has it, or none, is not known here.
    #[must_use]
    pub fn is_of_pods(&self, address: IpAddr) -> bool {
        self.pods.iter().any(|range| range.contains(&address))
    }

    /// The addresses that the name server has as a service.
    #[must_use]
    pub fn dns(&self) -> &[IpAddr] {
        &self.dns
    }
}

impl Entry {
    /// Its addresses, each once.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.at {
            At::Addresses(addresses) => addresses.clone(),
            At::Endpoints(endpoints) => {
                let mut addresses: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
                addresses.sort_unstable();
                addresses.dedup();
                addresses
            }
            At::Name(_) => Vec::new(),
        }
    }

    /// Those of its endpoints that have this label.
    #[must_use]
    pub fn endpoints_of(&self, label: &str) -> &[Endpoint] {
        let At::Endpoints(endpoints) = &self.at else { return &[] };
        let from = endpoints.partition_point(|endpoint| *endpoint.label < *label);
        let to = endpoints.partition_point(|endpoint| *endpoint.label <= *label);
        endpoints.get(from..to).unwrap_or_default()
    }
}

/// Those that are there and can be read.
fn read<T: std::str::FromStr>(texts: [&String; 2]) -> Vec<T> {
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

fn slices_by_service(share: &Share) -> BTreeMap<(&str, &str), Vec<&Object>> {
    let mut slices: BTreeMap<(&str, &str), Vec<&Object>> = BTreeMap::new();
    for slice in share.endpoint_slices.values() {
        if let Some(service) = slice.label(SERVICE_NAME) {
            slices.entry((slice.namespace(), service)).or_default().push(slice);
        }
    }
    slices
}

/// Whoever is ready; the master says who counts as ready (`publishNotReadyAddresses`).
fn endpoints(slices: &[&Object]) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for slice in slices.iter().copied().map(EndpointSlice).filter(|slice| slice.address_type() != "FQDN") {
        let ports = slice.ports().filter_map(|port| Some((port.name(), port.protocol(), port.port()?)));
        let ports: Arc<[Port]> = named(ports).into();
        for endpoint in slice.endpoints().filter(|endpoint| endpoint.is_ready()) {
            let Some(address) = endpoint.address() else { continue };
            let hostname = endpoint.hostname().filter(|name| is_label(name)).map(str::to_ascii_lowercase);
            let label = hostname.unwrap_or_else(|| dashed(address)).into();
            all.push(Endpoint { label, address, ports: Arc::clone(&ports) });
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The ports that have a name: only these have records.
fn named<'a>(ports: impl Iterator<Item = (&'a str, &'a str, u16)>) -> Vec<Port> {
    let protocol = |protocol: &str| match protocol {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    };
    let named = ports.filter(|(name, ..)| is_label(name));
    named
        .filter_map(|(name, spoken, number)| {
            Some(Port { name: name.to_ascii_lowercase().into(), protocol: protocol(spoken)?, number })
        })
        .collect()
}

/// `10-244-0-5`, `fd00--5`.
#[must_use]
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// Whether it can stand as one label of a name.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::link::network::ClusterNetwork;
    use serde_json::{Value, json};

    /// A share with these services and slices.
    pub(crate) fn share(services: Vec<Value>, slices: Vec<Value>) -> Share {
        let keyed = |objects: Vec<Value>| {
            let object = |value| Arc::new(Object::from_value(value).unwrap());
            let named = |object: Arc<Object>| (format!("{}/{}", object.namespace(), object.name()), object);
            objects.into_iter().map(object).map(named).collect()
        };
        let network = ClusterNetwork {
            pods: "10.244.0.0/16".into(),
            services: "10.96.0.0/16".into(),
            dns: "10.96.0.10".into(),
            domain: "cluster.local".into(),
            ..ClusterNetwork::default()
        };
        Share { network: Some(network), services: keyed(services), endpoint_slices: keyed(slices), ..Share::default() }
    }

    /// A service of the namespace `home`.
    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    pub(crate) fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "home"}, "spec": spec})
    }

    /// A slice of a service of the namespace `home`.
    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    pub(crate) fn slice(name: &str, service: &str, endpoints: Value, ports: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "home", "labels": {SERVICE_NAME: service}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports})
    }

    #[test]
    fn endpoints_of_all_slices_count_once_and_only_ready_ones() {
        let ready = |address: &str, ready: bool| json!({"addresses": [address], "conditions": {"ready": ready}});
        let zone = Zone::of(&share(
            vec![service("db", json!({"clusterIP": "None"}))],
            vec![
                slice("a", "db", json!([ready("10.244.1.2", true), ready("10.244.1.1", true)]), json!([])),
                slice(
                    "b",
                    "db",
                    json!([ready("10.244.1.2", true), ready("10.244.1.3", false), ready("rubbish", true)]),
                    json!([]),
                ),
                json!({"metadata": {"name": "c", "namespace": "home", "labels": {SERVICE_NAME: "db"}}, "addressType": "FQDN",
                    "endpoints": [{"addresses": ["10.244.1.4"]}]}),
                slice("d", "other", json!([ready("10.244.1.5", true)]), json!([])),
            ],
        ));
        let addresses: Vec<String> = zone.service("db", "home").unwrap().addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.244.1.1", "10.244.1.2"]);
        assert_eq!(&*zone.names_of("10.244.1.2".parse().unwrap())[0], "10-244-1-2.db.home.svc");
        assert!(zone.names_of("10.244.1.5".parse().unwrap()).is_empty());
    }

    #[test]
    fn names_that_cannot_be_labels_are_left_out() {
        let odd = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": "10.96.0.1"}});
        let long = "x".repeat(64);
        let zone = Zone::of(&share(vec![odd("a.b", "home"), odd(&long, "home"), odd("a", "b.home"), odd("", "home")], vec![]));
        assert_eq!(zone.services.len(), 1, "the name server's alone: {:?}", zone.services.keys());
        assert!(zone.service("a.b", "home").is_none() && zone.service("a", "b.home").is_none());
    }

    #[test]
    fn an_empty_share_is_not_known_and_has_the_usual_domain() {
        let zone = Zone::of(&Share::default());
        assert!(!zone.is_known() && zone.domain() == ["cluster", "local"]);
        assert!(zone.services.is_empty());
    }

    /// 500 services with ten endpoints each.
    pub(crate) fn large() -> Share {
        let services = (0..500).map(|n| {
            let address = if n % 2 == 0 { "None".to_owned() } else { format!("10.96.{}.{}", n / 250, n % 250 + 2) };
            service(&format!("service-{n}"), json!({"clusterIP": address, "ports": [{"name": "http", "port": 80}]}))
        });
        let slices = (0..500).map(|n| {
            let endpoints = (0..10).map(|m| json!({"addresses": [format!("10.244.{}.{}", n / 2, (n % 2) * 100 + m + 2)]}));
            let endpoints: Vec<Value> = endpoints.collect();
            slice(&format!("slice-{n}"), &format!("service-{n}"), json!(endpoints), json!([{"name": "http", "port": 8080}]))
        });
        share(services.collect(), slices.collect())
    }

    #[test]
    fn a_large_cluster_is_indexed_in_little_memory() {
        let zone = Zone::of(&large());
        let text = |text: &str| text.len() + 16;
        let entry = |entry: &Entry| {
            let own = size_of::<Entry>() + entry.ports.len() * size_of::<Port>() + 32;
            let At::Endpoints(endpoints) = &entry.at else { return own };
            own + endpoints.iter().map(|endpoint| size_of::<Endpoint>() + text(&endpoint.label)).sum::<usize>()
        };
        let services: usize = zone.services.iter().map(|(key, value)| text(key) + size_of::<Box<str>>() + entry(value)).sum();
        let names = |names: &Vec<Box<str>>| {
            size_of::<(IpAddr, Vec<Box<str>>)>() + names.iter().map(|name| text(name) + 64).sum::<usize>()
        };
        let bytes = services + zone.reverse.values().map(names).sum::<usize>();
        assert_eq!(zone.reverse.len(), 250 + 2500 + 1);
        assert!(bytes < 1 << 20, "{bytes}");
    }
}
