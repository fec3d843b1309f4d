//! Who is behind a backend: the endpoints of a service's port, and in which order a request tries them.
//!
//! In:       services and endpoint slices.
//! Out:      an [`Upstream`]; without endpoints it says why.
//! Source:   kube-proxy's choice of endpoints: those that are ready; when all of them are on their way out, those that still serve.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::api::Object;
use crate::api::core::service::{Service, ServicePort};
use crate::api::discovery::endpoint_slice::{EndpointPort, EndpointSlice};
use crate::api::networking::ingress::{Backend, PortRef};
use crate::link::share::Share;

/// A service's port, and who serves it.
#[derive(Debug)]
pub(super) struct Upstream {
    /// `namespace/name`, for people.
    pub title: String,
    /// In the order of their addresses.
    endpoints: Vec<SocketAddr>,
    /// Why there are none; for people.
    pub lack: &'static str,
    /// The same client gets the same endpoint, as long as it is there.
    sticky: bool,
    /// Whose turn it is.
    next: AtomicUsize,
}

/// What a share says of services, as it is asked for here.
pub(super) struct Services<'a> {
    share: &'a Share,
    /// By `namespace/name` of the service.
    slices: BTreeMap<String, Vec<EndpointSlice<'a>>>,
}

impl<'a> Services<'a> {
    /// Of this share.
    pub fn of(share: &'a Share) -> Self {
        let mut slices: BTreeMap<String, Vec<EndpointSlice<'a>>> = BTreeMap::new();
        for (key, object) in &share.endpoint_slices {
            let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
            if let Some(service) = EndpointSlice(object).service() {
                slices.entry(format!("{namespace}/{service}")).or_default().push(EndpointSlice(object));
            }
        }
        Self { share, slices }
    }

    /// Who is behind a backend of an ingress in this namespace. `may_reach` says which addresses may be asked; `turn` who begins.
    pub fn upstream(
        &self,
        namespace: &str,
        backend: Option<Backend<'_>>,
        may_reach: fn(&IpAddr) -> bool,
        turn: usize,
    ) -> Upstream {
        let Some(backend) = backend else {
            return Upstream::without("-", "its backend is something else than a service, which is not served here");
        };
        let title = format!("{namespace}/{}", backend.service);
        let Some(service) = self.share.services.get(&title) else {
            return Upstream::without(&title, "there is no such service");
        };
        if Service(service).is_external_name() {
            return Upstream::without(&title, "it is only a name of something outside, which is not served here");
        }
        let Some(port) = port_name(service, backend.port) else {
            return Upstream::without(&title, "it has no such port");
        };
        let slices = self.slices.get(&title).map(Vec::as_slice).unwrap_or_default();
        let mut all: Vec<(SocketAddr, bool, bool)> = Vec::new();
        for slice in slices {
            let ports = slice.ports().filter(|one| one.name() == port && one.protocol() == "TCP").filter_map(EndpointPort::port);
            for number in ports {
                let reached = slice.endpoints().filter_map(|endpoint| Some((endpoint, endpoint.address()?)));
                let reached = reached.filter(|(_, address)| may_reach(address));
                all.extend(reached.map(|(one, address)| {
                    (SocketAddr::new(address, number), one.is_ready(), one.is_serving() && one.is_terminating())
                }));
            }
        }
        let some = |keep: fn(&(SocketAddr, bool, bool)) -> bool| -> Vec<SocketAddr> {
            let mut some: Vec<SocketAddr> = all.iter().filter(|one| keep(one)).map(|one| one.0).collect();
            some.sort_unstable();
            some.dedup();
            // A pod of two addresses is one pod, and every node has a way to the one of IPv4.
            if some.iter().any(SocketAddr::is_ipv4) {
                some.retain(SocketAddr::is_ipv4);
            }
            some
        };
        let ready = some(|one| one.1);
        let endpoints = if ready.is_empty() { some(|one| one.2) } else { ready };
        Upstream {
            lack: if endpoints.is_empty() { "none of its pods is ready" } else { "" },
            endpoints,
            sticky: service.str_at(&["spec", "sessionAffinity"]) == "ClientIP",
            next: AtomicUsize::new(turn),
            title,
        }
    }
}

/// The service's name for a port that serves HTTP: TCP.
fn port_name<'a>(service: &'a Object, port: PortRef<'a>) -> Option<&'a str> {
    let mut ports = Service(service).ports().filter(|one| one.protocol() == "TCP");
    let found = ports.find(|one| match port {
        PortRef::Name(name) => one.name() == name,
        PortRef::Number(number) => one.port() == Some(number),
    });
    found.map(ServicePort::name)
}

impl Upstream {
    /// Nobody, and why.
    pub fn without(title: &str, lack: &'static str) -> Self {
        Self { title: title.to_owned(), endpoints: Vec::new(), lack, sticky: false, next: AtomicUsize::new(0) }
    }

    /// Whom to ask for this client, one after the other: each in its turn, those that `is_shunned` last. At most `most`.
    pub fn order(&self, client: IpAddr, is_shunned: impl Fn(&SocketAddr) -> bool, most: usize) -> Vec<SocketAddr> {
        let mut order = self.endpoints.clone();
        if self.sticky {
            // Who is first for a client stays first when others come and go (rendezvous hashing).
            order.sort_by_key(|endpoint| std::cmp::Reverse(weight(client, endpoint)));
        } else if !order.is_empty() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % order.len();
            order.rotate_left(turn);
        }
        order.sort_by_key(is_shunned);
        order.truncate(most);
        order
    }
}

fn weight(client: IpAddr, endpoint: &SocketAddr) -> u64 {
    // Fixed keys: all nodes choose alike.
    let mut hasher = std::hash::DefaultHasher::new();
    (client, endpoint).hash(&mut hasher);
    hasher.finish()
}

/// An address at which pods and machines are: not this machine's own loopback, which is not the service's to open to the world, and
/// not one of a link alone, where a cloud tells its secrets.
pub(super) fn is_reachable(address: &IpAddr) -> bool {
    let plain = address.to_canonical();
    let of_a_link = match plain {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(plain.is_loopback() || plain.is_unspecified() || plain.is_multicast() || of_a_link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn share(service: Value, endpoints: Value) -> Share {
        let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
        let service = json!({"metadata": {"name": "web"}, "spec": service});
        let slice = json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "other", "port": 9}], "endpoints": endpoints});
        let mut share = Share::default();
        share.services.insert("default/web".into(), object(service));
        share.endpoint_slices.insert("default/web-x".into(), object(slice));
        share
    }

    fn found(share: &Share, port: PortRef<'_>) -> (Vec<String>, &'static str) {
        let backend = Backend { service: "web", port };
        let upstream = Services::of(share).upstream("default", Some(backend), is_reachable, 0);
        (upstream.endpoints.iter().map(SocketAddr::to_string).collect(), upstream.lack)
    }

    fn ports() -> Value {
        json!({"ports": [{"name": "dns", "port": 80, "protocol": "UDP"}, {"name": "http", "port": 80}, {"name": "more", "port": 81}]})
    }

    #[test]
    fn ready_endpoints_serve_and_in_need_those_on_their_way_out() {
        let ready = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": true}});
        let waiting = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
        let going = json!({"addresses": ["10.0.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        for (endpoints, expected) in [
            (json!([ready, waiting, going, ready]), &["10.0.0.2:8080"][..]),
            (json!([waiting, going]), &["10.0.0.4:8080"]),
            (json!([waiting]), &[]),
            (json!([ready, {"addresses": ["fd00::2"]}]), &["10.0.0.2:8080"]),
            (json!([waiting, {"addresses": ["fd00::2"]}]), &["[fd00::2]:8080"]),
            (json!([{"addresses": ["127.0.0.1"]}, {"addresses": ["169.254.169.254"]}, {"addresses": ["::ffff:127.0.0.1"]}]), &[]),
        ] {
            let share = share(ports(), endpoints.clone());
            for port in [PortRef::Number(80), PortRef::Name("http")] {
                assert_eq!(found(&share, port).0, expected, "{endpoints}");
            }
        }
    }

    #[test]
    fn what_is_missing_has_a_word() {
        let with = share(ports(), json!([]));
        assert_eq!(found(&with, PortRef::Number(80)).1, "none of its pods is ready");
        assert_eq!(found(&with, PortRef::Number(82)).1, "it has no such port");
        assert_eq!(found(&with, PortRef::Name("dns")).1, "it has no such port");
        assert_eq!(found(&Share::default(), PortRef::Number(80)).1, "there is no such service");
        let named = share(json!({"type": "ExternalName", "externalName": "a.b", "ports": [{"port": 80}]}), json!([]));
        assert!(found(&named, PortRef::Number(80)).1.starts_with("it is only a name"));
    }

    #[test]
    fn everybody_has_his_turn_and_who_is_shunned_comes_last() {
        let endpoints = json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]}]);
        let share_of = |affinity: &str| {
            let mut service = ports();
            service["sessionAffinity"] = json!(affinity);
            share(service, endpoints.clone())
        };
        let backend = Some(Backend { service: "web", port: PortRef::Number(80) });
        let (plain, sticky) = (share_of("None"), share_of("ClientIP"));
        let client: IpAddr = "192.168.1.7".parse().unwrap();
        let upstream = Services::of(&plain).upstream("default", backend, is_reachable, 1);
        let firsts: Vec<SocketAddr> = (0..4).map(|_| upstream.order(client, |_| false, 2)[0]).collect();
        assert_eq!(
            firsts.iter().map(|first| first.ip().to_string()).collect::<Vec<_>>(),
            ["10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.2"]
        );
        assert_eq!(upstream.order(client, |_| false, 2).len(), 2);
        let shunned: SocketAddr = "10.0.0.1:8080".parse().unwrap();
        assert!((0..3).all(|_| upstream.order(client, |one| *one == shunned, 3)[2] == shunned));
        let upstream = Services::of(&sticky).upstream("default", backend, is_reachable, 0);
        let first = upstream.order(client, |_| false, 3)[0];
        assert!((0..5).all(|_| upstream.order(client, |_| false, 3)[0] == first));
    }
}
