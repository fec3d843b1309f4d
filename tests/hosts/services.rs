//! Services over three hosts, each kind from everywhere: a pod on each host, each host itself, and somebody outside.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, OnHost, kernel};
use super::home::said;
use super::inside::{Echo, asks_at, sends_to};
use super::segments::{HOSTS, address};
use super::support::{BUSYBOX, skipped, wait_until};
use super::talk::page;

/// Three Dockers and three agents on one machine take their time.
pub const SOON: Duration = Duration::from_secs(90);
/// Until every node holds what the master knows.
const KNOWN: Duration = Duration::from_secs(10);
/// The client that is no part of the cluster.
const OUTSIDE: &str = "10.78.1.100";

/// A web server on each host that says its name and its client's address, and has large files.
pub fn web(name: &str, says: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: app
        image: {BUSYBOX}
        command:
        - sh
        - -c
        - |
          mkdir -p /tmp/cgi-bin; cd /tmp
          printf '#!/bin/sh\\necho\\necho {says} $(hostname) $REMOTE_ADDR\\n' > cgi-bin/who
          busybox chmod +x cgi-bin/who
          busybox dd if=/dev/zero of=1m bs=1024k count=1; busybox dd if=/dev/zero of=10m bs=1024k count=10
          exec httpd -f -p 0.0.0.0:8080 -h /tmp
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /cgi-bin/who, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
"
    )
}

/// Every kind of service of the pods of `web`.
const SERVICES: &str = "---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: NodePort, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30081}]}
---
apiVersion: v1
kind: Service
metadata: {name: solo}
spec: {type: NodePort, externalTrafficPolicy: Local, selector: {app: solo}, ports: [{port: 80, targetPort: 8080, nodePort: 30082}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 8088, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: udp, protocol: UDP, port: 7, targetPort: 7777, nodePort: 30007}, {name: tcp, port: 7, targetPort: 7777, nodePort: 30007}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: shop.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: byhand}
spec: {ports: [{name: echo, protocol: UDP, port: 77, targetPort: 7777}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: byhand-1, labels: {kubernetes.io/service-name: byhand}}
addressType: IPv4
ports: [{name: echo, protocol: UDP, port: 7777}]
endpoints: [{addresses: [10.78.1.100], conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: home}
spec:
  rules:
  - host: home.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: http}}}}]}
";

/// The names of pods that say who they are at this address, and whom they saw; all of so many questions are answered.
#[track_caller]
fn seen(namespace: &str, at: &str, times: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut pods, mut clients) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..times {
        let said = page(namespace, at, "/cgi-bin/who").unwrap_or_else(|error| panic!("from {namespace}: {error}"));
        let words: Vec<&str> = said.split(' ').collect();
        assert_eq!(words.len(), 3, "{said}");
        pods.insert(words[1].to_owned());
        clients.insert(words[2].to_owned());
    }
    (pods, clients)
}

/// Waits until a page is there at all.
#[track_caller]
pub fn wait_page(namespace: &str, at: &str) {
    wait_until(&format!("a page of {at} in {namespace}"), KNOWN, || page(namespace, at, "/cgi-bin/who"));
}

fn cluster_ip(cluster: &Cluster, name: &str) -> String {
    cluster.get(&["service", name])["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

/// A cluster with somebody outside.
pub fn with_client(label: &str) -> (Cluster, String) {
    let mut cluster = Cluster::start(label);
    cluster.segments.add("outside", "lan", OUTSIDE);
    let outside = cluster.segments.hosts.name("outside");
    (cluster, outside)
}

#[test]
fn services_of_every_kind_are_served_on_every_host_to_pods_hosts_and_somebody_outside() {
    if skipped("docker") {
        return;
    }
    let began = Instant::now();
    let (mut cluster, outside) = with_client("services");
    println!("ready after {:?}", began.elapsed());
    cluster.apply(&(web("web", "page") + SERVICES));
    let solo =
        web("solo", "solo").replace("replicas: 3", "replicas: 1").replace("    spec:\n", "    spec:\n      nodeName: two\n");
    cluster.apply(&solo);
    let pods = cluster.wait_pods("app=web", 3, SOON);
    let solo = cluster.wait_pods("app=solo", 1, SOON).remove(0);
    println!("pods run after {:?}", began.elapsed());
    let on: BTreeSet<&str> = pods.iter().map(|pod| pod.host.as_str()).collect();
    assert_eq!(on.len(), 3, "one on each host: {pods:?}");
    // Who asks: pods (themselves among those who are asked), hosts, and the one outside, which has a way to the services by host two.
    cluster.segments.hosts.inside("outside", &format!("ip route add 10.96.0.0/16 via {}", address("two")));
    let hosts = HOSTS.map(|(host, _, _)| cluster.segments.hosts.name(host));
    let places: Vec<(String, &str)> = pods
        .iter()
        .map(|pod| (format!("pod on {}", pod.host), pod.namespace.as_str()))
        .chain(HOSTS.iter().zip(&hosts).map(|((host, _, _), namespace)| (format!("host {host}"), namespace.as_str())))
        .chain([("outside".to_owned(), outside.as_str())])
        .collect();
    let shop = cluster_ip(&cluster, "shop");
    by_tcp(&cluster, &places, &shop);
    client_addresses(&pods, &solo, &outside);
    names(&cluster, &pods, &shop);
    println!("TCP and names after {:?}", began.elapsed());
    let echo = cluster_ip(&cluster, "echo");
    by_udp(&cluster, &pods, &places, &echo);
    large(&places, &shop, &echo, &pods);
    println!("UDP and large bodies after {:?}", began.elapsed());
    for pod in &pods {
        let nodes = cluster.kubectl_in(&pod.namespace, "https://10.96.0.1", &["get", "nodes", "-o", "name"]).good();
        assert_eq!(nodes.lines().count(), 3, "the API inside a pod on {}: {nodes}", pod.host);
    }
    ingress(&cluster, &pods, &outside);
    println!("API and ingress after {:?}", began.elapsed());
    removed(&mut cluster);
    println!("all after {:?}", began.elapsed());
}

/// Every address of the service, from everywhere: all three pods answer, and nothing fails.
fn by_tcp(cluster: &Cluster, places: &[(String, &str)], shop: &str) {
    let status = cluster.get(&["service", "balanced"]);
    let given: BTreeSet<&str> = status["status"]["loadBalancer"]["ingress"]
        .as_array()
        .map(|all| all.iter().filter_map(|one| one["ip"].as_str()).collect())
        .unwrap_or_default();
    assert_eq!(given, HOSTS.iter().map(|host| host.2).collect(), "{status}");
    let mut targets = vec![format!("{shop}:80")];
    targets.extend(HOSTS.iter().flat_map(|(_, _, ip)| [format!("{ip}:30080"), format!("{ip}:8088")]));
    for (place, namespace) in places {
        for target in &targets {
            wait_page(namespace, target);
            // A pod's being ready may come to a node a moment after it came to kubectl.
            let mut names = BTreeSet::new();
            wait_until(&format!("all pods answer {place} at {target}"), KNOWN, || {
                names.extend(seen(namespace, target, 8).0);
                if names.len() == 3 { Ok(()) } else { Err(format!("{names:?} {}", cluster.state(place))) }
            });
        }
    }
}

/// Where the client's address is kept, and where no host but the pod's answers.
fn client_addresses(pods: &[OnHost], solo: &OnHost, outside: &str) {
    for pod in pods {
        let at = format!("{}:30081", address(&pod.host));
        let (names, clients) = seen(outside, &at, 6);
        assert_eq!(names, BTreeSet::from([pod.name.clone()]), "Local keeps to the node's own");
        assert_eq!(clients, BTreeSet::from([OUTSIDE.to_owned()]), "and keeps the client's address, on {}", pod.host);
        // By the cluster's address pods see pods.
        for other in pods {
            let (_, clients) = seen(&pod.namespace, &format!("{}:8080", other.address), 1);
            assert_eq!(clients, BTreeSet::from([pod.address.clone()]), "{} asks {}", pod.host, other.host);
        }
    }
    let (names, clients) = seen(outside, &format!("{}:30082", address("two")), 3);
    assert_eq!((names, clients), (BTreeSet::from([solo.name.clone()]), BTreeSet::from([OUTSIDE.to_owned()])));
    for host in ["one", "three"] {
        let refused = page(outside, &format!("{}:30082", address(host)), "/").unwrap_err();
        assert!(refused.contains("timed out"), "nobody is served by {host}, and nothing is said: {refused}");
    }
}

/// Every form of the name, in a container on every host.
fn names(cluster: &Cluster, pods: &[OnHost], shop: &str) {
    for pod in pods {
        for name in ["shop", "shop.default", "shop.default.svc.cluster.local", "elsewhere"] {
            let said = cluster.exec(pod, &format!("busybox timeout 5 wget -q -O - http://{name}/cgi-bin/who")).good();
            assert!(said.starts_with("page web-"), "{name} on {}: {said}", pod.host);
        }
        let each = cluster.exec(pod, "busybox timeout 5 busybox nslookup each.default.svc.cluster.local").good();
        assert!(pods.iter().all(|pod| each.contains(&pod.address)), "{each}");
        let alias = cluster.exec(pod, "busybox timeout 5 busybox nslookup elsewhere.default.svc.cluster.local").out;
        assert!(alias.contains("shop.default.svc.cluster.local") || alias.contains(shop), "{alias}");
        let nobody = cluster.exec(pod, "busybox timeout 5 busybox nslookup nobody.default.svc.cluster.local");
        assert!(nobody.code != 0, "{}", nobody.out);
    }
}

/// Datagrams to all of the service's addresses, and to somebody outside of the cluster whose address was written by hand.
fn by_udp(cluster: &Cluster, pods: &[OnHost], places: &[(String, &str)], echo: &str) {
    let echoes: Vec<Echo> = pods.iter().map(|pod| Echo::start(&pod.namespace)).collect();
    let beyond = Echo::start(&cluster.segments.hosts.name("outside"));
    let by_hand = cluster_ip(cluster, "byhand");
    for (place, namespace) in places {
        let mut targets = vec![format!("{echo}:7")];
        targets.extend(HOSTS.iter().map(|(_, _, ip)| format!("{ip}:30007")));
        // Not the one outside: it would ask itself by way of a host.
        targets.extend((place != "outside").then(|| format!("{by_hand}:77")));
        for target in targets {
            for bytes in [10, 1400, 8000] {
                let answered = asks_at(namespace, target.parse().unwrap(), bytes, Duration::from_secs(5));
                assert!(answered.is_some(), "{bytes} bytes from {place} to {target}");
            }
        }
    }
    // Many flows, each of which is one choice.
    for _ in 0..24 {
        asks_at(places[0].1, format!("{echo}:7").parse().unwrap(), 10, Duration::from_secs(5)).unwrap();
    }
    let heard: Vec<u64> = echoes.iter().map(|echo| echo.heard.load(Ordering::Relaxed)).collect();
    assert!(heard.iter().all(|count| *count > 0), "all pods are asked: {heard:?}");
    assert!(beyond.heard.load(Ordering::Relaxed) >= 18, "by hand");
}

/// Large bodies, down and up, by route and by tunnel.
fn large(places: &[(String, &str)], shop: &str, echo: &str, pods: &[OnHost]) {
    let _echoes: Vec<Echo> = pods.iter().map(|pod| Echo::start(&pod.namespace)).collect();
    for (place, namespace) in places {
        let began = Instant::now();
        for (path, length) in [("/1m", 1 << 20), ("/10m", 10 << 20)] {
            // Three times: the pod is another one each time, as chance has it.
            for target in [format!("{shop}:80"), format!("{}:30080", address("one")), format!("{}:30080", address("three"))] {
                let got = super::inside::inside(namespace, || super::talk::page_here(target.parse().unwrap(), "large", path));
                assert_eq!(got.map(|body| body.len()), Ok(length), "{path} from {place} of {target}");
            }
        }
        // Several times: which pod it is, and so by which way, is chance.
        let up = [format!("{echo}:7")].into_iter().chain(HOSTS.iter().map(|(_, _, ip)| format!("{ip}:30007")));
        for target in up.flat_map(|target| [target.clone(), target.clone(), target]) {
            let sent = sends_to(namespace, target.parse().unwrap(), 10 << 20, Duration::from_secs(20));
            assert!(sent.is_some(), "10 MB from {place} to {target}");
        }
        println!("153 MB, {place}: {:?}", began.elapsed());
    }
}

/// At every host, to pods of all hosts.
fn ingress(cluster: &Cluster, pods: &[OnHost], outside: &str) {
    for (host, _, ip) in HOSTS {
        let ask = || {
            super::inside::inside(outside, || {
                super::talk::page_here(format!("{ip}:80").parse().unwrap(), "home.example", "/cgi-bin/who")
            })
        };
        wait_until(&format!("the ingress at {host}"), KNOWN, ask);
        let said: Vec<String> = (0..18).map(|_| String::from_utf8(ask().unwrap()).unwrap()).collect();
        assert!(pods.iter().all(|pod| said.iter().any(|said| said.contains(&pod.name))), "at {host}: {said:?}");
    }
    let shown = cluster.get(&["ingress", "home"]).to_string();
    assert!(HOSTS.iter().all(|host| shown.contains(host.2)), "{shown}");
}

/// Every node is taken down; its host's network is as it was before.
fn removed(cluster: &mut Cluster) {
    for (index, (host, _, _)) in HOSTS.iter().enumerate() {
        assert_ne!(kernel(&cluster.segments, host), cluster.before[index], "there was something on {host}");
        cluster.agents[index].stop();
        let docker = &cluster.dockers[index];
        let all = docker.docker(&["ps", "-aq"]);
        docker.docker(&[&["rm", "-fv"][..], &all.lines().collect::<Vec<_>>()].concat());
        let networks = docker.docker(&["network", "ls", "-q", "--filter", "label=bramble/cluster"]);
        assert_eq!(networks.lines().count(), 1, "its own");
        docker.docker(&["network", "rm", &networks]);
        let mut command = cluster.segments.hosts.enter(host, env!("CARGO_BIN_EXE_bramble"));
        command.args(["doctor", "network", "--remove"]);
        println!("{host}: {}", said(command).good());
        assert_eq!(kernel(&cluster.segments, host), cluster.before[index], "{host}");
    }
}
