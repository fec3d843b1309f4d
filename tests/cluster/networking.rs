//! What a cluster knows of ingresses, their classes and network policies, as kubectl asks for them.

use super::SOON;
use super::support::{Cluster, oldest_and_newest_kubectl, wait_until};

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec:
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    - namespaceSelector: {matchLabels: {project: myproject}}
    - podSelector: {matchLabels: {role: frontend}}
    ports: [{protocol: TCP, port: 6379}]
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
    ports: [{protocol: TCP, port: 5978, endPort: 6000}]
";

#[test]
fn ingresses_classes_and_policies_are_made_shown_and_described() {
    let cluster = Cluster::started(&["--runtime", "simulated"]);
    for (version, kubectl) in oldest_and_newest_kubectl() {
        eprintln!("kubectl {version}");
        let run = |arguments: &[&str]| cluster.kubectl_in(&kubectl, arguments, "").expect();
        let apply = |text: &str| cluster.kubectl_in(&kubectl, &["apply", "-f", "-"], text).expect();
        // `create ingress` names what is not there yet; describe says so.
        run(&[
            "create",
            "ingress",
            "web",
            "--rule=hello.example.com/*=hello:80,tls=web-tls",
            "--rule=*.example.org/api=api:http",
        ]);
        let shown = run(&["get", "ingress", "web"]);
        assert!(
            shown.contains("bramble") && shown.contains("hello.example.com,*.example.org") && shown.contains("80, 443"),
            "{shown}"
        );
        let ingress = cluster.get(&["ingress", "web"]);
        assert_eq!((&ingress["spec"]["ingressClassName"], &ingress["metadata"]["generation"]), (&"bramble".into(), &1.into()));
        let described = run(&["describe", "ingress", "web"]);
        assert!(described.contains("hello:80 (") && described.contains("web-tls terminates hello.example.com"), "{described}");
        run(&["get", "ing", "-o", "wide"]);
        for words in ["there is no service \"hello\"", "there is no service \"api\"", "secret \"web-tls\" gives no certificate"] {
            wait_until(words, SOON, || {
                let described = run(&["describe", "ingress", "web"]);
                if described.contains(words) { Ok(()) } else { Err(described) }
            });
        }
        let class = run(&["get", "ingressclass"]);
        assert!(class.contains("bramble/ingress"), "{class}");
        run(&["describe", "ingressclass", "bramble"]);

        assert!(apply(POLICY).contains("created"));
        assert!(apply(POLICY).contains("unchanged"));
        assert!(run(&["get", "netpol", "db"]).contains("role=db"));
        let described = run(&["describe", "networkpolicy", "db"]);
        for words in ["To Port: 6379/TCP", "CIDR: 172.17.0.0/16", "Except: 172.17.1.0/24", "Policy Types: Ingress, Egress"] {
            assert!(described.contains(words), "{words} in {described}");
        }
        let manifest = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: applied}\nspec: {defaultBackend: {service: {name: web, port: {number: NUMBER}}}}\n";
        assert!(apply(&manifest.replace("NUMBER", "80")).contains("created"));
        assert!(apply(&manifest.replace("NUMBER", "81")).contains("configured"));
        assert_eq!(cluster.get(&["ingress", "applied"])["metadata"]["generation"], 2);
        run(&["delete", "ingress", "web", "applied"]);
        run(&["delete", "networkpolicy", "db"]);
        wait_until("all is gone", SOON, || {
            let left = cluster.get(&["ingress,networkpolicy"]);
            if left["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(left.to_string()) }
        });
    }
    for (spec, words) in [
        ("{}", "either `defaultBackend` or `rules` must be specified"),
        ("{rules: [{host: 10.0.0.1}]}", "must be a DNS name, not an IP address"),
        ("{rules: [{http: {paths: [{path: /}]}}]}", "pathType must be specified"),
        ("{defaultBackend: {service: {name: web}}}", "port name or number is required"),
    ] {
        let text = format!("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: bad}}\nspec: {spec}\n");
        let said = cluster.kubectl_in("kubectl".as_ref(), &["apply", "-f", "-"], &text);
        assert!(!said.ok && said.err.contains(words), "{spec}: {}", said.err);
    }
}
