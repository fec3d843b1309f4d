//! What of a pod's spec becomes its names, its name servers and its ports.
//!
//! In:       the pod's raw spec.
//! Out:      [`Names`], [`Dns`], [`PortPlan`]s, with words for what this node does not do.
//! Source:   upstream `GeneratePodHostNameAndDomain` and the kubelet's `GetPodDNS`.

use serde_json::Value;

use super::{flag, list, strings, text};
use crate::agent::dns::DEFAULT_DOMAIN;
use crate::agent::runtime::{Dns, DnsPolicy, PortPlan};

/// The kernel's limit for a host name.
const HOST_NAME_BYTES: usize = 64;

/// What a pod calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// What `hostname` says.
    pub(super) host: String,
    /// What comes after it in the full name; empty: nothing.
    pub(super) domain: String,
    /// Why it cannot have the name that it asks for.
    pub(super) refused: Option<String>,
}

/// The pod's names.
pub(super) fn names(spec: &Value, pod_name: &str, namespace: &str) -> Names {
    let asked = Some(text(spec, "hostname")).filter(|host| !host.is_empty()).unwrap_or(pod_name);
    // A label's limit: a pod's name may be longer.
    let host: String = asked.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned();
    let subdomain = text(spec, "subdomain");
    let domain = if subdomain.is_empty() { String::new() } else { format!("{subdomain}.{namespace}.svc.{DEFAULT_DOMAIN}") };
    if !flag(spec, "setHostnameAsFQDN") || domain.is_empty() {
        return Names { host, domain, refused: None };
    }
    let full = format!("{host}.{domain}");
    if full.len() > HOST_NAME_BYTES {
        let length = full.len();
        let why = format!(
            "failed to construct FQDN from Pod hostname and cluster domain, FQDN {full} is too long ({HOST_NAME_BYTES} characters is the max, {length} characters requested)"
        );
        return Names { host, domain, refused: Some(why) };
    }
    // Docker finds the short name by itself.
    Names { host: full, domain: String::new(), refused: None }
}

/// Whom the pod asks for names.
pub(super) fn dns(spec: &Value) -> Dns {
    let config = spec.get("dnsConfig").unwrap_or(&Value::Null);
    Dns {
        policy: match text(spec, "dnsPolicy") {
            "None" => DnsPolicy::Own,
            "Default" => DnsPolicy::Host,
            "ClusterFirstWithHostNet" => DnsPolicy::Cluster,
            // On the host's network the cluster's names are for those who ask for them.
            _ if flag(spec, "hostNetwork") => DnsPolicy::Host,
            _ => DnsPolicy::Cluster,
        },
        servers: strings(config, "nameservers"),
        searches: strings(config, "searches"),
        options: list(config, "options")
            .iter()
            .map(|option| (text(option, "name").to_owned(), option.get("value").and_then(Value::as_str).map(str::to_owned)))
            .collect(),
    }
}

/// `name:address` lines of `/etc/hosts`.
pub(super) fn hosts(spec: &Value) -> Vec<String> {
    let lines = |alias: &Value| {
        let ip = text(alias, "ip").to_owned();
        strings(alias, "hostnames").into_iter().map(move |host| format!("{host}:{ip}"))
    };
    list(spec, "hostAliases").iter().flat_map(lines).collect()
}

/// The ports of the node that lead into the pod: of its containers and sidecars. None with the host's network, where they
/// are the node's own.
pub(super) fn ports(spec: &Value) -> Vec<PortPlan> {
    if flag(spec, "hostNetwork") {
        return Vec::new();
    }
    let sidecars = list(spec, "initContainers").iter().filter(|container| text(container, "restartPolicy") == "Always");
    list(spec, "containers").iter().chain(sidecars).flat_map(|container| list(container, "ports")).filter_map(port).collect()
}

fn port(raw: &Value) -> Option<PortPlan> {
    let number =
        |key: &str| raw.get(key).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
    Some(PortPlan {
        host_ip: text(raw, "hostIP").to_owned(),
        host: number("hostPort")?,
        container: number("containerPort")?,
        protocol: match text(raw, "protocol") {
            "" => "tcp".to_owned(),
            protocol => protocol.to_ascii_lowercase(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_called_as_upstream_calls_it() {
        let long = "x".repeat(70);
        for (spec, host, domain) in [
            (json!({}), "web", ""),
            (json!({"hostname": "h"}), "h", ""),
            (json!({"subdomain": "s"}), "web", "s.default.svc.cluster.local"),
            (json!({"hostname": "h", "subdomain": "s"}), "h", "s.default.svc.cluster.local"),
            (json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}), "h.s.default.svc.cluster.local", ""),
            (json!({"hostname": "h", "setHostnameAsFQDN": true}), "h", ""),
        ] {
            let expected = Names { host: host.into(), domain: domain.into(), refused: None };
            assert_eq!(names(&spec, "web", "default"), expected, "{spec}");
        }
        assert_eq!(names(&json!({}), &long, "default").host.len(), 63);
        let too_long = names(&json!({"subdomain": "s", "setHostnameAsFQDN": true}), &long, "default");
        assert!(
            too_long.refused.is_some_and(|why| why.contains("is too long (64 characters is the max, 91 characters requested)"))
        );
    }

    #[test]
    fn whom_a_pod_asks_for_names_is_as_upstream_has_it() {
        for (spec, policy) in [
            (json!({}), DnsPolicy::Cluster),
            (json!({"dnsPolicy": "ClusterFirst"}), DnsPolicy::Cluster),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), DnsPolicy::Host),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), DnsPolicy::Cluster),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet"}), DnsPolicy::Cluster),
            (json!({"dnsPolicy": "Default"}), DnsPolicy::Host),
            (json!({"dnsPolicy": "None", "hostNetwork": true}), DnsPolicy::Own),
        ] {
            assert_eq!(dns(&spec).policy, policy, "{spec}");
        }
        let config = json!({"dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["lan"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}, null]}});
        let read = dns(&config);
        assert_eq!((read.servers.len(), read.searches.len(), read.options.len()), (1, 1, 3));
    }

    #[test]
    fn ports_are_those_of_containers_and_sidecars() {
        let spec = json!({
            "containers": [{"ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, {"containerPort": 9},
                                      {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]}],
            "initContainers": [{"ports": [{"containerPort": 1, "hostPort": 1}]},
                               {"restartPolicy": "Always", "ports": [{"containerPort": 2, "hostPort": 2}]}],
        });
        let found: Vec<String> = ports(&spec)
            .iter()
            .map(|port| format!("{}:{}:{}/{}", port.host_ip, port.host, port.container, port.protocol))
            .collect();
        assert_eq!(found, ["127.0.0.1:8080:80/tcp", ":53:53/udp", ":2:2/tcp"]);
        let mut host = spec;
        host["hostNetwork"] = json!(true);
        assert_eq!(ports(&host), []);
    }
}
