//! What a cluster knows of services: addresses, node ports, and where each is served.

use serde_json::Value;

use super::SOON;
use super::support::{Cluster, deployment, oldest_and_newest_kubectl, signal, wait_until};

/// Waits until the slices of a service show so many ready endpoints; their addresses.
fn served(cluster: &Cluster, service: &str, ready: usize) -> Vec<String> {
    let label = format!("kubernetes.io/service-name={service}");
    wait_until(&format!("{ready} endpoints of {service}"), SOON, || {
        let slices = cluster.get(&["endpointslices", "-l", &label]);
        let endpoints =
            slices["items"].as_array().into_iter().flatten().filter_map(|slice| slice["endpoints"].as_array()).flatten();
        let of_ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let found: Vec<String> = of_ready.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned)).collect();
        // In the first moment there is none of this name.
        let all = cluster.get(&["endpoints"]);
        let told = all["items"].as_array().into_iter().flatten().find(|told| told["metadata"]["name"] == service);
        let addresses = told.and_then(|told| told["subsets"][0]["addresses"].as_array()).map_or(0, Vec::len);
        if (found.len(), addresses) == (ready, ready) { Ok(found) } else { Err(format!("{slices} {told:?}")) }
    })
}

#[test]
fn a_service_has_an_address_and_follows_its_pods() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    cluster.apply(&deployment("hello", 3, "hello:1", "        ports: [{name: web, containerPort: 8080}]\n"));
    let pods = cluster.wait_ready("app=hello", 3, SOON);
    for (version, kubectl) in oldest_and_newest_kubectl() {
        eprintln!("kubectl {version}");
        let run = |arguments: &[&str]| cluster.kubectl_in(&kubectl, arguments, "").expect();
        run(&["expose", "deployment", "hello", "--type=NodePort", "--port=80", "--target-port=web"]);
        let service = cluster.get(&["service", "hello"]);
        let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
        assert!(address.starts_with("10.96.") && (30_000..=32_767).contains(&node_port), "{service}");
        assert!(run(&["get", "service", "hello"]).contains(&format!("80:{node_port}/TCP")));
        let mut addresses = served(&cluster, "hello", 3);
        let mut of_pods: Vec<&str> = pods.iter().filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
        addresses.sort_unstable();
        of_pods.sort_unstable();
        assert_eq!(addresses, of_pods);
        let described = run(&["describe", "service", "hello"]);
        assert!(described.contains(&format!("{}:8080", of_pods[0])), "{described}");
        // Made anew it has what it had.
        run(&["delete", "service", "hello"]);
        wait_until("its slices go", SOON, || {
            let left = cluster.get(&["endpointslices,endpoints", "-l", "kubernetes.io/service-name=hello"]);
            if left["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(left.to_string()) }
        });
        run(&["create", "service", "clusterip", "hello", "--tcp=80:8080"]);
        assert_eq!(cluster.get(&["service", "hello"])["spec"]["clusterIP"], *address);
        served(&cluster, "hello", 3);
        run(&["delete", "service", "hello"]);
    }
    cluster.kubectl(&["expose", "deployment", "hello", "--port=80"]).expect();
    served(&cluster, "hello", 3);
    cluster.kubectl(&["scale", "deployment", "hello", "--replicas=1"]).expect();
    served(&cluster, "hello", 1);

    // What is derived is not kept on disk, and is there again.
    let before = cluster.get(&["service", "hello"]);
    signal(cluster.master_pid(), "KILL");
    wait_until("the master ends", SOON, || if cluster.status()["ready"] == false { Ok(()) } else { Err("it lives".to_owned()) });
    cluster.start(&[]).expect();
    served(&cluster, "hello", 1);
    assert_eq!(cluster.get(&["service", "hello"])["spec"], before["spec"]);
    let kubernetes = cluster.get(&["service", "kubernetes"]);
    assert_eq!(kubernetes["spec"]["clusterIP"], Value::from("10.96.0.1"));
}

#[test]
fn what_a_service_asks_for_and_cannot_have_is_told() {
    let cluster = Cluster::started(&["--runtime", "simulated"]);
    let service = |name: &str, spec: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    cluster.apply(&service("first", "{type: NodePort, clusterIP: 10.96.0.77, ports: [{port: 80, nodePort: 30080}]}"));
    for (spec, words) in [
        ("{clusterIP: 10.96.0.77, ports: [{port: 80}]}", "provided IP is already allocated"),
        ("{clusterIP: 192.168.1.5, ports: [{port: 80}]}", "The range of valid IPs is 10.96.0.0/16"),
        ("{type: NodePort, ports: [{port: 80, nodePort: 30080}]}", "provided port is already allocated"),
        ("{type: NodePort, ports: [{port: 80, nodePort: 80}]}", "The range of valid ports is 30000-32767"),
    ] {
        let said = cluster.kubectl_in("kubectl".as_ref(), &["apply", "-f", "-"], &service("second", spec));
        assert!(!said.ok && said.err.contains(words), "{spec}: {}", said.err);
    }
    // What somebody serves elsewhere, by hand.
    cluster.apply(&service("nas", "{ports: [{port: 445}]}"));
    cluster.apply(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: nas}\nsubsets: [{addresses: [{ip: 192.168.1.9}], ports: [{port: 445}]}]\n",
    );
    assert_eq!(served(&cluster, "nas", 1), ["192.168.1.9"]);
}
