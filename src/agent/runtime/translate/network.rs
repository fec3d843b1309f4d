//! From names, ports and kernel settings to Docker's body and `HostConfig` of the sandbox.
//!
//! All containers of a pod join the sandbox, and so see its `/etc/hosts` and host name. Whom they ask for names is a file of the pod's
//! own, mounted into each of them (`docker/names.rs`): on a network that a person could have made, Docker puts a resolver of its own in
//! between, which answers for names of containers and for the addresses of the whole network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::{PortPlan, SandboxPlan};

/// Puts the pod's side of the network into the sandbox's body and `HostConfig`.
pub(super) fn network(body: &mut Value, host: &mut Value, plan: &SandboxPlan) {
    if !plan.host_network {
        set(body, "Hostname", json!(plan.hostname));
        if !plan.domain.is_empty() {
            set(body, "Domainname", json!(plan.domain));
        }
    }
    if !plan.extra_hosts.is_empty() {
        set(host, "ExtraHosts", json!(plan.extra_hosts));
    }
    if !plan.sysctls.is_empty() {
        set(host, "Sysctls", json!(plan.sysctls));
    }
    ports(body, host, &plan.ports);
}

fn ports(body: &mut Value, host: &mut Value, ports: &[PortPlan]) {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    // What is no address Docker takes for every address of the host: such a port is not published at all.
    let published = |port: &&PortPlan| port.host_ip.is_empty() || port.host_ip.parse::<IpAddr>().is_ok();
    for port in ports.iter().filter(published) {
        let binding = json!({"HostIp": port.host_ip, "HostPort": port.host.to_string()});
        bindings.entry(format!("{}/{}", port.container, port.protocol)).or_default().push(binding);
    }
    if !bindings.is_empty() {
        set(body, "ExposedPorts", bindings.keys().map(|port| (port.clone(), json!({}))).collect());
        set(host, "PortBindings", json!(bindings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_what_is_no_address_is_not_published() {
        let plan = |host_ip: &str| PortPlan { host_ip: host_ip.to_owned(), host: 80, container: 80, protocol: "tcp".into() };
        for (host_ip, published) in
            [("", true), ("127.0.0.1", true), ("::1", true), ("localhost", false), ("192.168.1", false), ("127.0.0.1 ", false)]
        {
            let (mut body, mut host) = (json!({}), json!({}));
            ports(&mut body, &mut host, &[plan(host_ip)]);
            assert_eq!(host["PortBindings"].is_object(), published, "{host_ip:?}: {host}");
        }
    }
}
