//! Shares of the network, made up.

use std::sync::Arc;

use anyhow::Context;
use bramble::api::Object;
use bramble::link::network::ClusterNetwork;
use bramble::link::share::Share;
use serde_json::{Value, json};

/// Endpoints of each of many services.
pub const ENDPOINTS: usize = 10;

/// Nodes (name, third number of its range, address) and no service.
pub fn share(back_end: &str, nodes: &[(&str, u8, &str)]) -> anyhow::Result<Share> {
    let network = ClusterNetwork {
        pods: "10.244.0.0/16".to_owned(),
        services: "10.96.0.0/16".to_owned(),
        dns: "10.96.0.10".to_owned(),
        domain: "cluster.local".to_owned(),
        back_end: back_end.to_owned(),
        ..ClusterNetwork::default()
    };
    let mut share = Share { network: Some(network), ..Share::default() };
    for (name, third, address) in nodes {
        let node = json!({"metadata": {"name": name}, "spec": {"podCIDRs": [format!("10.244.{third}.0/24")]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        share.peers.insert((*name).to_owned(), object(node)?);
    }
    Ok(share)
}

/// Adds a service at port 80, served by endpoints at their port 8080.
pub fn add(share: &mut Share, name: &str, ip: &str, endpoints: &[String]) -> anyhow::Result<()> {
    let spec = json!({"type": "ClusterIP", "clusterIP": ip, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    let service = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    share.services.insert(format!("default/{name}"), object(service)?);
    share.endpoint_slices.insert(format!("default/{name}"), object(slice(name, endpoints))?);
    Ok(())
}

/// Where a service is served.
pub fn slice(service: &str, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": {"namespace": "default", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080}]})
}

/// The addresses behind one of many services; nobody has them.
pub fn addresses(number: usize) -> Vec<String> {
    let at = |end: usize| format!("10.244.{}.{}", 100 + end / 250, 2 + end % 250);
    (number * ENDPOINTS..(number + 1) * ENDPOINTS).map(at).collect()
}

/// Many services, `s0` and so on; of the one that changed an endpoint is missing.
pub fn many(services: usize, changed: Option<usize>) -> anyhow::Result<Share> {
    let mut share = share("auto", &[("n1", 1, "192.0.2.1")])?;
    for number in 0..services {
        let mut ends = addresses(number);
        if changed == Some(number) {
            ends.pop();
        }
        add(&mut share, &format!("s{number}"), &format!("10.96.{}.{}", 1 + number / 250, 2 + number % 250), &ends)?;
    }
    Ok(share)
}

fn object(value: Value) -> anyhow::Result<Arc<Object>> {
    let object = Object::from_value(value).context("not an object")?;
    Ok(Arc::new(object))
}
