//! What a question for one of the cluster's names is answered.
//!
//! In:       the [`Zone`], the question's name and type, a turn that decides who comes first.
//! Out:      [`Found`]: the records, or that the name is not the cluster's.
//! Never:    asks others (`forward.rs`), or makes a message (`question.rs`).
//! Source:   kubernetes/dns specification 1.1.0, §2.2 to 2.6. As CoreDNS does: SRV of a service itself gives all of its ports; a chain of
//!           external names that leads nowhere is told as far as it goes; weights of SRV share 100.
//!
//! ```text
//!  svc.ns.svc.D            A, AAAA: the service's addresses, or of all its ready endpoints · SRV: all ports · CNAME: external name
//!  host.svc.ns.svc.D       A, AAAA of one endpoint without a service address; 10-244-0-5 for one without a host name
//!  _port._proto.svc.ns.…   SRV
//!  10-244-0-5.ns.pod.D     A (fd00--5: AAAA), if it is an address of a pod; which pod has it, and where, is not looked at ("insecure" in CoreDNS)
//!  dns-version.D           TXT
//!  NAME.local              A, if a service or an ingress of the cluster has this name in the local network; others are asked elsewhere
//!  5.0.244.10.in-addr.arpa PTR (ip6.arpa as well), for addresses of services and of their endpoints
//! ```
//! A name of the cluster is never asked for elsewhere, nor is a reverse name of its ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::TTL_SECONDS;
use super::zone::{At, Endpoint, Entry, Zone};

/// The version of the specification.
const VERSION: &str = "1.1.0";
/// Names that one external name may lead over. Source: CoreDNS' seven.
const MOST_NAMES: usize = 8;
/// Records of one answer: a message has room for 64 KiB, and nobody tries more addresses.
const MOST_RECORDS: usize = 500;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // it is moved once, and most are answers
pub enum Found {
    /// It is not the cluster's.
    NotOurs,
    /// It would be the cluster's, and the share has not come yet.
    NotKnown,
    /// This.
    Answer(Answer),
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether there is such a name.
    pub code: ResponseCode,
    /// What was asked for; a chain of names first.
    pub answers: Vec<Record>,
    /// What saves the next question.
    pub additionals: Vec<Record>,
    /// For how long nothing is to be asked again, where there is nothing.
    pub authority: Option<Record>,
    /// The chain leads to this name, which is not the cluster's.
    pub onward: Option<Name>,
}

/// Answers from the zone. Of several records, the one at `turn` comes first.
#[must_use]
pub fn lookup(zone: &Zone, name: &Name, kind: RecordType, turn: usize) -> Found {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    if let Some(below) = reverse(&labels) {
        return of_address(zone, name, kind, below);
    }
    if let [label, "local"] = labels.as_slice()
        && let Some(addresses) = zone.local(label)
    {
        let mut asked = Asked { zone, kind, turn, answer: Answer::default() };
        asked.addresses(name, addresses);
        return Found::Answer(asked.answer);
    }
    let domain: Vec<&str> = zone.domain().iter().map(String::as_str).collect();
    let Some(rest) = labels.strip_suffix(domain.as_slice()) else { return Found::NotOurs };
    if !zone.is_known() {
        return Found::NotKnown;
    }
    let mut at = Asked { zone, kind, turn, answer: Answer::default() };
    let there = at.walk(name, rest);
    let Asked { mut answer, .. } = at;
    if there == There::No && answer.answers.is_empty() {
        answer.code = ResponseCode::NXDomain;
    }
    if answer.answers.is_empty() && answer.onward.is_none() && answer.code != ResponseCode::ServFail {
        answer.authority = soa(zone, &domain);
    }
    Found::Answer(answer)
}

/// A question on its way through the zone.
struct Asked<'a> {
    zone: &'a Zone,
    kind: RecordType,
    turn: usize,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Yes,
    No,
}

impl Asked<'_> {
    fn walk(&mut self, name: &Name, rest: &[&str]) -> There {
        match rest {
            [] => self.apex(name),
            ["dns-version"] => {
                if self.wants(RecordType::TXT) {
                    self.add(name, RData::TXT(TXT::new(vec![VERSION.to_owned()])));
                }
            }
            ["svc" | "pod" | "dns"] => {}
            ["ns", "dns"] => {
                self.addresses(name, self.zone.dns());
            }
            [namespace, "svc"] if self.zone.has_namespace(namespace) => {}
            [_, "pod"] => {}
            [address, _, "pod"] => return self.pod(name, address),
            [service, namespace, "svc"] => {
                let Some(entry) = self.zone.service(service, namespace) else { return There::No };
                self.service(name, entry, &[service, namespace, "svc"]);
            }
            [label, service, namespace, "svc"] => {
                let Some(entry) = self.zone.service(service, namespace) else { return There::No };
                return self.below_service(name, entry, label);
            }
            [port, protocol, service, namespace, "svc"] => {
                let Some(entry) = self.zone.service(service, namespace) else { return There::No };
                return self.port(name, entry, port, protocol, &[service, namespace, "svc"]);
            }
            _ => return There::No,
        }
        There::Yes
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    fn add(&mut self, name: &Name, data: RData) {
        self.answer.answers.push(Record::from_rdata(name.clone(), TTL_SECONDS, data));
    }

    fn apex(&mut self, name: &Name) {
        let domain: Vec<&str> = self.zone.domain().iter().map(String::as_str).collect();
        if self.wants(RecordType::SOA) {
            self.answer.answers.extend(soa(self.zone, &domain));
        }
        if self.wants(RecordType::NS)
            && let Some(server) = self.full(&["ns", "dns"])
        {
            self.add(name, RData::NS(NS(server.clone())));
            let addresses = self.zone.dns().iter().map(|address| record(&server, *address));
            self.answer.additionals.extend(addresses);
        }
    }

    /// A name of the cluster.
    fn full(&self, labels: &[&str]) -> Option<Name> {
        full(self.zone, labels)
    }

    fn addresses(&mut self, name: &Name, addresses: &[IpAddr]) {
        let wanted = |address: &&IpAddr| self.wants(if address.is_ipv4() { RecordType::A } else { RecordType::AAAA });
        let mut wanted: Vec<IpAddr> = addresses.iter().filter(wanted).copied().collect();
        turned(&mut wanted, self.turn);
        self.answer.answers.extend(wanted.into_iter().take(MOST_RECORDS).map(|address| record(name, address)));
    }

    fn pod(&mut self, name: &Name, label: &str) -> There {
        let address = [".", ":"].iter().find_map(|point| label.replace('-', point).parse::<IpAddr>().ok());
        match address.filter(|address| self.zone.is_of_pods(*address)) {
            Some(address) => {
                self.addresses(name, &[address]);
                There::Yes
            }
            None => There::No,
        }
    }

    fn service(&mut self, name: &Name, entry: &Entry, labels: &[&str]) {
        match &entry.at {
            At::Name(target) => self.follow(name, target),
            _ if self.kind == RecordType::SRV => self.ports(name, entry, labels, |_, _| true),
            _ => self.addresses(name, &entry.addresses()),
        }
    }

    /// `host.service…`, and `_tcp.service…` above the names of ports.
    fn below_service(&mut self, name: &Name, entry: &Entry, label: &str) -> There {
        if let Some(protocol) = label.strip_prefix('_') {
            return if entry.ports.iter().any(|port| port.protocol == protocol) { There::Yes } else { There::No };
        }
        let endpoints = entry.endpoints_of(label);
        if endpoints.is_empty() {
            return There::No;
        }
        let mut addresses: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        addresses.dedup();
        self.addresses(name, &addresses);
        There::Yes
    }

    fn port(&mut self, name: &Name, entry: &Entry, port: &str, protocol: &str, labels: &[&str]) -> There {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else { return There::No };
        let of_entry = entry.ports.iter().any(|one| *one.name == *port && one.protocol == protocol);
        if !of_entry || matches!(entry.at, At::Name(_)) {
            return There::No;
        }
        if self.wants(RecordType::SRV) {
            self.ports(name, entry, labels, |name, spoken| name == port && spoken == protocol);
        }
        There::Yes
    }

    /// SRV records of those ports: at the service's address, or at each endpoint.
    fn ports(&mut self, name: &Name, entry: &Entry, labels: &[&str], wanted: impl Fn(&str, &str) -> bool) {
        let mut found: Vec<(Name, u16)> = Vec::new();
        let mut targets: Vec<(Name, IpAddr)> = Vec::new();
        if let At::Endpoints(endpoints) = &entry.at {
            let mut endpoints: Vec<&Endpoint> = endpoints.iter().collect();
            turned(&mut endpoints, self.turn);
            for endpoint in endpoints.into_iter().take(MOST_RECORDS) {
                let Some(target) = self.full(&[&[&*endpoint.label], labels].concat()) else { continue };
                let ports = endpoint.ports.iter().filter(|port| wanted(&port.name, port.protocol));
                // One pod is two endpoints of one name where it has two addresses.
                for port in ports.map(|port| (target.clone(), port.number)) {
                    if endpoint.address.is_ipv4() || !found.contains(&port) {
                        found.push(port);
                    }
                }
                targets.push((target, endpoint.address));
            }
        } else if let Some(target) = self.full(labels) {
            let ports = entry.ports.iter().filter(|port| wanted(&port.name, port.protocol));
            found.extend(ports.map(|port| (target.clone(), port.number)));
            targets.extend(entry.addresses().into_iter().map(|address| (target.clone(), address)));
        }
        found.truncate(MOST_RECORDS);
        let weight = u16::try_from(100 / found.len().max(1)).unwrap_or_default().max(1);
        for (target, port) in found {
            self.add(name, RData::SRV(SRV::new(0, weight, port, target)));
        }
        if !self.answer.answers.is_empty() {
            self.answer.additionals.extend(targets.into_iter().map(|(target, address)| record(&target, address)));
        }
    }

    /// Follows an external name through the cluster, as far as it leads.
    fn follow(&mut self, name: &Name, target: &str) {
        let mut from = name.clone();
        let mut target = target.to_owned();
        let mut passed = vec![name.to_lowercase()];
        for _ in 0..MOST_NAMES {
            // One that is too long, or is none, cannot stand in an answer.
            let Some(to) = parsed(&target) else {
                self.answer.code = ResponseCode::ServFail;
                return;
            };
            self.add(&from, RData::CNAME(CNAME(to.clone())));
            if self.kind == RecordType::CNAME || passed.contains(&to.to_lowercase()) {
                return;
            }
            passed.push(to.to_lowercase());
            let labels: Vec<String> = to.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let domain: Vec<&str> = self.zone.domain().iter().map(String::as_str).collect();
            let Some(rest) = labels.strip_suffix(domain.as_slice()) else {
                self.answer.onward = Some(to);
                return;
            };
            let next = match rest {
                [service, namespace, "svc"] => self.zone.service(service, namespace),
                _ => None,
            };
            match next.map(|entry| &entry.at) {
                Some(At::Name(next)) => {
                    from = to;
                    target = next.to_string();
                }
                _ => {
                    if self.walk(&to, rest) == There::No {
                        self.answer.code = ResponseCode::NXDomain;
                    }
                    return;
                }
            }
        }
    }
}

/// An address that a reverse name names, whole or in part.
struct Below {
    address: IpAddr,
    /// So many bits of it are named.
    bits: u8,
}

/// What a reverse name names; `None` for any other name.
fn reverse(labels: &[&str]) -> Option<Below> {
    let number = |text: &&str| text.parse::<u8>().ok().filter(|number| number.to_string() == **text);
    match labels {
        [labels @ .., "in-addr", "arpa"] if labels.len() <= 4 => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip(labels.iter().rev()) {
                *octet = number(label)?;
            }
            Some(Below { address: Ipv4Addr::from(octets).into(), bits: u8::try_from(labels.len() * 8).ok()? })
        }
        [labels @ .., "ip6", "arpa"] if labels.len() <= 32 => {
            let mut address: u128 = 0;
            for (at, label) in labels.iter().rev().enumerate() {
                let digit = Some(*label).filter(|label| label.len() == 1)?;
                address |= u128::from(u8::from_str_radix(digit, 16).ok()?) << (124 - 4 * at);
            }
            Some(Below { address: Ipv6Addr::from(address).into(), bits: u8::try_from(labels.len() * 4).ok()? })
        }
        _ => None,
    }
}

fn of_address(zone: &Zone, name: &Name, kind: RecordType, below: Below) -> Found {
    let (whole, step) = if below.address.is_ipv4() { (below.bits == 32, 8) } else { (below.bits == 128, 4) };
    let names = if whole { zone.names_of(below.address) } else { &[] };
    // The zone of a range is cut where its octets end, or its hexadecimal digits; what is above it is not the cluster's alone.
    let cut = |range: &IpNet| range.prefix_len() / step;
    let range = zone.range_of(below.address).filter(|range| below.bits >= cut(range) * step);
    if names.is_empty() && range.is_none() {
        return Found::NotOurs;
    }
    let mut answer = Answer::default();
    if matches!(kind, RecordType::PTR | RecordType::ANY) {
        let full = names.iter().filter_map(|name| full(zone, &name.split('.').collect::<Vec<_>>()));
        let records = full.map(|target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target))));
        answer.answers.extend(records.take(MOST_RECORDS));
    }
    if answer.answers.is_empty() {
        if names.is_empty() && whole {
            answer.code = ResponseCode::NXDomain;
        }
        let count = range.map_or(0, |range| usize::from(cut(&range)));
        let mut labels: Vec<String> = match below.address {
            IpAddr::V4(address) => address.octets().iter().map(ToString::to_string).collect(),
            IpAddr::V6(address) => format!("{:032x}", u128::from(address)).chars().map(String::from).collect(),
        };
        labels.truncate(count);
        labels.reverse();
        let end = if below.address.is_ipv4() { "in-addr" } else { "ip6" };
        let labels: Vec<&str> = labels.iter().map(String::as_str).chain([end, "arpa"]).collect();
        answer.authority = soa(zone, &labels);
    }
    Found::Answer(answer)
}

/// A record with an address.
#[must_use]
pub fn record(name: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

fn turned<T>(list: &mut [T], turn: usize) {
    if let Some(by) = turn.checked_rem(list.len()) {
        list.rotate_left(by);
    }
}

/// A name of the cluster's domain.
fn full(zone: &Zone, labels: &[&str]) -> Option<Name> {
    named(labels.iter().copied().chain(zone.domain().iter().map(String::as_str)))
}

fn named<'a>(labels: impl Iterator<Item = &'a str>) -> Option<Name> {
    Name::from_labels(labels.map(str::as_bytes)).ok()
}

fn parsed(text: &str) -> Option<Name> {
    let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
    // A root is no name of anything.
    if labels.iter().any(|label| label.is_empty()) { None } else { named(labels.into_iter()) }
}

/// The start of a zone: says for how long a name that is not there is not to be asked for again.
fn soa(zone: &Zone, labels: &[&str]) -> Option<Record> {
    let name = named(labels.iter().copied())?;
    let (server, person) = (full(zone, &["ns", "dns"])?, full(zone, &["hostmaster"])?);
    let ttl = i32::try_from(TTL_SECONDS).unwrap_or_default();
    // Nobody transfers it, so its number and its other times say nothing.
    let soa = SOA::new(server, person, 1, 7200, 1800, 86400.max(ttl), TTL_SECONDS);
    Some(Record::from_rdata(name, TTL_SECONDS, RData::SOA(soa)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dns::zone::tests::{service, share, slice};
    use crate::agent::mdns::names::tests as local;
    use serde_json::json;

    #[test]
    fn pods_are_told_the_names_that_services_have_in_the_local_network() {
        let services = [local::service("home", json!({"type": "NodePort"}), json!({}))];
        let zone = Zone::of(&local::share(&[("a", "True"), ("b", "True")], &services, &[]));
        let ask = |name: &str, kind| lookup(&zone, &Name::from_ascii(name).unwrap(), kind, 0);
        let Found::Answer(answer) = ask("HOME.local.", RecordType::A) else { panic!("it is ours") };
        assert_eq!(answer.answers.len(), 2);
        let Found::Answer(answer) = ask("home.local.", RecordType::AAAA) else { panic!("it is ours") };
        assert_eq!((answer.code, answer.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(ask("printer.local.", RecordType::A), Found::NotOurs);
    }

    fn zone() -> Zone {
        let ports = json!([{"name": "http", "port": 80}, {"port": 9, "name": "", "protocol": "UDP"}]);
        let endpoints = json!([
            {"addresses": ["10.244.1.1"], "hostname": "db-0"}, {"addresses": ["10.244.1.2"]},
            {"addresses": ["10.244.1.3"], "conditions": {"ready": false}},
        ]);
        let alias = |name: &str, to: &str| service(name, json!({"type": "ExternalName", "externalName": to}));
        Zone::of(&share(
            vec![
                service("web", json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ports": ports})),
                service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
                service("empty", json!({"clusterIP": "None"})),
                alias("out", "printer.example"),
                alias("in", "web.home.svc.cluster.local."),
                alias("gone", "nobody.home.svc.cluster.local"),
                alias("a", "b.home.svc.cluster.local"),
                alias("b", "A.home.svc.cluster.local"),
                alias("long", &"x.".repeat(130)),
                alias("labels", &"x".repeat(64)),
            ],
            vec![slice("s", "db", endpoints, json!([{"name": "sql", "port": 5433}]))],
        ))
    }

    fn told(found: &Found) -> String {
        let Found::Answer(answer) = found else { return format!("{found:?}") };
        let code = match answer.code {
            ResponseCode::NoError if answer.answers.is_empty() && answer.authority.is_some() => "NODATA".to_owned(),
            ResponseCode::NoError => String::new(),
            code => format!("{code:?}").to_uppercase(),
        };
        let shown = |record: &Record| format!("{} {}", record.record_type(), record.data);
        let mut parts: Vec<String> = answer.answers.iter().map(shown).collect();
        parts.extend(answer.additionals.iter().map(|record| format!("+{} {}", record.name, record.data)));
        parts.extend(answer.onward.iter().map(|name| format!("> {name}")));
        parts.extend(Some(code).filter(|code| !code.is_empty()));
        parts.join(", ")
    }

    fn ask(name: &str, kind: RecordType) -> String {
        let name = Name::from_ascii(format!("{name}.")).unwrap();
        told(&lookup(&zone(), &name, kind, 0))
    }

    #[test]
    fn names_are_answered_as_the_specification_says() {
        use RecordType as T;
        let d = "cluster.local";
        for (name, kind, expected) in [
            ("web.home.svc", T::A, "A 10.96.0.7"),
            ("web.home.svc", T::AAAA, "AAAA fd00::7"),
            ("WEB.Home.SVC", T::A, "A 10.96.0.7"),
            ("web.home.svc", T::MX, "NODATA"),
            (
                "web.home.svc",
                T::SRV,
                "SRV 0 100 80 web.home.svc.cluster.local., +web.home.svc.cluster.local. 10.96.0.7, +web.home.svc.cluster.local. fd00::7",
            ),
            (
                "_http._tcp.web.home.svc",
                T::SRV,
                "SRV 0 100 80 web.home.svc.cluster.local., +web.home.svc.cluster.local. 10.96.0.7, +web.home.svc.cluster.local. fd00::7",
            ),
            ("_http._udp.web.home.svc", T::SRV, "NXDOMAIN"),
            ("_http._tcp.web.home.svc", T::A, "NODATA"),
            ("_tcp.web.home.svc", T::SRV, "NODATA"),
            ("_udp.web.home.svc", T::SRV, "NXDOMAIN"),
            ("nobody.home.svc", T::A, "NXDOMAIN"),
            ("web.away.svc", T::A, "NXDOMAIN"),
            ("db.home.svc", T::A, "A 10.244.1.1, A 10.244.1.2"),
            ("db.home.svc", T::AAAA, "NODATA"),
            ("db-0.db.home.svc", T::A, "A 10.244.1.1"),
            ("10-244-1-2.db.home.svc", T::A, "A 10.244.1.2"),
            ("10-244-1-1.db.home.svc", T::A, "NXDOMAIN"),
            ("10-244-1-3.db.home.svc", T::A, "NXDOMAIN"),
            ("db-0.web.home.svc", T::A, "NXDOMAIN"),
            (
                "_sql._tcp.db.home.svc",
                T::SRV,
                "SRV 0 50 5433 10-244-1-2.db.home.svc.cluster.local., SRV 0 50 5433 db-0.db.home.svc.cluster.local., +10-244-1-2.db.home.svc.cluster.local. 10.244.1.2, +db-0.db.home.svc.cluster.local. 10.244.1.1",
            ),
            ("empty.home.svc", T::A, "NODATA"),
            ("home.svc", T::A, "NODATA"),
            ("away.svc", T::A, "NXDOMAIN"),
            ("svc", T::A, "NODATA"),
            ("dns-version", T::TXT, "TXT 1.1.0"),
            ("dns-version", T::A, "NODATA"),
            ("10-244-0-5.home.pod", T::A, "A 10.244.0.5"),
            ("10-244-0-5.home.pod", T::AAAA, "NODATA"),
            ("192-168-0-5.home.pod", T::A, "NXDOMAIN"),
            ("rubbish.home.pod", T::A, "NXDOMAIN"),
            ("home.pod", T::A, "NODATA"),
            ("a.b.c.d.e.f.svc", T::A, "NXDOMAIN"),
            ("kube-dns.kube-system.svc", T::A, "A 10.96.0.10"),
            ("ns.dns", T::A, "A 10.96.0.10"),
            ("out.home.svc", T::A, "CNAME printer.example., > printer.example."),
            ("out.home.svc", T::CNAME, "CNAME printer.example."),
            ("in.home.svc", T::A, "CNAME web.home.svc.cluster.local., A 10.96.0.7"),
            ("gone.home.svc", T::A, "CNAME nobody.home.svc.cluster.local., NXDOMAIN"),
            ("a.home.svc", T::A, "CNAME b.home.svc.cluster.local., CNAME A.home.svc.cluster.local."),
            ("long.home.svc", T::A, "SERVFAIL"),
            ("labels.home.svc", T::A, "SERVFAIL"),
        ] {
            assert_eq!(ask(&format!("{name}.{d}"), kind), expected, "{name} {kind}");
        }
        assert_eq!(ask(d, T::A), "NODATA");
        assert_eq!(ask(d, T::NS), "NS ns.dns.cluster.local., +ns.dns.cluster.local. 10.96.0.10");
        assert!(ask(d, T::SOA).starts_with("SOA ns.dns.cluster.local. hostmaster.cluster.local."));
    }

    #[test]
    fn reverse_names_of_the_clusters_ranges_never_leave() {
        use RecordType as T;
        for (name, kind, expected) in [
            ("7.0.96.10.in-addr.arpa", T::PTR, "PTR web.home.svc.cluster.local."),
            ("1.1.244.10.IN-ADDR.arpa", T::PTR, "PTR db-0.db.home.svc.cluster.local."),
            ("2.1.244.10.in-addr.arpa", T::PTR, "PTR 10-244-1-2.db.home.svc.cluster.local."),
            ("2.1.244.10.in-addr.arpa", T::A, "NODATA"),
            ("9.1.244.10.in-addr.arpa", T::PTR, "NXDOMAIN"),
            ("244.10.in-addr.arpa", T::SOA, "NODATA"),
            ("1.1.168.192.in-addr.arpa", T::PTR, "NotOurs"),
            ("10.in-addr.arpa", T::PTR, "NotOurs"),
            ("in-addr.arpa", T::PTR, "NotOurs"),
            ("ip6.arpa", T::PTR, "NotOurs"),
            ("x.1.244.10.in-addr.arpa", T::PTR, "NotOurs"),
            (
                "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
                T::PTR,
                "PTR web.home.svc.cluster.local.",
            ),
            ("8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", T::PTR, "NotOurs"),
        ] {
            assert_eq!(ask(name, kind), expected, "{name} {kind}");
        }
        let name = Name::from_ascii("9.1.244.10.in-addr.arpa.").unwrap();
        let Found::Answer(answer) = lookup(&zone(), &name, T::PTR, 0) else { panic!() };
        assert_eq!(answer.authority.unwrap().name.to_string(), "244.10.in-addr.arpa.");
    }

    #[test]
    fn a_cluster_of_both_families_answers_for_both() {
        use RecordType as T;
        let endpoint = |address: &str| json!([{"addresses": [address], "hostname": "db-0"}]);
        let ports = json!([{"name": "sql", "port": 5433}]);
        let mut six = slice("s6", "db", endpoint("fd00:0:0:101::5"), ports.clone());
        six["addressType"] = json!("IPv6");
        let both = json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]});
        let mut share = share(vec![service("db", both)], vec![slice("s", "db", endpoint("10.244.1.5"), ports), six]);
        let network = share.network.as_mut().unwrap();
        (network.pods6, network.services6) = ("fd00:0:0:100::/56".into(), "fd00::/112".into());
        network.dns6 = "fd00::a".into();
        let zone = Zone::of(&share);
        let ask = |name: &str, kind| told(&lookup(&zone, &Name::from_ascii(format!("{name}.")).unwrap(), kind, 0));
        let arpa = |address: &str| {
            let digits = format!("{:032x}", u128::from(address.parse::<Ipv6Addr>().unwrap()));
            digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa"
        };
        for (name, kind, expected) in [
            ("db.home.svc.cluster.local", T::A, "A 10.244.1.5"),
            ("db.home.svc.cluster.local", T::AAAA, "AAAA fd00:0:0:101::5"),
            ("db-0.db.home.svc.cluster.local", T::AAAA, "AAAA fd00:0:0:101::5"),
            (
                "_sql._tcp.db.home.svc.cluster.local",
                T::SRV,
                "SRV 0 100 5433 db-0.db.home.svc.cluster.local., +db-0.db.home.svc.cluster.local. 10.244.1.5, +db-0.db.home.svc.cluster.local. fd00:0:0:101::5",
            ),
            ("kube-dns.kube-system.svc.cluster.local", T::AAAA, "AAAA fd00::a"),
            ("ns.dns.cluster.local", T::AAAA, "AAAA fd00::a"),
            ("fd00-0-0-101--5.home.pod.cluster.local", T::AAAA, "AAAA fd00:0:0:101::5"),
            ("fd00-0-0-101--5.home.pod.cluster.local", T::A, "NODATA"),
            ("fd11--5.home.pod.cluster.local", T::AAAA, "NXDOMAIN"),
            (&arpa("fd00:0:0:101::5"), T::PTR, "PTR db-0.db.home.svc.cluster.local."),
            (&arpa("fd00::a"), T::PTR, "PTR kube-dns.kube-system.svc.cluster.local."),
            (&arpa("fd00:0:0:101::6"), T::PTR, "NXDOMAIN"),
            ("3.0.1.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", T::PTR, "NODATA"),
            ("1.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", T::SOA, "NODATA"),
            ("0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", T::SOA, "NotOurs"),
            ("xx.1.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", T::PTR, "NotOurs"),
            (&arpa("fd11::5"), T::PTR, "NotOurs"),
        ] {
            assert_eq!(ask(name, kind), expected, "{name} {kind}");
        }
        let name = Name::from_ascii(format!("{}.", arpa("fd00:0:0:101::6"))).unwrap();
        let Found::Answer(answer) = lookup(&zone, &name, T::PTR, 0) else { panic!() };
        assert_eq!(answer.authority.unwrap().name.to_string(), "1.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.");
    }

    #[test]
    fn other_names_are_not_ours_and_none_is_denied_before_it_is_known() {
        assert_eq!(ask("example.com", RecordType::A), "NotOurs");
        assert_eq!(ask("cluster.local.example.com", RecordType::A), "NotOurs");
        let early = Zone::of(&crate::link::share::Share::default());
        let name = Name::from_ascii("web.home.svc.cluster.local.").unwrap();
        assert_eq!(lookup(&early, &name, RecordType::A, 0), Found::NotKnown);
    }

    #[test]
    fn everybody_comes_first_in_turn_and_the_case_of_the_question_is_kept() {
        let name = Name::from_ascii("Db.Home.svc.Cluster.local.").unwrap();
        let first = |turn| {
            let Found::Answer(answer) = lookup(&zone(), &name, RecordType::A, turn) else { panic!() };
            assert_eq!(answer.answers.first().unwrap().name.to_ascii(), "Db.Home.svc.Cluster.local.");
            answer.answers.first().unwrap().data.to_string()
        };
        assert_eq!([first(0), first(1), first(2)], ["10.244.1.1", "10.244.1.2", "10.244.1.1"]);
    }
}
