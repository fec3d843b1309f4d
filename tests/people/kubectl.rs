//! kubectl as people type it, the oldest and the newest that are here, each against its own namespace of one whole cluster.
//!
//! A story is a table: a line for the shell, its exit code, and what is in what it says. Everything that differs is told at the
//! end, not only the first.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{Cluster, oldest_and_newest_kubectl, wait_until};
use super::terminal::Heard;

/// One person with one kubectl in a folder of manifests.
struct Person<'a> {
    home: tempfile::TempDir,
    version: &'a str,
    faults: Vec<String>,
}

impl<'a> Person<'a> {
    fn new(cluster: &Cluster, version: &'a str, program: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(program, home.path().join("bin/kubectl")).unwrap();
        std::fs::copy(cluster.dir.join("kubeconfig"), home.path().join("kubeconfig")).unwrap();
        let person = Self { home, version, faults: Vec::new() };
        for (name, text) in FILES {
            std::fs::write(person.home.path().join(name), text).unwrap();
        }
        let namespace = "kubectl create namespace $NS && kubectl config set-context --current --namespace=$NS";
        person.hears(namespace).says(0, &["created"]);
        std::fs::write(person.home.path().join("big"), "x".repeat(3 << 20)).unwrap();
        std::fs::write(person.home.path().join("mid"), "x".repeat((1 << 20) + 1)).unwrap();
        person
    }

    fn hears(&self, line: &str) -> Heard {
        let bin = self.home.path().join("bin");
        let path =
            std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap()))).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(self.home.path()).env("PATH", path);
        command.env("NS", format!("kubectl-{}", self.version.replace(['.', ' '], "-").to_lowercase()));
        command.env("ON1", r#"{"spec":{"nodeSelector":{"kubernetes.io/hostname":"bramble-1"}}}"#);
        Heard::from(command.env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("kubeconfig")))
    }

    /// Types a line; notes what is not as the row says. A part that begins with `!` must not be there.
    fn types(&mut self, (line, code, parts): &Row) {
        let heard = self.hears(line);
        let said = format!("{}{}", heard.out, heard.err);
        let mut faults = Vec::new();
        if (heard.code == 0) != (*code == 0) {
            faults.push(format!("exit {}", heard.code));
        }
        for part in *parts {
            let (absent, part) = part.strip_prefix('!').map_or((false, *part), |part| (true, part));
            if said.contains(part) == absent {
                faults.push(format!("{} {part:?}", if absent { "there is" } else { "no" }));
            }
        }
        if !faults.is_empty() {
            self.faults.push(format!("$ {line}   [{}]\n{}\n{said}", self.version, faults.join(", ")));
        }
    }

    fn story(&mut self, rows: &[Row]) {
        for row in rows {
            self.types(row);
        }
    }

    #[track_caller]
    fn end(self) {
        assert!(self.faults.is_empty(), "{} lines differ\n\n{}", self.faults.len(), self.faults.join("\n"));
    }
}

type Row = (&'static str, i32, &'static [&'static str]);

/// The folder.
const FILES: &[(&str, &str)] = &[
    (
        "web.yaml",
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: 'web:1', ports: [{containerPort: 80}], resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 32Mi}}}
",
    ),
    (
        "both.yaml",
        "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green}
---
apiVersion: v1
kind: Pod
metadata: {name: tool, labels: {app: tool, tier: back}}
spec:
  nodeSelector: {kubernetes.io/hostname: bramble-1}
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: 'tool:1', env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]}
  - {name: side, image: 'side:1'}
",
    ),
    ("job.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: once, annotations: {bramble/simulate: exit=0 after=100ms}}\nspec: {restartPolicy: Never, nodeSelector: {kubernetes.io/hostname: bramble-1}, containers: [{name: main, image: 'once:1'}]}\n"),
    ("crash.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: crash, annotations: {bramble/simulate: exit=3 after=50ms}}\nspec: {nodeSelector: {kubernetes.io/hostname: bramble-1}, containers: [{name: main, image: 'crash:1'}]}\n"),
    ("giant.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: giant}\nspec: {containers: [{name: main, image: 'giant:1', resources: {requests: {memory: 1Ti}}}]}\n"),
    ("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: front}\nspec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"),
    // What is wrong with each is its name.
    ("not-yaml.yaml", "a: [1\nb: }\n"),
    ("unknown-field.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: a, image: b, imagee: c}], foo: 1}\n"),
    ("wrong-type.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: a, image: [b]}]}\n"),
    ("bad-name.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_1}\nspec: {containers: [{name: A, image: ''}]}\n"),
    ("bad-label.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad, labels: {'a b': 'c d'}}\n"),
    ("other-selector.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: b}]}}}\n"),
    ("unknown-kind.yaml", "apiVersion: v1\nkind: Gizmo\nmetadata: {name: bad}\n"),
    ("no-kind.yaml", "metadata: {name: bad}\n"),
    ("no-template.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: 1}\n"),
    ("stale.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, resourceVersion: '1'}\ndata: {colour: red}\n"),
];

const FIRST: &[Row] = &[
    ("kubectl version", 0, &["Client Version: ", "Server Version: ", "v1.33.0+bramble"]),
    ("kubectl cluster-info", 0, &["Kubernetes control plane", "https://127.0.0.1:"]),
    (
        "kubectl api-resources",
        0,
        &["deploy ", "apps/v1", "leases", "coordination.k8s.io/v1", "ns ", "Namespace", "po ", "cm ", "rs ", "svc ", "sa "],
    ),
    ("kubectl api-resources --namespaced=false -o name", 0, &["nodes", "namespaces", "!pods"]),
    ("kubectl api-versions", 0, &["apps/v1\n", "v1\n", "coordination.k8s.io/v1"]),
    (
        "kubectl get nodes",
        0,
        &["NAME        STATUS   ROLES    AGE", "VERSION", "bramble-1   Ready    <none>", "bramble-2   Ready "],
    ),
    ("kubectl get nodes -o wide", 0, &["INTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME", "simulated://"]),
    ("kubectl get no bramble-1 -o name", 0, &["node/bramble-1\n"]),
    (
        "kubectl describe node bramble-1",
        0,
        &[
            "Name:               bramble-1",
            "Capacity:",
            "Allocatable:",
            "Conditions:",
            "Ready            True",
            "Container Runtime Version:  simulated://",
            "Non-terminated Pods:",
            "Lease:",
        ],
    ),
    (
        "kubectl get ns",
        0,
        &["NAME              STATUS   AGE", "default           Active", "kube-system       Active", "kube-node-lease"],
    ),
    ("kubectl get leases -n kube-node-lease", 0, &["NAME        HOLDER      AGE", "bramble-1   bramble-1"]),
    ("kubectl get all", 0, &["No resources found in"]),
    ("kubectl auth can-i delete nodes", 0, &["yes"]),
    // ── creating ──
    ("kubectl create -f web.yaml --dry-run=server", 0, &["deployment.apps/web created (server dry run)"]),
    ("kubectl get deployments", 0, &["No resources found in"]),
    ("kubectl apply -f web.yaml", 0, &["deployment.apps/web created\n"]),
    ("kubectl rollout status deployment/web --timeout=30s", 0, &["deployment \"web\" successfully rolled out"]),
    ("kubectl apply -f web.yaml", 0, &["deployment.apps/web unchanged\n"]),
    ("sed s/web:1/web:2/ web.yaml | kubectl diff -f -", 1, &["-      - image: web:1", "+      - image: web:2"]),
    ("kubectl apply -f both.yaml", 0, &["configmap/settings created", "pod/tool created"]),
    ("kubectl wait --for=condition=Ready pod/tool --timeout=30s", 0, &["pod/tool condition met"]),
    ("kubectl create deployment made --image=made:1 --replicas=2", 0, &["deployment.apps/made created"]),
    ("kubectl create configmap words --from-literal=a=b --from-literal=c=d", 0, &["configmap/words created"]),
    ("kubectl create secret generic keys --from-literal=pass=word", 0, &["secret/keys created"]),
    ("kubectl create namespace $NS-two", 0, &["namespace/", "-two created"]),
    (
        "kubectl run alone --image=alone:$NS --labels=app=alone --annotations=bramble/led=pod-7 --env=A=b --port=80 --overrides=\"$ON1\" -- serve --loud",
        0,
        &["pod/alone created"],
    ),
    ("kubectl create -f service.yaml", 0, &["service/front created"]),
    ("kubectl create serviceaccount robot", 0, &["serviceaccount/robot created"]),
    (
        "kubectl create -f job.yaml -f crash.yaml -f giant.yaml",
        0,
        &["pod/once created", "pod/crash created", "pod/giant created"],
    ),
    ("kubectl wait --for=condition=Ready pod/alone --timeout=30s", 0, &["condition met"]),
    ("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/once --timeout=30s", 0, &["condition met"]),
    (
        "kubectl wait --for=condition=available deployment --all --timeout=30s",
        0,
        &["deployment.apps/made condition met", "deployment.apps/web condition met"],
    ),
    // ── looking ──
    (
        "kubectl get pods",
        0,
        &[
            "NAME ",
            "READY   STATUS ",
            "RESTARTS",
            "tool  ",
            "2/2     Running",
            "once ",
            "0/1     Completed",
            "giant  ",
            "0/1     Pending",
        ],
    ),
    ("kubectl get pods -o wide", 0, &["IP ", "NODE  ", "NOMINATED NODE   READINESS GATES", "bramble-"]),
    ("kubectl get po -l app=web --no-headers | wc -l", 0, &["2"]),
    ("kubectl get pods -l 'tier in (back,front),app!=web' -o name", 0, &["pod/tool\n", "!web"]),
    ("kubectl get pods -l app=web --show-labels", 0, &["LABELS", "pod-template-hash="]),
    ("kubectl get pods -L app", 0, &["APP", "alone"]),
    ("kubectl get pods -A", 0, &["NAMESPACE", "alone"]),
    ("kubectl get pods --field-selector=status.phase=Pending -o name", 0, &["pod/giant\n", "!tool"]),
    ("kubectl get pods --field-selector=status.phase!=Running,metadata.name!=giant -o name", 0, &["pod/once", "!giant"]),
    (
        "kubectl get pods --sort-by=.metadata.creationTimestamp -o custom-columns=N:.metadata.name,P:.status.phase",
        0,
        &["N ", "giant", "Pending"],
    ),
    ("kubectl get pod tool -o jsonpath='{.spec.containers[*].name}'", 0, &["main side"]),
    ("kubectl get pod tool -o go-template='{{.metadata.name}}'", 0, &["tool"]),
    ("kubectl get pod alone -o json", 0, &["\"kind\": \"Pod\"", "\"serve\"", "\"bramble/led\": \"pod-7\"", "!managedFields"]),
    ("kubectl get cm,secret", 0, &["configmap/words", "2      ", "secret/keys", "Opaque   1"]),
    ("kubectl get secret keys -o jsonpath='{.data.pass}' | base64 -d", 0, &["word"]),
    (
        "kubectl get deployments -o wide",
        0,
        &[
            "READY   UP-TO-DATE   AVAILABLE   AGE",
            "CONTAINERS   IMAGES   SELECTOR",
            "web    2/2     2            2",
            "main         web:1    app=web",
        ],
    ),
    ("kubectl get rs -l app=web", 0, &["DESIRED   CURRENT   READY   AGE", "2         2         2 "]),
    (
        "kubectl get deploy web -o yaml",
        0,
        &[
            "apiVersion: apps/v1",
            "kind: Deployment",
            "availableReplicas: 2",
            "deployment.kubernetes.io/revision: \"1\"",
            "progressDeadlineSeconds: 600",
        ],
    ),
    ("kubectl get svc", 0, &["NAME    TYPE        CLUSTER-IP", "EXTERNAL-IP   PORT(S)   AGE", "front   ClusterIP", "80/TCP"]),
    ("kubectl get sa", 0, &["NAME      SECRETS   AGE", "default   0 ", "robot "]),
    ("kubectl get all", 0, &["pod/tool", "service/front", "deployment.apps/web", "replicaset.apps/web-"]),
    (
        "kubectl get events --field-selector=involvedObject.name=alone",
        0,
        &["LAST SEEN   TYPE     REASON", "Scheduled", "Pulled", "Created", "Started", "!giant"],
    ),
    (
        "kubectl describe pod alone | awk '/^  (Normal|Warning)/{printf \"%s \", $2}'",
        0,
        &["Scheduled Pulling Pulled Created Started"],
    ),
    ("kubectl events --for pod/alone", 0, &["Scheduled", "Started container alone"]),
    (
        "kubectl get events --field-selector=reason=FailedScheduling",
        0,
        &["pod/giant", "0/2 nodes are available", "Insufficient memory"],
    ),
    ("kubectl get pod nope", 1, &["Error from server (NotFound): pods \"nope\" not found"]),
    (
        "kubectl describe pod tool",
        0,
        &[
            "Name:             tool",
            "Node:             bramble-",
            "Status:           Running",
            "Containers:",
            "Ready:          True",
            "COLOUR:  <set to the key 'colour' of config map 'settings'>",
            "Conditions:",
            "QoS Class: ",
            "Events:",
            "Successfully assigned",
        ],
    ),
    (
        "kubectl describe deployment web",
        0,
        &[
            "Selector:               app=web",
            "2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
            "RollingUpdate",
            "NewReplicaSet:   web-",
            "Scaled up replica set web-",
        ],
    ),
    (
        "kubectl describe rs -l app=web",
        0,
        &["Controlled By:  Deployment/web", "2 current / 2 desired", "2 Running / 0 Waiting", "SuccessfulCreate"],
    ),
    ("kubectl describe cm words", 0, &["Name:         words", "a:\n----\nb", "c:\n----\nd"]),
    ("kubectl describe secret keys", 0, &["Type:  Opaque", "pass:  4 bytes", "!word\n"]),
    ("kubectl describe ns default", 0, &["Name:         default", "Status:       Active"]),
    ("kubectl describe svc front", 0, &["Type: ", "ClusterIP", "Port: ", "80/TCP"]),
    ("kubectl describe sa robot", 0, &["Name:                robot"]),
    ("kubectl explain pod", 0, &["KIND:       Pod"]),
    ("kubectl top nodes", 0, &["CPU(cores)", "MEMORY(bytes)", "bramble-1", "bramble-2"]),
    ("kubectl top pods --containers", 0, &["POD", "CPU(cores)", "tool"]),
    ("kubectl logs tool", 0, &["main", "tool:1"]),
    ("kubectl logs tool -c side", 0, &["side", "side:1"]),
    ("kubectl logs tool --all-containers --prefix", 0, &["[pod/tool/main]", "[pod/tool/side]"]),
    ("kubectl logs tool -c main --tail=1 | wc -l", 0, &["1"]),
    ("timeout 6 kubectl logs -f --tail=1 -c main tool", 124, &["simulated"]),
    ("kubectl logs deploy/web", 0, &["web:1"]),
    ("kubectl logs -l app=web --prefix", 0, &["[pod/web-"]),
    ("kubectl logs once", 0, &["once:1"]),
    ("kubectl logs giant", 1, &["is waiting to start: the pod is on no node yet"]),
    ("kubectl logs tool -c nope", 1, &["container nope is not valid for pod tool"]),
    ("kubectl logs nope", 1, &["pods \"nope\" not found"]),
    // ── changing ──
    ("kubectl patch deploy web -p '{\"spec\":{\"replicas\":3}}'", 0, &["deployment.apps/web patched\n"]),
    ("kubectl patch deploy web -p '{\"spec\":{\"replicas\":3}}'", 0, &["deployment.apps/web patched (no change)"]),
    (
        "kubectl patch deploy web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"main\",\"env\":[{\"name\":\"A\",\"value\":\"b\"}]}]}}}}'",
        0,
        &["patched"],
    ),
    ("kubectl patch cm words --type=merge -p '{\"data\":{\"a\":null,\"e\":\"f\"}}'", 0, &["configmap/words patched"]),
    ("kubectl get cm words -o jsonpath='{.data}'", 0, &["{\"c\":\"d\",\"e\":\"f\"}"]),
    (
        "kubectl patch cm words --type=json -p '[{\"op\":\"replace\",\"path\":\"/data/c\",\"value\":\"z\"}]'",
        0,
        &["configmap/words patched"],
    ),
    ("kubectl get cm words -o jsonpath='{.data.c}'", 0, &["z"]),
    ("kubectl rollout status deploy/web --timeout=30s", 0, &["successfully rolled out"]),
    (
        "kubectl get deploy web -o jsonpath='{.spec.template.spec.containers[0].env[0].value}{.spec.template.spec.containers[0].image}'",
        0,
        &["bweb:1"],
    ),
    ("kubectl label pod tool t=1", 0, &["pod/tool labeled"]),
    ("kubectl label pod tool t=2", 1, &["'t' already has a value (1), and --overwrite is false"]),
    ("kubectl label pod tool t=2 --overwrite", 0, &["pod/tool labeled"]),
    ("kubectl label pod tool t-", 0, &["pod/tool unlabeled"]),
    ("kubectl annotate pod tool note='a b'", 0, &["pod/tool annotate"]),
    ("kubectl set image deploy/made made=made:2", 0, &["deployment.apps/made image updated"]),
    ("kubectl set env deploy/made B=c", 0, &["deployment.apps/made env updated"]),
    ("kubectl scale deploy made --replicas=1", 0, &["deployment.apps/made scaled"]),
    ("kubectl scale deploy made --current-replicas=7 --replicas=2", 1, &["Expected replicas to be 7, was 1"]),
    ("kubectl rollout status deploy/made --timeout=30s", 0, &["successfully rolled out"]),
    ("kubectl get deploy made", 0, &["1/1"]),
    ("sed s/web:1/web:2/ web.yaml | kubectl apply -f -", 0, &["deployment.apps/web configured"]),
    ("kubectl rollout status deploy/web --timeout=30s", 0, &["successfully rolled out"]),
    ("kubectl rollout history deploy/web", 0, &["REVISION  CHANGE-CAUSE\n1         <none>", "3         <none>"]),
    ("kubectl rollout history deploy/web --revision=1", 0, &["with revision #1", "web:1"]),
    ("kubectl rollout undo deploy/web", 0, &["deployment.apps/web rolled back"]),
    ("kubectl rollout status deploy/web --timeout=30s", 0, &["successfully rolled out"]),
    // A rollout has ended while the last pod of before still ends.
    (
        "for _ in $(seq 50); do said=$(kubectl get pods -l app=web -o jsonpath='{.items[*].spec.containers[*].image}'); \
         case $said in *web:2*) sleep 0.2 ;; *) break ;; esac; done; echo $said",
        0,
        &["web:1", "!web:2"],
    ),
    ("kubectl rollout restart deploy/web", 0, &["deployment.apps/web restarted"]),
    ("kubectl rollout status deploy/web --timeout=30s", 0, &["successfully rolled out"]),
    ("kubectl rollout pause deploy/web", 0, &["paused"]),
    ("kubectl rollout resume deploy/web", 0, &["resumed"]),
    ("kubectl apply --server-side -f both.yaml --force-conflicts", 1, &["Server-side apply not available on the server"]),
    ("kubectl replace -f both.yaml --dry-run=client", 0, &["dry run"]),
    // ── nodes ──
    ("kubectl cordon bramble-2", 0, &["node/bramble-2 cordoned"]),
    ("kubectl cordon bramble-2", 0, &["node/bramble-2 already cordoned"]),
    ("kubectl get nodes", 0, &["bramble-2   Ready,SchedulingDisabled"]),
    (
        "kubectl run there --image=there:1 --overrides='{\"spec\":{\"nodeName\":\"bramble-2\",\"terminationGracePeriodSeconds\":1}}'",
        0,
        &["pod/there created"],
    ),
    ("kubectl wait --for=condition=Ready pod/there --timeout=30s", 0, &["condition met"]),
    ("kubectl drain bramble-2 --ignore-daemonsets", 1, &["cannot delete", "--force"]),
    ("kubectl drain bramble-2 --ignore-daemonsets --force --timeout=60s", 0, &["evicted", "node/bramble-2 drained"]),
    ("kubectl get pods -A --field-selector=spec.nodeName=bramble-2 -o name", 0, &["!pod/"]),
    ("kubectl uncordon bramble-2", 0, &["node/bramble-2 uncordoned"]),
    ("kubectl wait --for=condition=available deployment/web --timeout=30s", 0, &["condition met"]),
    ("kubectl taint node bramble-2 k=v:NoSchedule", 0, &["node/bramble-2 tainted"]),
    ("kubectl describe node bramble-2", 0, &["Taints:             k=v:NoSchedule"]),
    ("kubectl taint node bramble-2 k-", 0, &["node/bramble-2 untainted"]),
    // Now and then it runs, for a moment.
    (
        "for _ in $(seq 50); do said=$(kubectl get pod crash); case $said in *CrashLoopBackOff*) break ;; esac; sleep 0.2; done; echo \"$said\"",
        0,
        &["CrashLoopBackOff", "0/1"],
    ),
    (
        "kubectl delete pod crash --force --grace-period=0",
        0,
        &["Warning: Immediate deletion does not wait", "pod \"crash\" force deleted"],
    ),
];

/// What is refused, in Kubernetes' words; afterwards everything is as it was.
const REFUSED: &[Row] = &[
    ("kubectl apply -f not-yaml.yaml", 1, &["error parsing not-yaml.yaml", "error converting YAML to JSON"]),
    (
        "kubectl apply -f unknown-field.yaml",
        1,
        &["(BadRequest)", "strict decoding error: unknown field \"spec.containers[0].imagee\", unknown field \"spec.foo\""],
    ),
    (
        "kubectl apply -f wrong-type.yaml",
        1,
        &[
            "(BadRequest)",
            "Pod in version \"v1\" cannot be handled as a Pod",
            "cannot unmarshal array into Go struct field Container.spec.containers.image of type string",
        ],
    ),
    (
        "kubectl apply -f bad-name.yaml",
        1,
        &[
            "The Pod \"Bad_1\" is invalid",
            "* metadata.name: Invalid value: \"Bad_1\": a lowercase RFC 1123 subdomain must consist of",
            "* spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
            "* spec.containers[0].image: Required value",
        ],
    ),
    (
        "kubectl create -f bad-label.yaml",
        1,
        &[
            "metadata.labels: Invalid value: \"a b\": name part must consist of",
            "\"c d\": a valid label must be an empty string or",
        ],
    ),
    (
        "kubectl apply -f other-selector.yaml",
        1,
        &[
            "The Deployment \"bad\" is invalid: spec.template.metadata.labels: Invalid value:",
            "`selector` does not match template `labels`",
        ],
    ),
    (
        "kubectl apply -f no-template.yaml",
        1,
        &["The Deployment \"bad\" is invalid", "spec.selector: Required value", "* spec.template"],
    ),
    ("kubectl apply -f unknown-kind.yaml", 1, &["no matches for kind \"Gizmo\" in version \"v1\""]),
    ("kubectl apply -f no-kind.yaml", 1, &["apiVersion not set", "kind not set"]),
    ("kubectl get gizmos", 1, &["the server doesn't have a resource type \"gizmos\""]),
    (
        "kubectl replace -f stale.yaml",
        1,
        &[
            "(Conflict)",
            "Operation cannot be fulfilled on configmaps \"settings\": the object has been modified; please apply your changes to the latest version and try again",
        ],
    ),
    ("kubectl create configmap big --from-file=big", 1, &["Request entity too large: limit is 3145728"]),
    (
        "kubectl create configmap mid --from-file=mid",
        1,
        &["ConfigMap \"mid\" is invalid: []: Too long: may not be more than 1048576 bytes"],
    ),
    ("kubectl create configmap lost -n nowhere", 1, &["namespaces \"nowhere\" not found"]),
    ("kubectl apply -n nowhere -f both.yaml", 1, &["(NotFound)", "namespaces \"nowhere\" not found"]),
    ("kubectl get pods -n nowhere", 0, &["No resources found in nowhere namespace."]),
    ("kubectl create -f web.yaml", 1, &["(AlreadyExists)", "deployments.apps \"web\" already exists"]),
    ("kubectl create ns default", 1, &["(AlreadyExists)", "namespaces \"default\" already exists"]),
    ("kubectl delete ns default", 1, &["(Forbidden)"]),
    ("kubectl patch deploy web -p '{\"spec\":{\"replicas\":\"two\"}}'", 1, &["(BadRequest)", "of type int32"]),
    ("kubectl patch deploy web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/nope/x\",\"value\":3}]'", 1, &["invalid"]),
    ("kubectl patch deploy web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}}'", 1, &["field is immutable"]),
    (
        "kubectl patch pod tool -p '{\"spec\":{\"nodeName\":\"bramble-9\"}}'",
        1,
        &["The Pod \"tool\" is invalid: spec: Forbidden: pod updates may not change fields other than"],
    ),
    ("kubectl label node bramble-1 'bad key=1'", 1, &["Invalid value: \"bad key\""]),
    ("kubectl run Bad_Name --image=x", 1, &["Invalid value: \"Bad_Name\""]),
    ("kubectl create deployment bad --image=", 1, &["Required value"]),
    ("kubectl scale deploy nope --replicas=1", 1, &["no objects passed to scale"]),
    ("kubectl delete pod nope", 1, &["(NotFound)", "pods \"nope\" not found"]),
    ("kubectl cordon nope", 1, &["nodes \"nope\" not found"]),
    ("kubectl get pods --field-selector=spec.foo=bar", 1, &["(BadRequest)", "field label not supported: spec.foo"]),
    ("kubectl get pods -l a=b=c", 1, &["unable to parse"]),
    ("kubectl rollout undo deploy/web --to-revision=99", 1, &["unable to find specified revision 99"]),
    ("kubectl wait --for=condition=Ready pod/giant --timeout=1s", 1, &["timed out waiting for the condition on pods/giant"]),
    ("kubectl get --raw /nope", 1, &["(NotFound)", "the server could not find the requested resource"]),
    ("kubectl exec tool -c main -- true", 1, &["rror"]),
];

const LAST: &[Row] = &[
    ("kubectl delete pod alone --grace-period=1", 0, &["pod \"alone\" deleted"]),
    ("kubectl delete pod giant --now", 0, &["pod \"giant\" deleted"]),
    ("kubectl delete -f both.yaml", 0, &["configmap \"settings\" deleted", "pod \"tool\" deleted"]),
    ("kubectl delete deploy made --cascade=background", 0, &["deployment.apps \"made\" deleted"]),
    ("kubectl delete deploy web --cascade=foreground --timeout=30s", 0, &["deployment.apps \"web\" deleted"]),
    ("kubectl wait --for=delete pod -l app=made --timeout=30s", 0, &[]),
    ("kubectl get rs,pods -l 'app in (web,made)'", 0, &["No resources found"]),
    ("kubectl delete cm words --wait=false", 0, &["configmap \"words\" deleted"]),
    (
        "kubectl delete secret,svc,sa --all",
        0,
        &["secret \"keys\" deleted", "service \"front\" deleted", "serviceaccount \"robot\" deleted"],
    ),
    ("kubectl delete ns $NS-two $NS --timeout=60s", 0, &["namespace \"", "-two\" deleted"]),
    ("kubectl get ns", 0, &["!-two", "default"]),
    ("kubectl get pods -A", 0, &["No resources found"]),
];

#[test]
fn every_line_that_people_type_answers_as_kubernetes_does_with_the_oldest_kubectl() {
    let (version, program) = oldest_and_newest_kubectl().remove(0);
    whole_story(&version, &program);
}

#[test]
fn every_line_that_people_type_answers_as_kubernetes_does_with_the_newest_kubectl() {
    let mut ends = oldest_and_newest_kubectl();
    if ends.len() == 1 {
        println!("NOT RUN: there is one kubectl only");
        return;
    }
    let (version, program) = ends.remove(1);
    whole_story(&version, &program);
}

fn whole_story(version: &str, program: &Path) {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let from = Instant::now();
    let mut person = Person::new(&cluster, version, program);
    person.story(FIRST);
    // What is refused changes nothing: every object has the version that it had, and there is no other. The pod that fits
    // nowhere is left out: the scheduler tries it again and tells why not.
    let all = "kubectl get deploy,rs,cm,secret,pods,svc,sa,ns -o jsonpath='{range .items[*]}{.kind}/{.metadata.name}:{.metadata.resourceVersion}{\"\\n\"}{end}' | grep -v Pod/giant";
    let mut before = person.hears(all).out;
    let before = wait_until("nothing changes by itself", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(700));
        let now = person.hears(all).out;
        if now == before { Ok(now) } else { Err(std::mem::replace(&mut before, now)) }
    });
    assert!(before.lines().count() > 8, "{before}");
    person.story(REFUSED);
    let after = person.hears(all).out;
    if before != after {
        person.faults.push(format!("[{version}] what was refused changed something:\n{before}\nbecame\n{after}"));
    }
    person.story(LAST);
    println!("kubectl {version}: {} lines in {:.1} s", FIRST.len() + REFUSED.len() + LAST.len(), from.elapsed().as_secs_f64());
    person.end();
}

#[test]
fn a_watch_and_a_followed_log_go_on_until_their_pod_is_gone() {
    let cluster = Cluster::started(&["--runtime", "simulated"]);
    for (version, program) in oldest_and_newest_kubectl() {
        let mut person = Person::new(&cluster, &version, &program);
        person.story(&[
            (
                "timeout 60 kubectl get pods -w --output-watch-events >watched & watch=$!; sleep 3; kubectl run seen --image=seen:$NS >&2; \
                 kubectl wait --for=condition=Ready pod/seen --timeout=20s >&2; kubectl delete pod seen --grace-period=1 >&2; \
                 for _ in $(seq 100); do grep -q ^DELETED watched && break; sleep 0.1; done; kill $watch; wait; cat watched",
                0,
                &["ADDED ", "Pending", "ContainerCreating", "Running", "MODIFIED", "1/1", "Terminating", "DELETED"],
            ),
            (
                "kubectl run told --image=told:1; kubectl wait --for=condition=Ready pod/told --timeout=9s; \
                 (sleep 2; kubectl delete pod told --grace-period=1) & timeout 20 kubectl logs -f told && echo the log ended; wait",
                0,
                &["told:1", "the log ended"],
            ),
        ]);
        person.end();
    }
}
