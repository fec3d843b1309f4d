//! `bramble service`: where a service is reached from outside the cluster, as `minikube service` tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::admin::{Admin, Which, table};
use crate::api::Object;
use crate::api::core::node::Node;
use crate::api::core::pod::Pod;
use crate::api::core::service::{Service, ServicePort};
use crate::api::discovery::endpoint_slice::{EndpointSlice, SERVICE_NAME};
use crate::clock::{Clock, SystemClock};
use crate::error::Report;

/// Between two looks for an endpoint.
const AGAIN: Duration = Duration::from_millis(500);
/// So many names are shown to somebody who mistyped one.
const NAMES: usize = 8;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A service of type NodePort or LoadBalancer is reached at its port of every node, one of type ClusterIP from inside the cluster only.\n\
    --url prints one URL for each port, for scripts: `curl $(bramble service hello --url)`. No browser is opened: most masters have no screen."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The service's name; `list`: all services
    name: String,
    /// Its namespace [default: default; with `list`: all]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Prints nothing but its URLs, one for each port, at one node that is ready
    #[arg(long)]
    url: bool,
    /// How many seconds to wait until it is served
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: super::Output,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let admin = args.which.open()?;
    if args.name == "list" {
        return list(&admin, args.namespace.as_deref(), args.output);
    }
    let namespace = args.namespace.as_deref().unwrap_or("default");
    let service = find(&admin, namespace, &args.name)?;
    reachable(&service)?;
    let cluster = wait(&admin, &service, Duration::from_secs(args.wait))?;
    let told = Told::of(&service, &cluster);
    if told.urls.is_empty() {
        return Err(Report::failed(format!("service {} is served, and no node is ready to reach it at", args.name))
            .fix("`bramble node list` tells how the nodes are"));
    }
    let text = match (args.url, args.output) {
        (_, super::Output::Json) => format!("{}\n", told.json()),
        (true, super::Output::Text) => told.short().into_iter().map(|url| format!("{url}\n")).collect(),
        (false, super::Output::Text) => format!(
            "{}\nReach it there from any machine of the network. No browser is opened here; a script gets it by `bramble service {} --url`.\n",
            table(&rows(&[told])),
            args.name
        ),
    };
    super::print(&text);
    if cluster.simulated() {
        eprintln!("note: the nodes are simulated: nothing answers there");
    }
    Ok(())
}

/// Nodes, and the slices that count.
struct Cluster {
    nodes: Vec<Object>,
    slices: Vec<Object>,
}

impl Cluster {
    fn look(admin: &Admin, namespace: Option<&str>) -> Result<Self, Report> {
        let place = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let slices = format!("/apis/discovery.k8s.io/v1{place}/endpointslices");
        Ok(Self {
            nodes: items(&admin.expect("nodes cannot be listed", "GET", "/api/v1/nodes", None)?),
            slices: items(&admin.expect("endpoints cannot be listed", "GET", &slices, None)?),
        })
    }

    fn simulated(&self) -> bool {
        let of = |node: &Object| node.str_at(&["status", "nodeInfo", "containerRuntimeVersion"]).starts_with("simulated://");
        !self.nodes.is_empty() && self.nodes.iter().all(of)
    }

    /// The node of each ready endpoint of a service; empty for one that is on none. A pod with an address of each family is one endpoint:
    /// the family that has most counts.
    fn served_on(&self, service: &Object) -> Vec<&str> {
        let own = |slice: &&Object| slice.namespace() == service.namespace() && slice.label(SERVICE_NAME) == Some(service.name());
        let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for slice in self.slices.iter().filter(own).map(EndpointSlice) {
            let ready = slice.endpoints().filter(|endpoint| endpoint.is_ready());
            families.entry(slice.address_type()).or_default().extend(ready.map(|endpoint| endpoint.node().unwrap_or_default()));
        }
        families.into_values().max_by_key(Vec::len).unwrap_or_default()
    }
}

fn items(list: &Object) -> Vec<Object> {
    list.list_at(&["items"]).iter().filter_map(|item| Object::from_value(item.clone())).collect()
}

/// The service, or who it may be that was meant.
fn find(admin: &Admin, namespace: &str, name: &str) -> Result<Object, Report> {
    let all = items(&admin.expect("services cannot be listed", "GET", "/api/v1/services", None)?);
    if let Some(service) = all.iter().find(|one| (one.namespace(), one.name()) == (namespace, name)) {
        return Ok(service.clone());
    }
    let report = Report::failed(format!("there is no service {name} in namespace {namespace}"));
    if let Some(other) = all.iter().find(|one| one.name() == name) {
        return Err(report.fix(format!("there is one in {0}: add -n {0}", other.namespace())));
    }
    let near = near(name, all.iter().filter(|one| one.namespace() == namespace).map(Object::name));
    Err(report.fix(if near.is_empty() {
        format!("there is none at all in that namespace; `bramble kubectl expose deployment {name} --type=NodePort --port=80` makes one")
    } else {
        format!("there are {}; `bramble service list` shows all", near.join(", "))
    }))
}

/// These names, the nearest first: by how much they share at the beginning.
fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let shared = |other: &str| name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let mut all: Vec<&str> = names.filter(|other| *other != "kubernetes").collect();
    all.sort_by_key(|other| (std::cmp::Reverse(shared(other)), *other));
    all.truncate(NAMES);
    all
}

/// Whether it can be reached from outside at all.
fn reachable(service: &Object) -> Result<(), Report> {
    let (name, namespace) = (service.name(), service.namespace());
    let read = Service(service);
    if read.is_external_name() {
        let other = service.str_at(&["spec", "externalName"]);
        return Err(Report::failed(format!("service {name} is only another name of {other}, and has no address of its own"))
            .fix(format!("reach {other} itself")));
    }
    if read.ports().any(|port| port.node_port().is_some()) || balanced(service).next().is_some() {
        return Ok(());
    }
    let inside = match read.cluster_ips().next() {
        Some(address) => {
            let ports: Vec<String> = read.ports().filter_map(ServicePort::port).map(|port| format!("{address}:{port}")).collect();
            format!("it is reached from inside the cluster only, at {} ({name}.{namespace}.svc)", ports.join(", "))
        }
        None => format!("it has no address at all (headless): inside the cluster {name}.{namespace}.svc names its pods"),
    };
    let fix =
        format!("`bramble kubectl patch service {name} -n {namespace} -p '{{\"spec\":{{\"type\":\"NodePort\"}}}}'` gives it one");
    Err(Report::failed(format!("service {name} has no node port")).because(inside).fix(fix))
}

/// Addresses that a load balancer gave it.
fn balanced(service: &Object) -> impl Iterator<Item = &str> {
    let given = service.list_at(&["status", "loadBalancer", "ingress"]).iter();
    given.filter_map(|one| one.get("ip").or_else(|| one.get("hostname"))?.as_str())
}

/// Waits until somebody serves it.
fn wait(admin: &Admin, service: &Object, most: Duration) -> Result<Cluster, Report> {
    let clock = SystemClock::start();
    let until = clock.now().tick.after(most);
    let mut told = false;
    loop {
        let cluster = Cluster::look(admin, Some(service.namespace()))?;
        if !cluster.served_on(service).is_empty() {
            return Ok(cluster);
        }
        if clock.now().tick >= until {
            return Err(unserved(admin, service)?);
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("waiting until a pod of service {} is ready, at most {} s", service.name(), most.as_secs());
        }
        std::thread::sleep(AGAIN);
    }
}

/// Why nobody serves it.
fn unserved(admin: &Admin, service: &Object) -> Result<Report, Report> {
    let (name, namespace) = (service.name(), service.namespace());
    let report = Report::failed(format!("nobody serves service {name}"));
    let Some(selector) = Service(service).selector() else {
        return Ok(report
            .because("it has no selector, and no endpoints were written for it")
            .fix(format!("write Endpoints or an EndpointSlice for {name}, or give it a selector")));
    };
    let pods = items(&admin.expect("pods cannot be listed", "GET", &format!("/api/v1/namespaces/{namespace}/pods"), None)?);
    let own: Vec<&Object> = pods.iter().filter(|pod| selector.matches(|key| pod.label(key)) && !Pod(pod).is_terminal()).collect();
    let words: Vec<String> = service.strings_at(&["spec", "selector"]).map(|(key, value)| format!("{key}={value}")).collect();
    let words = words.join(",");
    let Some(first) = own.iter().find(|pod| !Pod(pod).is_ready()).or(own.first()) else {
        return Ok(report
            .because(format!("no pod in namespace {namespace} has the labels that it selects, {words}"))
            .fix(format!("`bramble kubectl get pods -n {namespace} --show-labels` shows what there is")));
    };
    let state = pod_state(first);
    Ok(report
        .because(format!("none of the {} pods that it selects ({words}) is ready; {} is {state}", own.len(), first.name()))
        .fix(format!("`bramble kubectl describe pod {} -n {namespace}` tells more", first.name())))
}

/// In a word, as kubectl's table shows it.
fn pod_state(pod: &Object) -> String {
    let waiting = |status: &Value| status.pointer("/state/waiting/reason").and_then(Value::as_str).map(str::to_owned);
    let reason = pod.list_at(&["status", "containerStatuses"]).iter().find_map(waiting);
    let phase = Some(pod.str_at(&["status", "phase"])).filter(|phase| !phase.is_empty()).unwrap_or("Pending");
    reason.unwrap_or_else(|| if phase == "Running" { "running and not ready".to_owned() } else { phase.to_owned() })
}

/// What is told of one service.
struct Told {
    namespace: String,
    name: String,
    kind: String,
    endpoints: usize,
    /// Its ports: name, number, protocol, node port.
    ports: Vec<(String, u16, String, Option<u16>)>,
    /// For each port by its place, and each way to it: the URL.
    urls: Vec<(usize, String)>,
}

impl Told {
    fn of(service: &Object, cluster: &Cluster) -> Self {
        let read = Service(service);
        let served = cluster.served_on(service);
        let local = service.str_at(&["spec", "externalTrafficPolicy"]) == "Local";
        let ready = cluster.nodes.iter().filter(|node| Node(node).is_ready());
        // With this policy the others drop what comes.
        let nodes = ready.filter(|node| !local || served.contains(&node.name()));
        let families = read.families();
        let addresses = nodes.flat_map(|node| families.iter().filter_map(|family| Node(node).address_of(family)));
        let hosts: Vec<String> = addresses.map(|address| bracketed(&address.to_string())).collect();
        let mut urls: Vec<(usize, String)> = Vec::new();
        for (number, port) in read.ports().enumerate() {
            let secure = port.app_protocol().unwrap_or(port.name()).starts_with("https") || port.port() == Some(443);
            let scheme = match port.protocol() {
                "TCP" if secure => "https".to_owned(),
                "TCP" => "http".to_owned(),
                other => other.to_lowercase(),
            };
            let by_node = port.node_port().into_iter().flat_map(|at| hosts.iter().map(move |host| (host.clone(), at)));
            let by_balancer = port.port().into_iter().flat_map(|at| balanced(service).map(move |host| (bracketed(host), at)));
            let all = by_balancer.chain(by_node).map(|(host, at)| (number, format!("{scheme}://{host}:{at}")));
            let mut seen = BTreeSet::new();
            // Several nodes on one machine have one address.
            urls.extend(all.filter(|(_, url)| seen.insert(url.clone())));
        }
        let ports = read.ports().map(|port| {
            let number = port.port().unwrap_or_default();
            (port.name().to_owned(), number, port.protocol().to_owned(), port.node_port())
        });
        Self {
            namespace: service.namespace().to_owned(),
            name: service.name().to_owned(),
            kind: read.kind().to_owned(),
            endpoints: served.len(),
            ports: ports.collect(),
            urls,
        }
    }

    /// One URL for each port.
    fn short(&self) -> Vec<&str> {
        let first = |number: usize| self.urls.iter().find(|(of, _)| *of == number).map(|(_, url)| url.as_str());
        (0..self.ports.len()).filter_map(first).collect()
    }

    fn json(&self) -> Value {
        let port = |(name, port, protocol, node_port): &(String, u16, String, Option<u16>)| json!({"name": name, "port": port, "protocol": protocol, "node_port": node_port});
        let urls: Vec<&str> = self.urls.iter().map(|(_, url)| url.as_str()).collect();
        json!({"namespace": self.namespace, "name": self.name, "type": self.kind, "ready_endpoints": self.endpoints,
            "ports": self.ports.iter().map(port).collect::<Vec<_>>(), "urls": urls})
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn rows(all: &[Told]) -> Vec<Vec<String>> {
    let mut rows = vec![["NAMESPACE", "NAME", "TYPE", "PORT", "READY", "URL"].map(str::to_owned).to_vec()];
    for told in all {
        let none = vec![(String::new(), 0, String::new(), None)];
        let ports = if told.ports.is_empty() { &none } else { &told.ports };
        for (number, (name, port, protocol, _)) in ports.iter().enumerate() {
            let at = match (*port, name.as_str()) {
                (0, _) => "-".to_owned(),
                (port, "") => format!("{port}/{protocol}"),
                (port, name) => format!("{name} {port}/{protocol}"),
            };
            let mut urls: Vec<&str> = told.urls.iter().filter(|(of, _)| *of == number).map(|(_, url)| url.as_str()).collect();
            if urls.is_empty() {
                urls.push(if told.kind == "ExternalName" { "another name only" } else { "no node port" });
            }
            for url in urls {
                let cells = [&told.namespace, &told.name, &told.kind, &at, &told.endpoints.to_string(), url].map(str::to_owned);
                rows.push(cells.to_vec());
            }
        }
    }
    rows
}

fn list(admin: &Admin, namespace: Option<&str>, output: super::Output) -> Result<(), Report> {
    let place = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    let services = items(&admin.expect("services cannot be listed", "GET", &format!("/api/v1{place}/services"), None)?);
    let cluster = Cluster::look(admin, namespace)?;
    let all: Vec<Told> = services.iter().map(|service| Told::of(service, &cluster)).collect();
    super::print(&match output {
        super::Output::Json => format!("{}\n", Value::from(all.iter().map(Told::json).collect::<Vec<_>>())),
        super::Output::Text => table(&rows(&all)),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    fn node(name: &str, addresses: &[&str], ready: &str) -> Object {
        let own = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address}));
        let all: Vec<Value> = std::iter::once(json!({"type": "Hostname", "address": name})).chain(own).collect();
        let conditions = json!([{"type": "Ready", "status": ready}]);
        object(json!({"metadata": {"name": name}, "status": {"conditions": conditions, "addresses": all}}))
    }

    fn cluster() -> Cluster {
        let slice = |family: &str, prefix: &str| {
            object(json!({"metadata": {"name": "s", "namespace": "a", "labels": {SERVICE_NAME: "web"}}, "addressType": family,
                "endpoints": [{"addresses": [format!("{prefix}1")], "conditions": {"ready": true}, "nodeName": "two"},
                    {"addresses": [format!("{prefix}2")], "conditions": {"ready": false}, "nodeName": "one"}]}))
        };
        let both = ["fd00::2", "10.0.0.2", "fd00::22"];
        let nodes = vec![node("one", &["10.0.0.1"], "True"), node("two", &both, "True"), node("lost", &["10.0.0.3"], "Unknown")];
        Cluster { nodes, slices: vec![slice("IPv4", "10.244.1."), slice("IPv6", "fd00:1::")] }
    }

    fn service(spec: Value) -> Object {
        object(json!({"metadata": {"name": "web", "namespace": "a"}, "spec": spec}))
    }

    #[test]
    fn a_service_is_reached_at_every_node_that_is_ready() {
        let ports = json!([{"name": "web", "port": 80, "nodePort": 30080}, {"name": "https", "port": 8443, "nodePort": 30443},
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]);
        let families = json!(["IPv4", "IPv6"]);
        let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.5", "ipFamilies": families, "ports": ports});
        let told = Told::of(&service(spec), &cluster());
        let urls: Vec<&str> = told.urls.iter().map(|(_, url)| url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "http://10.0.0.1:30080",
                "http://10.0.0.2:30080",
                "http://[fd00::2]:30080",
                "https://10.0.0.1:30443",
                "https://10.0.0.2:30443",
                "https://[fd00::2]:30443",
                "udp://10.0.0.1:30053",
                "udp://10.0.0.2:30053",
                "udp://[fd00::2]:30053"
            ]
        );
        assert_eq!(told.short(), ["http://10.0.0.1:30080", "https://10.0.0.1:30443", "udp://10.0.0.1:30053"]);
        assert_eq!((told.endpoints, told.json()["urls"].as_array().unwrap().len()), (1, 9));
        // One that is only served where its pods are.
        let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]});
        let told = Told::of(&service(local), &cluster());
        assert_eq!((told.short(), told.urls.len()), (vec!["http://10.0.0.2:30080"], 1), "it speaks IPv4 only");
        let mut balanced = service(json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}]}));
        balanced.set_at(&["status", "loadBalancer", "ingress"], json!([{"ip": "10.0.0.1"}]));
        assert_eq!(Told::of(&balanced, &cluster()).short(), ["http://10.0.0.1:80"]);
    }

    #[test]
    fn what_cannot_be_reached_from_outside_says_how_it_could_be() {
        for (spec, words) in [
            (json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]}), "at 10.96.0.5:80 (web.a.svc)"),
            (json!({"clusterIP": "None", "ports": [{"port": 80}]}), "(headless)"),
            (json!({"type": "ExternalName", "externalName": "example.com"}), "only another name of example.com"),
        ] {
            let report = reachable(&service(spec.clone())).unwrap_err();
            let why = report.why.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(format!("{} {why}", report.what).contains(words), "{spec}: {} {why}", report.what);
            assert!(report.fix.is_some());
        }
        assert!(reachable(&service(json!({"ports": [{"port": 80, "nodePort": 30080}]}))).is_ok());
    }

    #[test]
    fn the_nearest_names_come_first() {
        assert_eq!(near("helo", ["web", "kubernetes", "hello", "help"].into_iter()), ["hello", "help", "web"]);
    }
}
