//! What is asked of services in more than one place. A lens: it borrows the object and keeps nothing.
//!
//! Never:    decides where traffic goes (`agent/proxy`), or which pods serve (`controller/serving.rs`).

use std::net::IpAddr;

use serde_json::Value;

use crate::api::object::Object;
use crate::api::selector::Selector;

/// A family of addresses, as the API names it.
pub const IPV4: &str = "IPv4";
/// The other one.
pub const IPV6: &str = "IPv6";
/// `spec.ipFamilyPolicy`: one family.
pub const SINGLE_STACK: &str = "SingleStack";
/// Both families, where the cluster has them.
pub const PREFER_DUAL_STACK: &str = "PreferDualStack";
/// Both families, or nothing.
pub const REQUIRE_DUAL_STACK: &str = "RequireDualStack";

/// The family of an address.
#[must_use]
pub fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { IPV4 } else { IPV6 }
}

/// A service, read.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a>(pub &'a Object);

/// One of a service's ports, read.
#[derive(Clone, Copy, Debug)]
pub struct ServicePort<'a>(pub &'a Value);

impl<'a> Service<'a> {
    /// `spec.type`; `ClusterIP` when nothing is said.
    #[must_use]
    pub fn kind(self) -> &'a str {
        match self.0.str_at(&["spec", "type"]) {
            "" => "ClusterIP",
            kind => kind,
        }
    }

    /// Whether it is only another name of something outside.
    #[must_use]
    pub fn is_external_name(self) -> bool {
        self.kind() == "ExternalName"
    }

    /// Whether it has no address of its own on purpose.
    #[must_use]
    pub fn is_headless(self) -> bool {
        self.0.str_at(&["spec", "clusterIP"]) == "None"
    }

    /// Whether it is reached at a port of each node.
    #[must_use]
    pub fn has_node_ports(self) -> bool {
        match self.kind() {
            "NodePort" => true,
            "LoadBalancer" => self.0.at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false)),
            _ => false,
        }
    }

    /// Whether who is outside of the cluster is to reach it: its type says so, or it has addresses there.
    #[must_use]
    pub fn is_reached_from_outside(self) -> bool {
        match self.kind() {
            "NodePort" | "LoadBalancer" => true,
            "ClusterIP" => !self.0.list_at(&["spec", "externalIPs"]).is_empty(),
            _ => false,
        }
    }

    /// Its own addresses; none when it is headless, or only a name.
    pub fn cluster_ips(self) -> impl Iterator<Item = &'a str> {
        let all = self.0.list_at(&["spec", "clusterIPs"]);
        let one = all.is_empty().then(|| self.0.str_at(&["spec", "clusterIP"]));
        all.iter().filter_map(Value::as_str).chain(one).filter(|address| !matches!(*address, "" | "None"))
    }

    /// The families of addresses that it speaks: `IPv4`, `IPv6`; `IPv4` when nothing is said.
    #[must_use]
    pub fn families(self) -> Vec<&'a str> {
        let given: Vec<&str> = self.0.list_at(&["spec", "ipFamilies"]).iter().filter_map(Value::as_str).collect();
        if given.is_empty() { vec![IPV4] } else { given }
    }

    /// Its ports.
    pub fn ports(self) -> impl Iterator<Item = ServicePort<'a>> {
        self.0.list_at(&["spec", "ports"]).iter().map(ServicePort)
    }

    /// Which pods serve it; `None` when somebody else says so, by hand.
    #[must_use]
    pub fn selector(self) -> Option<Selector> {
        let labels = self.0.at(&["spec", "selector"]).filter(|labels| !labels.is_null())?;
        Selector::from_map(labels).ok().filter(|selector| !selector.is_empty())
    }

    /// Whether pods that are not ready count as if they were.
    #[must_use]
    pub fn publishes_not_ready(self) -> bool {
        self.0.bool_at(&["spec", "publishNotReadyAddresses"])
    }
}

impl<'a> ServicePort<'a> {
    fn text(self, key: &str) -> &'a str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(self, key: &str) -> Option<u16> {
        self.0.get(key).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
    }

    /// Its name; `""` when it is the only one.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.text("name")
    }

    /// `TCP`, `UDP` or `SCTP`.
    #[must_use]
    pub fn protocol(self) -> &'a str {
        match self.text("protocol") {
            "" => "TCP",
            protocol => protocol,
        }
    }

    /// What is spoken on it, when that is said.
    #[must_use]
    pub fn app_protocol(self) -> Option<&'a str> {
        Some(self.text("appProtocol")).filter(|protocol| !protocol.is_empty())
    }

    /// At the service's own address.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.number("port")
    }

    /// At each node.
    #[must_use]
    pub fn node_port(self) -> Option<u16> {
        self.number("nodePort")
    }

    /// At a pod: a number, or the name of a port of one of its containers. `None` when the pod has no port of that name.
    #[must_use]
    pub fn target(self, pod: &Object) -> Option<u16> {
        let Some(target) = self.0.get("targetPort").filter(|target| !target.is_null()) else { return self.port() };
        if let Some(name) = target.as_str() {
            let always = |container: &&Value| container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
            let sidecars = pod.list_at(&["spec", "initContainers"]).iter().filter(always);
            let containers = pod.list_at(&["spec", "containers"]).iter().chain(sidecars);
            let ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
            let of_name = |port: &&Value| port.get("name").and_then(Value::as_str) == Some(name);
            let mut same = ports.filter(of_name).filter(|port| ServicePort(port).protocol() == self.protocol());
            return same.find_map(|port| ServicePort(port).number("containerPort"));
        }
        self.number("targetPort").or_else(|| self.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_target_is_a_number_or_a_name_of_the_pod() {
        let pod = Object::from_value(json!({"spec": {
            "containers": [{"ports": [{"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [{"ports": [{"name": "once", "containerPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 9}]}]}}))
        .unwrap();
        for (port, target) in [
            (json!({"port": 80}), Some(80)),
            (json!({"port": 80, "targetPort": 8000}), Some(8000)),
            (json!({"port": 80, "targetPort": "web"}), Some(8080)),
            (json!({"port": 53, "targetPort": "dns"}), None),
            (json!({"port": 53, "protocol": "UDP", "targetPort": "dns"}), Some(53)),
            (json!({"port": 80, "targetPort": "side"}), Some(9)),
            (json!({"port": 80, "targetPort": "once"}), None),
            (json!({"port": 80, "targetPort": 70_000}), Some(80)),
        ] {
            assert_eq!(ServicePort(&port).target(&pod), target, "{port}");
        }
    }

    #[test]
    fn who_selects_nothing_selects_by_hand() {
        for (spec, selects) in [
            (json!({}), false),
            (json!({"selector": null}), false),
            (json!({"selector": {}}), false),
            (json!({"selector": {"app": "web"}}), true),
        ] {
            let service = Object::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(Service(&service).selector().is_some(), selects, "{spec}");
        }
    }
}
