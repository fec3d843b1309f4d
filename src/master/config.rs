//! What `bramble master` is told: each key, its default, and which values make sense together.
//!
//! In:       a file, `BRAMBLE_SECTION__KEY`, flags (through [`crate::config::Reader`]).
//! Out:      a checked [`MasterConfig`], or every fault at once.
//! Never:    opens a port or a file that a key names.
//!
//! `docs/configuration.md` lists the keys for people; a test holds the two together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::api::core::address_pool::AddressPool;
use crate::apiserver::allocate::ServiceRanges;
use crate::config::{BrokerUrl, Faults, FileMay, Flag, Reader};

/// Where the configuration is when nobody says.
pub const DEFAULT_FILE: &str = "/etc/bramble/master.toml";
/// Where a daemon keeps its data when nobody says.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/bramble";

/// The master's configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterConfig {
    /// `data_dir`: the store, the lock and, by default, the certificates.
    pub data_dir: PathBuf,
    /// `cluster`: the name in topics (`bramble/<cluster>/…`).
    pub cluster: String,
    /// `cluster_uid`: marks what belongs to this cluster in Docker; `None`: the one that the data directory keeps.
    pub cluster_uid: Option<String>,
    /// `[api]`.
    pub api: Api,
    /// `[mqtt]`.
    pub mqtt: Mqtt,
    /// `[node]`.
    pub node: NodeLife,
    /// `master.grace_seconds`: after a start no node is judged and no pod replaced before its node reported or this passed.
    pub grace: Duration,
    /// `network.services`: the addresses of services.
    pub services: ServiceRanges,
    /// `[network]`, but for `network.services`.
    pub network: Network,
    /// `[tls]`.
    pub tls: TlsFiles,
    /// `mdns.announce`: whether nodes find this master by mDNS. When nobody says: unless only this machine reaches its API.
    pub announce: bool,
}

/// `[api]`: where kubectl is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `listen`: HTTPS.
    pub listen: SocketAddr,
}

/// `[mqtt]`: how nodes and people are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// `listen`: the embedded broker, TLS with client certificates. Unused with an external broker.
    pub listen: SocketAddr,
    /// `viewer_listen`: plain, loopback only, reading only; `None` when it is `"off"`, and with an external broker.
    pub viewer_listen: Option<SocketAddr>,
    /// `broker`: a broker of your own in place of the embedded one.
    pub broker: Option<BrokerUrl>,
}

/// `[node]`: when a silent node counts as lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLife {
    /// `lost_seconds`: silence until NotReady.
    pub lost: Duration,
    /// `evict_seconds`: from NotReady until its pods are replaced.
    pub evict: Duration,
}

/// `[network]`: what all nodes are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// `pods`: the addresses of all pods.
    pub pods: Ipv4Net,
    /// `pods`, the second range: their IPv6 addresses; `None` in a cluster of IPv4 only.
    pub pods6: Option<Ipv6Net>,
    /// `domain`: what stands behind a service's name.
    pub domain: String,
    /// `back_end`: how packets go from node to node.
    pub back_end: String,
    /// `load_balancers`: the addresses that services of type LoadBalancer get, one each; `None`: the nodes' own.
    pub load_balancers: Option<AddressPool>,
}

/// `[tls]`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `ca`: the cluster's CA.
    pub ca: PathBuf,
    /// `certificate`: of API and broker.
    pub certificate: PathBuf,
    /// `key`.
    pub key: PathBuf,
    /// `client_certificate`: the master's own at an external broker, CN=bramble-master.
    pub client_certificate: PathBuf,
    /// `client_key`.
    pub client_key: PathBuf,
    /// Whether the file named none of these, so that the master makes what is missing in `<data_dir>/pki`.
    pub own: bool,
}

/// The least `node.lost_seconds`: with the embedded broker its Server Keep Alive of 1 s bounds the silence; with an external one
/// the will of a pulled plug comes after one and a half keep-alives of 5 s.
fn least_lost_seconds(external: bool) -> u64 {
    if external { 8 } else { 2 }
}

/// A name that may stand in a topic and in a label: a DNS-1123 label.
pub(crate) fn is_cluster_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Names of services and namespaces still have to fit before it: 253 bytes in all.
fn is_domain(name: &str) -> bool {
    name.len() <= 100 && name.split('.').all(is_cluster_name)
}

impl MasterConfig {
    /// Reads and checks.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn load(
        file: Option<(&Path, FileMay)>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> Result<Self, Faults> {
        let mut reader = Reader::open(file, environment, flags);
        let made = Self::read(&mut reader);
        reader.finish(Some(made))
    }

    fn read(r: &mut Reader) -> Self {
        let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let data_dir = r.path("data_dir", "a directory").unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        let expected = "a DNS-1123 label: lower case letters, digits and `-`, at most 63";
        let cluster = r.parsed("cluster", expected, |name| is_cluster_name(name).then(|| name.to_owned()));
        let cluster_uid = r.text("cluster_uid", "the cluster's uid");
        let api = Api { listen: address(r, "api.listen").unwrap_or(any(6443)) };
        let broker = r.parsed("mqtt.broker", BrokerUrl::EXPECTED, BrokerUrl::parse);
        let listen = address(r, "mqtt.listen").unwrap_or(any(8883));
        let viewer = r.parsed(
            "mqtt.viewer_listen",
            "a loopback address with a port, like \"127.0.0.1:1883\" (it is served without TLS), or \"off\"",
            |text| match text {
                "off" => Some(None),
                text => text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback()).map(Some),
            },
        );
        let viewer_listen = viewer.unwrap_or(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883)));
        let mqtt = Mqtt { listen, viewer_listen: viewer_listen.filter(|_| broker.is_none()), broker };
        let least = least_lost_seconds(mqtt.broker.is_some());
        let lost = r.seconds("node.lost_seconds", 0).unwrap_or(Duration::from_secs(10));
        if lost < Duration::from_secs(least) {
            let why = match mqtt.broker {
                Some(_) => "an external broker reports a pulled plug only after 7.5 s",
                None => "a node's keep-alive with the embedded broker is 1 s",
            };
            r.fault("node.lost_seconds", format!("expected at least {least} ({why}), found {}", lost.as_secs()));
        }
        let evict = r.seconds("node.evict_seconds", 0).unwrap_or(Duration::from_secs(8));
        let grace = r.seconds("master.grace_seconds", 0).unwrap_or(Duration::from_secs(30));
        let services = r.parsed(
            "network.services",
            "a range of IPv4 addresses with 12 to 28 bits, like \"10.96.0.0/16\", that nobody at home uses; for dual-stack with one of IPv6 behind it, 108 to 124 bits, like \"10.96.0.0/16,fd12:3456:789a::/112\"",
            ServiceRanges::parse,
        );
        let services = services.unwrap_or_default();
        let network = Self::network(r, services);
        let tls = Self::tls(r, &data_dir);
        let announce = r.switch("mdns.announce").unwrap_or(!api.listen.ip().is_loopback());
        Self {
            data_dir,
            cluster: cluster.unwrap_or_else(|| "bramble".into()),
            cluster_uid,
            api,
            mqtt,
            node: NodeLife { lost, evict },
            grace,
            services,
            network,
            tls,
            announce,
        }
    }

    fn network(r: &mut Reader, services: ServiceRanges) -> Network {
        let pods = r.parsed(
            "network.pods",
            "a range of IPv4 addresses with 8 to 24 bits, like \"10.244.0.0/16\", that nobody at home uses; for dual-stack with one of IPv6 behind it, 48 to 112 bits, like \"10.244.0.0/16,fd12:3456:789a:100::/56\"",
            pod_ranges,
        );
        let (pods, pods6) = pods.unwrap_or_else(|| (Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16), None));
        // Whichever of the two was written down is the one to change.
        let key = if r.names("network.pods") { "network.pods" } else { "network.services" };
        if pods6.is_some() != services.v6.is_some() {
            // Here it is the one that lacks a range.
            let (has, lacks, example) = match pods6 {
                Some(_) => ("network.pods", "network.services", "10.96.0.0/16,fd12:3456:789a::/112"),
                None => ("network.services", "network.pods", "10.244.0.0/16,fd12:3456:789a:100::/56"),
            };
            r.fault(
                lacks,
                format!("expected a range of IPv6 behind the one of IPv4, like \"{example}\", since {has} has one, found none"),
            );
        }
        let both = |range: Option<Ipv6Net>, other: Option<IpNet>| range.map(IpNet::from).zip(other);
        let pairs = [(IpNet::from(pods), services.v4.into())];
        for (pods, services) in pairs.into_iter().chain(both(pods6, services.v6.map(IpNet::from))) {
            if services.contains(&pods) || pods.contains(&services) {
                r.fault(key, format!("expected ranges apart from each other, found {pods} for pods and {services} for services"));
            }
        }
        let expected = "a domain of DNS-1123 labels with dots between them, like \"cluster.local\"";
        let domain = r.parsed("network.domain", expected, |name| is_domain(name).then(|| name.to_owned()));
        let back_end = r.parsed("network.back_end", "\"auto\", \"route\", \"vxlan\" or \"wireguard\"", |name| {
            ["auto", "route", "vxlan", "wireguard"].contains(&name).then(|| name.to_owned())
        });
        let expected = "addresses of the local network that nobody else has or gives away, like \"192.168.1.240-192.168.1.250\", at most 4096";
        let load_balancers = r.parsed("network.load_balancers", expected, |text| {
            let apart = |pool: &AddressPool| [pods, services.v4_net()].iter().all(|range| !pool.overlaps(range));
            AddressPool::parse(text).filter(apart)
        });
        Network {
            pods,
            pods6,
            domain: domain.unwrap_or_else(|| "cluster.local".into()),
            back_end: back_end.unwrap_or_else(|| "auto".into()),
            load_balancers,
        }
    }

    /// All five files or none: a mixture of the cluster's CA and somebody else's certificates cannot work.
    fn tls(r: &mut Reader, data_dir: &Path) -> TlsFiles {
        let keys = ["tls.ca", "tls.certificate", "tls.key", "tls.client_certificate", "tls.client_key"];
        let given = keys.map(|key| r.path(key, "a PEM file"));
        let own = given.iter().all(Option::is_none);
        for (key, path) in keys.iter().zip(&given) {
            if !own && path.is_none() {
                r.fault(key, "expected a PEM file, since other files of [tls] are named, found nothing");
            }
        }
        let pki = data_dir.join("pki");
        let [ca, certificate, key, client_certificate, client_key] = given;
        TlsFiles {
            ca: ca.unwrap_or_else(|| pki.join("ca.crt")),
            certificate: certificate.unwrap_or_else(|| pki.join("server.crt")),
            key: key.unwrap_or_else(|| pki.join("server.key")),
            client_certificate: client_certificate.unwrap_or_else(|| pki.join("bramble-master.crt")),
            client_key: client_key.unwrap_or_else(|| pki.join("bramble-master.key")),
            own,
        }
    }
}

/// `10.244.0.0/16`, or `10.244.0.0/16,fd12:3456:789a:100::/56`, with no bit set behind the prefix.
fn pod_ranges(text: &str) -> Option<(Ipv4Net, Option<Ipv6Net>)> {
    let (v4, v6) = text.split_once(',').map_or((text, None), |(v4, v6)| (v4, Some(v6)));
    let v4: Ipv4Net = v4.trim().parse().ok()?;
    let v6: Option<Ipv6Net> = v6.map(|text| text.trim().parse()).transpose().ok()?;
    let fits4 = (8..=24).contains(&v4.prefix_len()) && v4.trunc() == v4;
    let fits6 = v6.is_none_or(|v6| (48..=112).contains(&v6.prefix_len()) && v6.trunc() == v6);
    (fits4 && fits6).then_some((v4, v6))
}

fn address(r: &mut Reader, key: &'static str) -> Option<SocketAddr> {
    r.parsed(key, "an address with a port, like \"0.0.0.0:6443\"", |text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<MasterConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.toml");
        std::fs::write(&file, text).unwrap();
        MasterConfig::load(Some((&file, FileMay::NotBeMissing)), [], &[]).map_err(|faults| faults.to_string())
    }

    #[test]
    fn nothing_at_all_gives_the_defaults() {
        let config = load("").unwrap();
        assert_eq!(config.api.listen.port(), 6443);
        assert_eq!(config.mqtt.listen.port(), 8883);
        assert_eq!(config.mqtt.viewer_listen, Some("127.0.0.1:1883".parse().unwrap()));
        assert_eq!((config.node.lost, config.node.evict), (Duration::from_secs(10), Duration::from_secs(8)));
        assert_eq!(config.grace, Duration::from_secs(30));
        let network = &config.network;
        assert_eq!((network.pods.to_string().as_str(), network.domain.as_str()), ("10.244.0.0/16", "cluster.local"));
        assert_eq!((network.back_end.as_str(), config.services.v4.dns().to_string().as_str()), ("auto", "10.96.0.10"));
        assert_eq!((network.pods6, config.services.v6), (None, None));
        assert!(config.tls.own && config.announce);
        assert!(!load("api.listen = '127.0.0.1:6443'").unwrap().announce, "nobody else could come");
        assert!(load("api.listen = '127.0.0.1:6443'\nmdns.announce = true").unwrap().announce);
        assert!(!load("mdns.announce = false").unwrap().announce);
        assert_eq!(config.tls.certificate, Path::new("/var/lib/bramble/pki/server.crt"));
    }

    #[test]
    fn two_ranges_make_a_cluster_dual_stack() {
        let config =
            load("[network]\npods = '10.42.0.0/16,fd12:3456:789a:100::/56'\nservices = '10.43.0.0/16, fd12:3456:789a::/112'");
        let config = config.unwrap();
        let pods6 = config.network.pods6.map(|range| range.to_string());
        assert_eq!(
            (config.network.pods.to_string().as_str(), pods6.as_deref()),
            ("10.42.0.0/16", Some("fd12:3456:789a:100::/56"))
        );
        assert_eq!(config.services.v6.map(|range| range.dns().to_string()).as_deref(), Some("fd12:3456:789a::a"));
    }

    #[test]
    fn values_that_do_not_go_together_are_refused_with_the_reason() {
        let cases = [
            ("node.lost_seconds = 1", "expected at least 2"),
            ("node.lost_seconds = 2", ""),
            ("node.evict_seconds = 0", ""),
            ("network.services = '172.20.0.0/20'", ""),
            ("network.services = '172.20.1.0/20'", "expected a range of IPv4 addresses"),
            ("network.services = '10.0.0.0/8'", "12 to 28 bits"),
            ("[network]\npods = '10.42.0.0/16'\ndomain = 'house.lan'\nback_end = 'vxlan'", ""),
            ("network.pods = '10.244.1.0/16'", "network.pods: expected a range of IPv4 addresses"),
            ("network.pods = '10.244.0.0/25'", "8 to 24 bits"),
            (
                "network.pods = '10.0.0.0/8'",
                "network.pods: expected ranges apart from each other, found 10.0.0.0/8 for pods and 10.96.0.0/16",
            ),
            ("network.services = '10.244.16.0/20'", "network.services: expected ranges apart from each other"),
            (
                "network.pods = '10.244.0.0/16,fd00:0:0:100::/56'",
                "network.services: expected a range of IPv6 behind the one of IPv4, like \"10.96",
            ),
            ("network.services = '10.96.0.0/16,fd00::/112'", "network.pods: expected a range of IPv6 behind"),
            ("network.services = 'fd00::/112'", "network.services: expected a range of IPv4 addresses"),
            ("network.services = 'fd00::/112,10.96.0.0/16'", "network.services: expected a range of IPv4 addresses"),
            ("network.services = '10.96.0.0/16,fd00::/64'", "108 to 124 bits"),
            ("network.pods = '10.244.0.0/16,fd00::/120'", "48 to 112 bits"),
            ("network.pods = '10.244.0.0/16,fd00::1/64'", "48 to 112 bits"),
            ("network.pods = '10.244.0.0/16,10.42.0.0/16'", "with one of IPv6 behind it"),
            (
                "[network]\npods = '10.244.0.0/16,fd00::/56'\nservices = '10.96.0.0/16,fd00::/112'",
                "network.pods: expected ranges apart from each other, found fd00::/56 for pods and fd00::/112 for services",
            ),
            ("network.domain = 'cluster..local'", "network.domain: expected a domain"),
            ("network.load_balancers = '192.168.1.240-192.168.1.250'", ""),
            ("network.load_balancers = '10.96.1.1-10.96.1.9'", "network.load_balancers: expected addresses of the local network"),
            ("network.load_balancers = '192.168.1.9-192.168.1.8'", "network.load_balancers: expected addresses"),
            ("network.back_end = 'ipip'", "network.back_end: expected \"auto\", \"route\""),
            ("[network]\npods = 'x'\nservices = 'y'\ndomain = '-'", "network.domain"),
            ("[mqtt]\nbroker = 'mqtts://home:8883'\n[node]\nlost_seconds = 7", "expected at least 8 (an external broker"),
            ("[mqtt]\nbroker = 'mqtts://home:8883'\n[node]\nlost_seconds = 8", ""),
            ("mqtt.viewer_listen = '0.0.0.0:1883'", "mqtt.viewer_listen: expected a loopback address"),
            ("mqtt.viewer_listen = 'off'", ""),
            ("cluster = 'My House'", "cluster: expected a DNS-1123 label"),
            ("cluster = 'a/#'", "cluster: expected a DNS-1123 label"),
            ("api.listen = 6443", "api.listen: expected an address with a port"),
            ("tls.ca = 'ca.pem'", "tls.client_key: expected a PEM file, since other"),
            ("[api]\nport = 1", "api.port: unknown key"),
        ];
        for (text, expected) in cases {
            match load(text) {
                Ok(_) => assert_eq!(expected, "", "{text}"),
                Err(told) => assert!(!expected.is_empty() && told.contains(expected), "{text}: {told}"),
            }
        }
    }

    #[test]
    fn an_external_broker_leaves_no_viewer() {
        assert_eq!(load("mqtt.broker = 'mqtt://home'").unwrap().mqtt.viewer_listen, None);
    }

    #[test]
    fn the_documentation_lists_just_these_keys() {
        let mut reader = Reader::open(None, [], &[]);
        let _ = MasterConfig::read(&mut reader);
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
        let section = text.split("\n## ").find(|section| section.starts_with("Master\n")).unwrap();
        let listed: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, reader.known().iter().copied().collect::<Vec<_>>());
    }
}
