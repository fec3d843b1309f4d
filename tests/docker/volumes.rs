//! volumes of every kind, and their live updates, on real Docker.

use std::sync::Arc;
use std::time::Duration;

use bramble::agent::pods::dir;
use bramble::agent::runtime::{Command, Done, PodRef, Runtime as _};
use bramble::agent::volumes::disk;
use bramble::api::{Object, Uid};
use bramble::link::share::Share;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Agent, BUSYBOX, Cluster, deleted, docker, pod, share, skipped};

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_a_pod_that_nobody_knows_is_removed_once_the_share_is_known() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let uid = Uid::from("uid-forgotten");
    disk::make(&dir::container(cluster.run.path(), &uid, "app", 0)).unwrap();
    let agent = Agent::start(&cluster);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(disk::has_pod(cluster.run.path(), &uid), "it may be in the share that is not here yet");
    agent.want(Share::default()).await;
    wait_until("it is gone", || !disk::has_pod(cluster.run.path(), &uid)).await;
}

/// A share of these pods, and of config maps and secrets of namespace `default`.
fn share_of(pods: &[Value], config_maps: &[(&str, Value)], secrets: &[(&str, Value)]) -> Share {
    let objects = |kind: &[(&str, Value)]| {
        kind.iter()
            .map(|(name, object)| (format!("default/{name}"), Arc::new(Object::from_value(object.clone()).unwrap())))
            .collect()
    };
    Share { config_maps: objects(config_maps), secrets: objects(secrets), ..share(pods) }
}

/// The Docker id of the pod's container.
fn id(status: &Value, index: usize) -> String {
    status["containerStatuses"][index]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// What a shell command says in a container.
fn inside(id: &str, script: &str) -> String {
    docker(&["exec", id, "/bin/sh", "-c", script])
}

/// A pod of one container that stays, with these volumes and mounts.
#[allow(clippy::needless_pass_by_value)] // reads better with json!
fn with_volumes(name: &str, volumes: Value, mounts: Value) -> Value {
    let mut made = pod(name, &[("app", "sleep 1000")]);
    made["spec"]["volumes"] = volumes;
    made["spec"]["containers"][0]["volumeMounts"] = mounts;
    made
}

fn waiting(status: &Value) -> String {
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    format!("{}: {}", waiting["reason"].as_str().unwrap_or_default(), waiting["message"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn content_has_its_modes_and_group_and_follows_the_share_at_once() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = with_volumes(
        "web",
        json!([
            {"name": "conf", "configMap": {"name": "c", "defaultMode": 0o640}},
            {"name": "key", "secret": {"secretName": "s", "defaultMode": 0o400, "items": [{"key": "p", "path": "deep/er/pass"}, {"key": "p", "path": "open", "mode": 0o755}]}},
            {"name": "about", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}}]}},
            {"name": "kube-api-access-abcde", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}},
                {"configMap": {"name": "later", "optional": true}},
                {"secret": {"name": "s", "items": [{"key": "p", "path": "mine/p"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
        ]),
        json!([
            {"name": "conf", "mountPath": "/conf"}, {"name": "key", "mountPath": "/key"}, {"name": "about", "mountPath": "/about"},
            {"name": "kube-api-access-abcde", "mountPath": "/all"},
            {"name": "conf", "mountPath": "/frozen", "subPath": "a"},
        ]),
    );
    web["metadata"]["labels"] = json!({"app": "web"});
    web["spec"]["securityContext"] = json!({"fsGroup": 2000});
    let secrets = [("s", json!({"data": {"p": "aHVudGVyMg=="}}))];
    let config = |a: &str| [("c", json!({"data": {"a": a, "b": "same"}, "binaryData": {"z": "AAE="}}))];
    agent.want(share_of(std::slice::from_ref(&web), &config("one"), &secrets)).await;
    let app = id(&agent.until_ready("web").await, 0);
    let modes = inside(&app, "cd /; stat -L -c '%a %u:%g %n' conf conf/a key/deep key/deep/er/pass key/open all/mine/p");
    assert_eq!(
        modes.lines().collect::<Vec<_>>(),
        [
            "2777 0:2000 conf",
            "640 0:2000 conf/a",
            "2755 0:2000 key/deep",
            "440 0:2000 key/deep/er/pass",
            "755 0:2000 key/open",
            "644 0:2000 all/mine/p",
        ]
    );
    assert_eq!(
        inside(&app, "cat /conf/a /key/open /about/labels /about/uid /all/namespace"),
        "onehunter2app=\"web\"uid-webdefault"
    );
    let listed = inside(&app, "ls -A /all");
    let names: Vec<&str> = listed.lines().collect();
    assert!(names[0].starts_with("..20") && names[1..] == ["..data", "mine", "namespace"], "{names:?}");
    assert!(inside(&app, "echo x > /conf/a || echo refused").contains("refused"), "content is read-only");
    let ignored = agent.events().into_iter().filter(|event| event.reason == "FieldIgnored").collect::<Vec<_>>();
    assert!(ignored.iter().any(|event| event.message.contains("serviceAccountToken")), "{ignored:?}");

    // A new label, another value, a config map that comes: seen by the running container within moments.
    web["metadata"]["labels"]["tier"] = json!("front");
    let mut config = config("two").to_vec();
    config.push(("later", json!({"data": {"came": "yes"}})));
    let asked = std::time::Instant::now();
    agent.want(share_of(std::slice::from_ref(&web), &config, &secrets)).await;
    wait_until("the change is seen", || {
        inside(&app, "cat /conf/a /about/labels /all/came 2>/dev/null || true") == "twoapp=\"web\"\ntier=\"front\"yes"
    })
    .await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(inside(&app, "cat /frozen"), "one", "a subPath stays as it was");

    // It goes again; and the same content is not written again.
    let before = inside(&app, "/bin/busybox readlink /conf/..data");
    config.pop();
    agent.want(share_of(std::slice::from_ref(&web), &config, &secrets)).await;
    wait_until("what is gone is gone", || inside(&app, "ls /all") == "mine\nnamespace").await;
    assert_eq!(inside(&app, "/bin/busybox readlink /conf/..data"), before);
    assert_eq!(id(&agent.status("web"), 0), app, "nothing was restarted for it");

    agent.want(share_of(&[deleted(web)], &config, &secrets)).await;
    agent.until_gone("web").await;
    assert!(!disk::has_pod(cluster.run.path(), &Uid::from("uid-web")), "its directory goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_in_a_container_never_sees_a_mix_of_two_versions() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = with_volumes(
        "web",
        json!([{"name": "conf", "configMap": {"name": "c"}}]),
        json!([{"name": "conf", "mountPath": "/conf"}]),
    );
    let script = "while :; do (cd /conf/..data && a=$(cat a) && b=$(cat b) && if [ $a != $b ]; then echo MIX $a $b; fi; echo $a) 2>/dev/null; done";
    web["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c", script]);
    let config = |n: u32| [("c", json!({"data": {"a": n.to_string(), "b": n.to_string()}}))];
    agent.want(share_of(std::slice::from_ref(&web), &config(0), &[])).await;
    let app = id(&agent.until_ready("web").await, 0);
    for round in 1..=20 {
        agent.want(share_of(std::slice::from_ref(&web), &config(round), &[])).await;
        let seen = round.to_string();
        wait_until("the round is seen", || docker(&["logs", "--tail", "1", &app]) == seen).await;
    }
    let log = docker(&["logs", &app]);
    assert!(!log.contains("MIX"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_waited_for_and_said_and_large_content_fits() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = with_volumes(
        "web",
        json!([
            {"name": "conf", "configMap": {"name": "big"}},
            {"name": "key", "secret": {"secretName": "s"}},
            {"name": "disk", "persistentVolumeClaim": {"claimName": "data"}},
        ]),
        json!([{"name": "conf", "mountPath": "/conf"}, {"name": "key", "mountPath": "/key"}, {"name": "disk", "mountPath": "/disk"}]),
    );
    web["spec"]["securityContext"] = json!({"fsGroup": 2000, "runAsUser": 1000});
    let data: serde_json::Map<String, Value> = (0..1000).map(|n| (format!("-odd.{n}_"), json!("x".repeat(1040)))).collect();
    let config = [("big", json!({"data": data, "binaryData": {".hidden": "AP8="}}))];
    agent.want(share_of(std::slice::from_ref(&web), &config, &[])).await;
    let words = "MountVolume.SetUp failed for volume \"key\" : secret \"s\" not found";
    agent.until("web", "it waits for the secret", |status| waiting(status) == format!("ContainerCreating: {words}")).await;
    wait_until("it is an event", || agent.events().iter().any(|event| event.reason == "FailedMount" && event.message == words))
        .await;

    let secrets = [("s", json!({"data": {"p": "aHVudGVyMg=="}}))];
    agent.want(share_of(std::slice::from_ref(&web), &config, &secrets)).await;
    agent
        .until("web", "it waits for the claim", |status| waiting(status).contains("persistentvolumeclaim \"data\" not found"))
        .await;

    let place = tempfile::tempdir().unwrap();
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"local": {"path": place.path().join("default_data_01234567")}}});
    let mut all = share_of(std::slice::from_ref(&web), &config, &secrets);
    all.claims.insert("default/data".into(), Arc::new(Object::from_value(volume).unwrap()));
    agent.want(all.clone()).await;
    agent
        .until("web", "the volume's path is missing", |status| {
            waiting(status).contains("/default_data_01234567\" does not exist")
        })
        .await;

    // One that the master made for the claim is made here, for the pod's group.
    let volume = json!({"metadata": {"name": "pv", "uid": "0123456789", "annotations": {"pv.kubernetes.io/provisioned-by": "bramble/local"}},
        "spec": {"claimRef": {"namespace": "default", "name": "data", "uid": "u"}, "local": {"path": place.path().join("default_data_01234567")}}});
    all.claims.insert("default/data".into(), Arc::new(Object::from_value(volume).unwrap()));
    agent.want(all).await;
    let app = id(&agent.until_ready("web").await, 0);
    assert_eq!(inside(&app, "stat -c '%a %g' /disk"), "2777 2000");
    inside(&app, "echo kept > /disk/file");
    assert_eq!(std::fs::read_to_string(place.path().join("default_data_01234567/file")).unwrap(), "kept\n");
    assert_eq!(inside(&app, "ls /conf | /bin/busybox wc -l"), "1000");
    assert_eq!(inside(&app, "/bin/busybox wc -c < /conf/.hidden"), "2");
    assert_eq!(inside(&app, "cat /conf/-odd.*_ | /bin/busybox wc -c"), (1000 * 1040).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_path_is_made_and_never_leads_out_of_its_volume() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let outside = tempfile::tempdir().unwrap();
    let host = outside.path().join("volume");
    std::fs::create_dir(&host).unwrap();
    std::os::unix::fs::symlink("/etc", host.join("evil")).unwrap();
    std::fs::create_dir(outside.path().join("secret")).unwrap();
    std::os::unix::fs::symlink("../secret", host.join("up")).unwrap();
    let mounts = |sub: &str, volume: &str| json!([{"name": volume, "mountPath": "/v", "subPath": sub}]);
    let volumes = json!([{"name": "scratch", "emptyDir": {}}, {"name": "fast", "emptyDir": {"medium": "Memory"}},
        {"name": "host", "hostPath": {"path": host, "type": "Directory"}}, {"name": "conf", "configMap": {"name": "c"}}]);
    let mut pods = Vec::new();
    let bad = [
        ("a", "scratch", "etc"),
        ("b", "scratch", "up/etc"),
        ("c", "fast", "etc"),
        ("d", "host", "evil"),
        ("e", "host", "up"),
        ("f", "conf", "none"),
    ];
    for (name, volume, sub) in bad {
        let mut bad = with_volumes(name, volumes.clone(), mounts(sub, volume));
        // The classic: one container lays the trap, the next one is mounted into it.
        bad["spec"]["initContainers"] = json!([{"name": "trap", "image": BUSYBOX,
            "command": ["/bin/sh", "-c", "cd /scratch && /bin/busybox ln -s /etc etc && /bin/busybox ln -s ../../../../../../.. up && cd /fast && /bin/busybox ln -s /etc etc"],
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "fast", "mountPath": "/fast"}]}]);
        pods.push(bad);
    }
    let mut good = with_volumes(
        "good",
        volumes.clone(),
        json!([
            {"name": "scratch", "mountPath": "/new", "subPath": "made/by/us"},
            {"name": "scratch", "mountPath": "/mine", "subPathExpr": "logs/$(POD)"},
            {"name": "scratch", "mountPath": "/all"},
            {"name": "fast", "mountPath": "/fast", "subPath": "x"},
            {"name": "host", "mountPath": "/host", "subPath": "y"},
            {"name": "conf", "mountPath": "/etc/app.conf", "subPath": "app.conf"},
        ]),
    );
    good["spec"]["containers"][0]["env"] = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    pods.push(good);
    agent.want(share_of(&pods, &[("c", json!({"data": {"app.conf": "yes"}}))], &[])).await;
    for (name, volume, sub) in bad {
        let why = if volume == "conf" { "does not exist in the volume" } else { "leads out of the volume" };
        let status = agent.until(name, "refused", |status| waiting(status).contains(why)).await;
        assert!(waiting(&status).starts_with("CreateContainerError: failed to prepare"), "{sub}: {}", waiting(&status));
        assert!(status["containerStatuses"][0].get("containerID").is_none(), "{name}");
    }
    let app = id(&agent.until_ready("good").await, 0);
    inside(&app, "echo 1 > /new/f; echo 2 > /mine/f; echo 3 > /fast/f; echo 4 > /host/f");
    assert_eq!(
        inside(&app, "cat /all/made/by/us/f /all/logs/good/f /etc/app.conf; stat -c %a /all/made /all/logs/good"),
        "1\n2\nyes777\n777"
    );
    assert_eq!(std::fs::read_to_string(host.join("y/f")).unwrap(), "4\n");
    assert_eq!(std::fs::read_dir(outside.path().join("secret")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_paths_are_checked_and_made_and_mounts_cross_where_asked() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("file"), "f").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let shared = Mounted::shared(&at("shared"));
    let volume = |name: &str, path: String, kind: &str| json!({"name": name, "hostPath": {"path": path, "type": kind}});
    let good = with_volumes(
        "good",
        json!([
            volume("a", at("new/dir"), "DirectoryOrCreate"),
            volume("b", at("made"), "FileOrCreate"),
            volume("c", at("file"), "File"),
            volume("d", at("socket"), "Socket"),
            volume("e", "/dev/null".into(), "CharDevice"),
            volume("f", at("any"), ""),
            volume("g", shared.0.clone(), "Directory"),
        ]),
        json!([
            {"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}, {"name": "c", "mountPath": "/c", "readOnly": true},
            {"name": "d", "mountPath": "/d"}, {"name": "e", "mountPath": "/e"}, {"name": "f", "mountPath": "/f"},
            {"name": "g", "mountPath": "/in", "mountPropagation": "HostToContainer"}, {"name": "g", "mountPath": "/none"},
        ]),
    );
    let bad = with_volumes("bad", json!([volume("x", at("file"), "Directory")]), json!([{"name": "x", "mountPath": "/x"}]));
    agent.want(share(&[good, bad])).await;
    let words =
        format!("MountVolume.SetUp failed for volume \"x\" : hostPath type check failed: {} is not a directory", at("file"));
    agent.until("bad", "refused", |status| waiting(status) == format!("ContainerCreating: {words}")).await;
    wait_until("it is said", || agent.events().iter().any(|event| event.reason == "FailedMount" && event.message == words)).await;

    let app = id(&agent.until_ready("good").await, 0);
    assert_eq!(
        inside(&app, "stat -c %F /a /b /d /e /f"),
        "directory\nregular empty file\nsocket\ncharacter special file\ndirectory"
    );
    assert_eq!(inside(&app, "cat /c; (echo x > /c) 2>/dev/null || echo refused"), "frefused");
    std::fs::create_dir(format!("{}/disk", shared.0)).unwrap();
    let below = Mounted::tmpfs(&format!("{}/disk", shared.0));
    std::fs::write(format!("{}/plugged", below.0), "in").unwrap();
    assert_eq!(inside(&app, "cat /in/disk/plugged; ls /none/disk"), "in");

    // What is mended is found by itself.
    std::fs::remove_file(at("file")).unwrap();
    std::fs::create_dir(at("file")).unwrap();
    agent.until_ready("bad").await;
}

/// A mount of this test, gone with it.
struct Mounted(String);

impl Mounted {
    fn shared(path: &str) -> Self {
        std::fs::create_dir(path).unwrap();
        run("mount", &["--bind", path, path]);
        run("mount", &["--make-shared", path]);
        Self(path.to_owned())
    }

    fn tmpfs(path: &str) -> Self {
        run("mount", &["-t", "tmpfs", "tmpfs", path]);
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-R", "-l", &self.0]).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let output = std::process::Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn scratch_belongs_to_the_group_and_is_measured() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = with_volumes(
        "web",
        json!([{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}},
               {"name": "fresh", "emptyDir": {}}]),
        json!([{"name": "scratch", "mountPath": "/scratch"}, {"name": "fast", "mountPath": "/fast"}, {"name": "scratch", "mountPath": "/again", "readOnly": true},
               {"name": "fresh", "mountPath": "/fresh"}]),
    );
    web["spec"]["securityContext"] = json!({"fsGroup": 2000, "runAsUser": 1000});
    let mut second = web["spec"]["containers"][0].clone();
    second["name"] = json!("second");
    web["spec"]["containers"].as_array_mut().unwrap().push(second);
    agent.want(share(&[web])).await;
    let status = agent.until_ready("web").await;
    let (app, second) = (id(&status, 0), id(&status, 1));
    assert_eq!(inside(&app, "stat -c '%a %u:%g' /scratch /fast"), "2777 0:2000\n2777 0:2000");
    inside(&app, "echo mine > /scratch/f; /bin/busybox dd if=/dev/zero of=/scratch/large bs=1024 count=3000 2>/dev/null");
    assert_eq!(
        inside(&second, "cat /again/f; stat -c %u:%g /scratch/f; (echo x > /again/g) 2>/dev/null || echo refused"),
        "mine\n1000:2000\nrefused"
    );
    assert!(
        inside(&app, "/bin/busybox dd if=/dev/zero of=/fast/large bs=1024 count=3000 2>&1 || true").contains("No space left")
    );
    let pod = PodRef { uid: Uid::from("uid-web"), namespace: "default".into(), name: "web".into() };
    let measured = agent
        .runtime
        .execute(&pod, &Command::MeasureVolumes { volumes: vec!["scratch".into(), "fresh".into()] }, &CancellationToken::new())
        .await;
    let Ok(Done::Measured(measured)) = measured else { panic!("{measured:?}") };
    assert!(measured[0].1 > 3_000_000 && measured[1].1 < 100_000, "{measured:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_killed_finds_its_content_and_leaves_no_directory() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let web = with_volumes(
        "web",
        json!([{"name": "conf", "configMap": {"name": "c"}}]),
        json!([{"name": "conf", "mountPath": "/conf"}]),
    );
    let other = with_volumes(
        "other",
        json!([{"name": "conf", "configMap": {"name": "c"}}]),
        json!([{"name": "conf", "mountPath": "/conf"}]),
    );
    let config = [("c", json!({"data": {"a": "1"}}))];
    agent.want(share_of(&[web.clone(), other], &config, &[])).await;
    let app = id(&agent.until_ready("web").await, 0);
    agent.until_ready("other").await;
    let before = inside(&app, "/bin/busybox readlink /conf/..data");
    agent.kill().await;

    let agent = Agent::start(&cluster);
    agent.want(share_of(&[web], &config, &[])).await;
    assert_eq!(id(&agent.until_ready("web").await, 0), app);
    wait_until("the pod that left is gone", || disk::pods(cluster.run.path()).unwrap() == [Uid::from("uid-web")]).await;
    assert_eq!(inside(&app, "/bin/busybox readlink /conf/..data"), before, "nothing was written again");
    agent.want(Share::default()).await;
    wait_until("nothing is left", || disk::pods(cluster.run.path()).unwrap().is_empty()).await;
}
