//! Services on real Docker: the story of a first page, three nodes on one engine, and an update that nobody notices.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{BUSYBOX, Cluster, docker, oldest_and_newest_kubectl, signal, wait_until};
use crate::{SOON, left, on_docker};

/// What a page says, asked for anew; or why there is none.
fn page(at: SocketAddr) -> Result<String, String> {
    let words = |error: std::io::Error| format!("{at}: {error}");
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(3)).map_err(words)?;
    stream.set_read_timeout(Some(Duration::from_secs(3))).map_err(words)?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).map_err(words)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(words)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{at}: no page: {text:?}"))?;
    if head.starts_with("HTTP/1.") && head.contains(" 200 ") { Ok(body.trim().to_owned()) } else { Err(head.to_owned()) }
}

/// Where `bramble service NAME --url` says that the service is.
fn url(cluster: &Cluster, name: &str) -> SocketAddr {
    let said = cluster.bramble(["service", name, "--url"]).expect();
    let first = said.lines().next().unwrap_or_default();
    first.trim().strip_prefix("http://").and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// A web server that says its name, ready once it answers.
fn web(name: &str, replicas: u32, says: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: {BUSYBOX}
        command: [sh, -c, 'echo {says} $(hostname) > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
"
    )
}

/// A pod on a node that stays, to be asked in.
fn client(node: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: client-{node}, labels: {{app: client}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: {BUSYBOX}, command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']}}]
"
    )
}

/// What a command in a pod's container prints, with what it complains of.
fn inside(cluster: &Cluster, pod: &str, script: &str) -> Result<String, String> {
    inside_of(&container(cluster, pod), script)
}

/// The id of a pod's container `c`.
fn container(cluster: &Cluster, pod: &str) -> String {
    let uid = cluster.get(&["pod", pod])["metadata"]["uid"].as_str().unwrap().to_owned();
    let filters = [format!("label=bramble/pod-uid={uid}"), "label=bramble/container=c".to_owned()];
    docker(&["ps", "-q", "--filter", &filters[0], "--filter", &filters[1]]).expect().trim().to_owned()
}

fn inside_of(id: &str, script: &str) -> Result<String, String> {
    let said = docker(&["exec", id, "sh", "-c", &format!("{{ {script}; }} 2>&1")]);
    if said.ok { Ok(said.out) } else { Err(format!("{}{}", said.out, said.err)) }
}

#[test]
fn a_first_page_run_exposed_and_seen() {
    let Some(cluster) = on_docker(&[]) else { return };
    for (version, kubectl) in oldest_and_newest_kubectl() {
        let name = format!("hello-{}", version.replace('.', "-"));
        let run = ["run", &name, "--image", BUSYBOX, "--port=8080", "--command", "--", "sh", "-c"];
        let serve = format!("echo {name} > /tmp/index.html; exec httpd -f -p 8080 -h /tmp");
        let run: Vec<&str> = run.into_iter().chain([serve.as_str()]).collect();
        cluster.kubectl_in(&kubectl, &run, "").expect();
        let exposed = cluster.kubectl_in(&kubectl, &["expose", "pod", &name, "--type=NodePort"], "");
        assert!(exposed.ok && !exposed.err.contains("Warning"), "{}", exposed.err);
        let at = url(&cluster, &name);
        let seen = wait_until("the page is there", SOON, || page(at));
        assert_eq!(seen, name);
        let list = cluster.bramble(["service", "list"]).expect();
        assert!(list.contains(&name) && list.contains(&format!("http://{at}")), "{list}");
        let described = cluster.kubectl_in(&kubectl, &["describe", "service", &name], "").expect();
        assert!(described.contains("NodePort") && described.contains(":8080"), "{described}");
    }
    // What it does not find it says in words.
    let unknown = cluster.bramble(["service", "helo-1-27", "--url"]);
    assert!(!unknown.ok && unknown.err.contains("hello-1-27"), "{}", unknown.err);
    let uid = crate::cluster_uid(&cluster);
    cluster.bramble(["delete"]).expect();
    assert_eq!(left(&uid), "", "nothing of the cluster is left in Docker");
}

#[test]
fn on_three_nodes_of_one_engine_services_and_names_are_reached_from_every_pod() {
    let Some(cluster) = on_docker(&["--nodes", "3"]) else { return };
    cluster.apply(&web("web", 3, "page"));
    cluster.kubectl(&["expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=http"]).expect();
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: each}\nspec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}\n",
    );
    let nodes = ["bramble-1", "bramble-2", "bramble-3"];
    for node in nodes {
        cluster.apply(&client(node));
    }
    let pods = cluster.wait_ready("app=web", 3, Duration::from_secs(90));
    cluster.wait_ready("app=client", 3, Duration::from_secs(90));
    let service = cluster.get(&["service", "web"]);
    let ip = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let addresses: BTreeSet<String> = pods.iter().map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned()).collect();
    let ranges: BTreeSet<String> = nodes
        .iter()
        .map(|node| cluster.get(&["node", node])["spec"]["podCIDR"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(ranges.len() == 3 && !ranges.contains(""), "{ranges:?}");
    for node in nodes {
        let pod = format!("client-{node}");
        // By address, and by each form of the name.
        for name in [ip.as_str(), "web", "web.default", "web.default.svc.cluster.local"] {
            let seen = wait_until(&format!("{name} from {node}"), SOON, || {
                inside(&cluster, &pod, &format!("busybox timeout 5 wget -q -O - http://{name}/"))
                    .and_then(|seen| if seen.starts_with("page web-") { Ok(seen) } else { Err(seen) })
            });
            assert!(seen.starts_with("page web-"), "{seen}");
        }
        // Every pod, by its own address, without translation: it is told who asks.
        for address in &addresses {
            let seen = inside(&cluster, &pod, &format!("busybox timeout 5 wget -q -O - http://{address}:8080/")).unwrap();
            assert!(seen.starts_with("page "), "{seen}");
        }
        let asked = inside(&cluster, &pod, "busybox timeout 5 busybox nslookup each.default.svc.cluster.local").unwrap();
        assert!(addresses.iter().all(|address| asked.contains(address.as_str())), "{asked} {addresses:?}");
        // The API at its service's address, from inside, by the certificate that it shows.
        let process = docker(&["inspect", "--format", "{{.State.Pid}}", &container(&cluster, &pod)]).expect();
        let kubectl = cluster.kubectl.to_string_lossy().into_owned();
        let server =
            format!("--server=https://{}", cluster.get(&["service", "kubernetes"])["spec"]["clusterIP"].as_str().unwrap());
        let ask = ["-t", process.trim(), "-n", &kubectl, &server, "get", "nodes", "-o", "name"];
        let said = cluster.kubectl_in(std::path::Path::new("nsenter"), &ask, "").expect();
        assert_eq!(said.lines().count(), 3, "{said}");
    }
    // All three are chosen, in the cluster and from outside.
    let at = url(&cluster, "web");
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(page(at).unwrap());
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    // With the master away all of it goes on, also a container that comes back.
    signal(cluster.master_pid(), "KILL");
    for _ in 0..10 {
        page(at).unwrap();
    }
    let uid = crate::cluster_uid(&cluster);
    let filter = format!("label=bramble/cluster={uid}");
    let asks = docker(&["ps", "-q", "--filter", &filter, "--filter", "label=bramble/container=c"]).expect();
    for id in asks.lines() {
        let said = inside_of(id, "busybox timeout 5 wget -q -O - http://web/").unwrap();
        assert!(said.starts_with("page web-"), "{said}");
    }
    cluster.start(&[]).expect();
    // And when it is back, nothing was lost for a moment.
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        page(at).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_update_under_steady_traffic_loses_no_request() {
    let Some(cluster) = on_docker(&["--nodes", "2"]) else { return };
    cluster.apply(&web("shop", 3, "first"));
    cluster.kubectl(&["expose", "deployment", "shop", "--type=NodePort", "--port=80", "--target-port=8080"]).expect();
    cluster.wait_ready("app=shop", 3, Duration::from_secs(90));
    let at = url(&cluster, "shop");
    wait_until("the page is there", SOON, || page(at));
    let stop = Arc::new(AtomicBool::new(false));
    let ends = stop.clone();
    let asker = std::thread::spawn(move || {
        let (mut pages, mut failed) = (Vec::new(), Vec::new());
        while !ends.load(Ordering::Relaxed) {
            match page(at) {
                Ok(seen) => pages.push(seen.split(' ').next().unwrap_or_default().to_owned()),
                Err(error) => failed.push(error),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (pages, failed)
    });
    cluster.apply(&web("shop", 3, "second"));
    cluster.kubectl(&["rollout", "status", "deployment/shop", "--timeout=120s"]).expect();
    wait_until("the old ones are gone", Duration::from_secs(60), || {
        let pods: Vec<Value> = cluster.pods("app=shop");
        if pods.len() == 3 { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    });
    std::thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let (pages, failed) = asker.join().unwrap();
    println!("{} pages during the update, {} failed", pages.len(), failed.len());
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!((pages.first().unwrap().as_str(), pages.last().unwrap().as_str()), ("first", "second"));
    assert!(pages.len() > 200, "{}", pages.len());
}
