//! The agent's unit, with all its walls, beside Debian's Docker on a machine with a real systemd: pods of every sort of volume, a service in
//! nftables, a port of the node; and who may die without the others.
//!
//! Needs: root, systemd-container, mmdebstrap, binutils, busybox-static, kubectl; Docker comes from Debian's archive into the machine. What
//! it has not: cgroup v2 with controllers, unless this machine has, and a kernel of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::machine::{Machine, Rights};
use crate::running::{journal, messages, root_of};
use crate::support::{Said, is_ready, kubectls, skipped, summary, wait_until};

const SOON: Duration = Duration::from_secs(60);
const AGENT: &str = "bramble-agent.service";
const DOCKER: &str = "docker.service";
const IMAGE: &str = "shelf/busybox:1";
/// An address on a wire that ends in this machine, and a way out: what it sends to a service has to begin on its way.
const WIRE: &str = "ip link add lan type veth peer name away && ip link set lan up && ip link set away up && ip address add 192.0.2.7/24 dev lan && ip route add default via 192.0.2.1";

const BOTH_FAMILIES: &str = "[network]
pods = \"10.244.0.0/16,fd12:3456:789a:100::/56\"
services = \"10.96.0.0/16,fd12:3456:789a::/112\"
";

/// In `web`: a config map's file and a claim's folder for a group, an empty folder of it; in `door`: a folder of the machine that is not
/// there yet, a port of the machine, and a policy's leave to be asked by `web`.
const PODS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {index.html: from the shelf}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: album}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsUser: 1000, fsGroup: 2000}
      volumes:
      - {name: page, configMap: {name: page}}
      - {name: scratch, emptyDir: {}}
      - {name: memory, emptyDir: {medium: Memory}}
      - {name: album, persistentVolumeClaim: {claimName: album}}
      containers:
      - name: main
        image: IMAGE
        command: [sh, -c, 'echo mine >/scratch/note; exec httpd -f -p 8080 -h /page']
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
        resources: {limits: {memory: 32Mi}}
        volumeMounts:
        - {name: page, mountPath: /page}
        - {name: scratch, mountPath: /scratch}
        - {name: memory, mountPath: /memory}
        - {name: album, mountPath: /album}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ipFamilyPolicy: RequireDualStack, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: door}
spec:
  replicas: 1
  selector: {matchLabels: {app: door}}
  template:
    metadata: {labels: {app: door}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: photos, hostPath: {path: /srv/photos/new, type: DirectoryOrCreate}}]
      containers:
      - name: main
        image: IMAGE
        command: [sh, -c, 'echo at the door >/photos/index.html; exec httpd -f -p 8080 -h /photos']
        ports: [{containerPort: 8080, hostPort: 8090}]
        readinessProbe: {exec: {command: [cat, /photos/index.html]}, periodSeconds: 1, timeoutSeconds: 5}
        volumeMounts: [{name: photos, mountPath: /photos}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: door}
spec:
  podSelector: {matchLabels: {app: door}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}]
";

/// A machine with Docker, and a node on it.
struct Shelf {
    machine: Machine,
    kubectl: PathBuf,
}

impl Shelf {
    fn booted() -> Self {
        let kubectl = kubectls().pop().unwrap().1.canonicalize().unwrap();
        let root =
            root_of(&["docker.io", "iptables", "strace"], "node = \"shed\"\n[join]\nmaster = \"https://192.0.2.7:6443\"\n");
        root.write("/etc/bramble/master.toml", BOTH_FAMILIES);
        std::fs::copy("/bin/busybox", root.path().join("usr/local/bin/busybox")).expect("Debian's busybox-static");
        let machine = root.boot_with(Rights::Engine, &[&kubectl]).booted();
        let shelf = Self { machine, kubectl };
        shelf.shell(WIRE);
        // systemd-nspawn leaves it to be read only. What the agent writes there is a bridge's, and it has only this machine's network in it.
        shelf.shell("mount -o remount,rw /sys/class && mount -o remount,rw /sys/devices");
        shelf.machine.wait(DOCKER, "ActiveState", "active", SOON);
        let links = "for name in sh sleep cat stat wget httpd; do ln -s busybox bin/$name; done";
        shelf.shell(&format!(
            "mkdir -p /root/image/bin /root/image/tmp && cd /root/image && cp /usr/local/bin/busybox bin && {links} && tar -c . | docker import --change 'ENV PATH=/bin' - {IMAGE}"
        ));
        shelf
    }

    #[track_caller]
    fn shell(&self, line: &str) -> String {
        self.machine.shell(line)
    }

    fn kubectl(&self, arguments: &[&str]) -> Said {
        let pki = "/var/lib/bramble/pki";
        let who = [
            "--server=https://192.0.2.7:6443".to_owned(),
            format!("--certificate-authority={pki}/ca.crt"),
            format!("--client-certificate={pki}/bramble-admin.crt"),
            format!("--client-key={pki}/bramble-admin.key"),
        ];
        let program = self.kubectl.display().to_string();
        self.machine.run([program].into_iter().chain(who).chain(arguments.iter().map(|&word| word.to_owned())))
    }

    #[track_caller]
    fn get(&self, what: &[&str]) -> Value {
        let arguments: Vec<&str> = ["get"].iter().chain(what).chain(&["-o", "json"]).copied().collect();
        serde_json::from_str(&self.kubectl(&arguments).expect()).unwrap()
    }

    /// Waits until all three pods are ready.
    #[track_caller]
    fn ready(&self) {
        wait_until("three ready pods", SOON, || {
            let pods = self.get(&["pods"])["items"].as_array().unwrap().clone();
            if pods.len() == 3 && pods.iter().all(is_ready) { Ok(()) } else { Err(summary(&pods)) }
        });
    }

    /// What Docker runs of this node: name → id.
    fn containers(&self) -> BTreeMap<String, String> {
        let listed = self.shell("docker ps --no-trunc --filter label=bramble/node=shed --format '{{.Names}} {{.ID}}'");
        listed.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
    }

    /// What a page says to who asks on the machine.
    fn page(&self, address: &str, port: u16) -> Result<String, String> {
        let asks = "exec 3<>/dev/tcp/$0/$1 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
        let said = self.machine.run(["timeout", "10", "bash", "-c", asks, address, &port.to_string()]);
        let body = said.out.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200 ")).map(|(_, body)| body);
        body.map(|body| body.trim().to_owned()).ok_or_else(|| format!("{}{}", said.out, said.err))
    }

    #[track_caller]
    fn until_page(&self, address: &str, port: u16, words: &str) {
        wait_until(&format!("{address}:{port} says: {words}"), SOON, || match self.page(address, port) {
            Ok(page) if page == words => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn pid(&self) -> String {
        self.machine.show(AGENT, "MainPID")
    }

    #[track_caller]
    fn runs(&self) {
        wait_until("the node to run", SOON, || match self.machine.show(AGENT, "StatusText") {
            text if text == "runs" => Ok(()),
            text => Err(text),
        });
    }
}

#[test]
fn the_agents_walls_leave_it_all_that_docker_and_nftables_ask_for_and_pods_outlive_it() {
    if skipped("systemd") || skipped("docker") {
        return;
    }
    let shelf = Shelf::booted();
    let machine = &shelf.machine;
    shelf.shell("systemctl start bramble-master");
    let command = shelf.shell("bramble token create --data-dir /var/lib/bramble");
    let token = command.split("--token ").nth(1).unwrap().split_whitespace().next().unwrap();
    shelf.shell(&format!("echo 'token = \"{token}\"' >>/etc/bramble/agent.toml"));
    // Who looks on from outside of the unit sees what the kernel refuses it, whether it says so or not: from before it does anything.
    shelf.shell("systemctl stop bramble-master && systemctl start bramble-agent");
    let looks = format!("strace -f -qq -y -e status=failed -o /root/refused -p {}", shelf.pid());
    shelf.shell(&format!("systemd-run --quiet --unit=looks {looks}"));
    let traced = format!("grep TracerPid /proc/{}/status", shelf.pid());
    wait_until("somebody to look on", SOON, || match shelf.shell(&traced) {
        line if line.trim_end().ends_with(":\t0") => Err(line),
        _ => Ok(()),
    });
    shelf.shell("systemctl start bramble-master");
    shelf.runs();
    std::fs::write(machine.path().join("root/pods.yaml"), PODS.replace("IMAGE", IMAGE)).unwrap();
    shelf.kubectl(&["apply", "-f", "/root/pods.yaml"]).expect();
    shelf.ready();

    // What stands in the volumes, and whose it is.
    let before = shelf.containers();
    let web = before.iter().find(|(name, _)| name.starts_with("bramble_main_web-")).unwrap().1;
    let inside = |script: &str| machine.run(["docker", "exec", web, "sh", "-c", script]).expect();
    assert_eq!(inside("cat /page/index.html"), "from the shelf");
    let owners = inside("stat -c '%n %u %g %a' /scratch /scratch/note /memory /album; stat -L -c '%g' /page/index.html");
    assert_eq!(owners, "/scratch 0 2000 2777\n/scratch/note 1000 2000 644\n/memory 0 2000 2777\n/album 0 2000 2777\n2000\n");
    assert_eq!(shelf.shell("cat /srv/photos/new/index.html"), "at the door\n");
    // A request by the service's address, and by the machine's port.
    let service = shelf.get(&["service", "web"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
    shelf.until_page(&service, 80, "from the shelf");
    shelf.until_page("192.0.2.7", 8090, "at the door");
    let tables = shelf.shell("nft list tables");
    for (family, kind) in [("ip", ""), ("ip", "-pods"), ("ip", "-policy"), ("ip6", ""), ("ip6", "-pods")] {
        let begins = format!("table {family} bramble-");
        let ours = |line: &str| line.strip_prefix(&begins).is_some_and(|rest| rest.get(8..) == Some(kind));
        assert!(tables.lines().any(ours), "{family} {kind}: {tables}");
    }
    let rules = shelf.shell(&format!("nft list ruleset | grep {service}"));
    println!("in the kernel: {rules}");

    shelf.shell("systemctl stop looks");
    let failed = shelf.shell("cat /root/refused");
    println!("{} calls of the agent, and of what it ran, failed", failed.lines().count());
    assert!(failed.contains("ENOENT"), "it was looked at");
    let refused: Vec<&str> = failed
        .lines()
        .filter(|line| ["EPERM", "EACCES", "EROFS", "EAFNOSUPPORT"].iter().any(|word| line.contains(word)))
        .collect();
    assert!(refused.is_empty(), "the unit is in its way: {refused:#?}");

    // The agent is killed, and started again; then stopped: the pods do not notice.
    let pid = shelf.pid();
    assert_eq!(before.len(), 6, "three containers and three sandboxes: {before:?}");
    shelf.shell(&format!("kill -KILL {pid}"));
    machine.wait(AGENT, "NRestarts", "1", SOON);
    shelf.runs();
    assert_ne!(shelf.pid(), pid);
    shelf.ready();
    assert_eq!(shelf.containers(), before);
    shelf.shell("systemctl stop bramble-agent");
    assert_eq!(machine.show(AGENT, "Result"), "success");
    assert_eq!(shelf.containers(), before);
    shelf.until_page(&service, 80, "from the shelf");
    shelf.until_page("192.0.2.7", 8090, "at the door");
    shelf.shell("systemctl start bramble-agent");
    shelf.runs();
    assert_eq!(shelf.containers(), before);

    // Docker is killed, and started again by systemd. Without `live-restore`, which Debian leaves off, it ends what it finds running; the
    // agent goes on, and makes it anew.
    let (pid, engine) = (shelf.pid(), machine.show(DOCKER, "MainPID"));
    shelf.shell(&format!("kill -KILL {engine}"));
    wait_until("another Docker", SOON, || match (machine.show(DOCKER, "ActiveState"), machine.show(DOCKER, "MainPID")) {
        (state, other) if state == "active" && other != engine => Ok(()),
        other => Err(format!("{other:?}")),
    });
    wait_until("all six to run", SOON, || match shelf.containers() {
        now if now.len() == 6 => Ok(()),
        now => Err(format!("{now:?}")),
    });
    shelf.ready();
    shelf.until_page(&service, 80, "from the shelf");
    assert_eq!(
        (shelf.pid(), machine.show(AGENT, "NRestarts")),
        (pid, "0".to_owned()),
        "the agent did not notice but by its work"
    );

    let said = journal(machine, &["_SYSTEMD_UNIT=bramble-agent.service"]);
    let words = ["not permitted", "denied", "os error 1)", "os error 13)", "os error 97)"];
    let refused: Vec<&str> = messages(&said).into_iter().filter(|line| words.iter().any(|word| line.contains(word))).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
