//! What is wrong is refused in Kubernetes' words, and nothing changes.

use crate::harness::each_kubectl;
use crate::objects::{DEPLOYMENT, POD};

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    each_kubectl(|server, kubectl| {
        let before = server.store.view(|view| view.revision());
        for (manifest, words) in [
            (POD.replace("image:", "imagee:"), "strict decoding error: unknown field \"spec.containers[0].imagee\""),
            (DEPLOYMENT.replace("replicas:", "replicaz:"), "strict decoding error: unknown field \"spec.replicaz\""),
            (DEPLOYMENT.replace("replicas: 2", "replicas: two"), "cannot be handled as a Deployment"),
            (
                DEPLOYMENT.replace("matchLabels: {app: web}", "matchLabels: {app: other}"),
                "`selector` does not match template `labels`",
            ),
            (POD.replace("name: web", "name: Not_A_Name"), "is invalid: metadata.name: Invalid value: \"Not_A_Name\""),
            (POD.replace("name: web", "name: web\n  namespace: nowhere"), "namespaces \"nowhere\" not found"),
            (POD.replace("kind: Pod", "kind: Pot"), "no matches for kind \"Pot\" in version \"v1\""),
            (POD.replace("image: example/web:1", "image: ''"), "spec.containers[0].image: Required value"),
            ("a: [1,".to_owned(), "error converting YAML to JSON"),
        ] {
            kubectl.input(&["create", "-f", "-"], &manifest).fails(words);
        }
        let warned = kubectl.input(
            &["create", "--validate=warn", "--dry-run=server", "-f", "-"],
            &POD.replace("image:", "imagee: x\n    image:"),
        );
        assert!(warned.err.contains("Warning: unknown field \"spec.containers[0].imagee\""), "{}", warned.err);
        warned.ok();
        kubectl.run(&["get", "pots"]).fails("the server doesn't have a resource type \"pots\"");
        kubectl.run(&["get", "pods", "--field-selector", "spec.color=red"]).fails("field label not supported: spec.color");
        kubectl.run(&["get", "pods", "-l", "a in (b"]).fails("unable to parse");
        kubectl.run(&["get", "--raw", "/api/v1/nothing"]).fails("the server could not find the requested resource");
        assert_eq!(server.store.view(|view| view.revision()), before);

        kubectl.input(&["create", "-f", "-"], DEPLOYMENT).ok();
        let other = DEPLOYMENT.replace("app: web", "app: other");
        kubectl.input(&["replace", "-f", "-"], &other).fails("field is immutable");
        kubectl
            .input(&["replace", "-f", "-"], &DEPLOYMENT.replace("name: web\n", "name: web\n  resourceVersion: '1'\n"))
            .fails("the object has been modified");
        kubectl.input(&["replace", "-f", "-"], &POD.replace("name: web", "name: none")).fails("pods \"none\" not found");
        kubectl.run(&["scale", "deploy", "web", "--replicas=-1"]).fails("replicas");
    });
}
