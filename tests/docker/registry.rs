//! Pull secrets, registries, architectures, and the collection of images, on real Docker with Debian's registry.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bramble::agent::images::collect::Thresholds;
use bramble::agent::images::{self, Wanted};
use bramble::agent::runtime::Runtime;
use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::tar::Tar;
use bramble::api::Object;
use bramble::api::image::listed;
use bramble::clock::SystemClock;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Kind};
use crate::support::{Agent, Cluster, deleted, docker, pod, share, skipped};

const USER: &str = "ada";
/// In base64 this has `+` and `/`, which Docker reads in its own way.
pub const PASSWORD: &str = "love?~>~?lace";
/// `htpasswd -nbBC 5 ada …`
const HTPASSWD: &str = "ada:$2y$05$gcSyCN1hyWXLXgXELKrh7uGPvr/CBf0uLFecWu3y2V5xou2uBpAVu\n";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Who keeps the images looks again after 30 s when the engine has refused a list.
const LOOKED: Duration = Duration::from_secs(90);
const STAYS: &str = "trap exit TERM; while true; do sleep 0.1; done";

/// Debian's registry.
pub struct Registry {
    child: Child,
    host: String,
    folder: tempfile::TempDir,
    auth: Option<String>,
    images: Vec<String>,
}

#[derive(Default)]
pub struct Wishes<'a> {
    pub password: bool,
    /// Certificate and key.
    pub tls: Option<(&'a Path, &'a Path)>,
    pub address: Option<IpAddr>,
    pub folder: Option<tempfile::TempDir>,
}

impl Registry {
    pub fn start(wishes: Wishes<'_>) -> Self {
        let folder = wishes.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let address = wishes.address.unwrap_or(LOOPBACK);
        let port = match wishes.tls {
            Some(_) => TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port(),
            None => Engine::start().registry_port(),
        };
        let host = format!("{address}:{port}");
        let mut config = json!({
            "version": "0.1", "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": host},
        });
        if wishes.password {
            let file = folder.path().join("htpasswd");
            std::fs::write(&file, HTPASSWD).unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": file}});
        }
        if let Some((certificate, key)) = wishes.tls {
            config["http"]["tls"] = json!({"certificate": certificate, "key": key});
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("Debian's docker-registry is installed");
        for _ in 0..200 {
            if TcpStream::connect((address, port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let auth = wishes.password.then(|| base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}")));
        Self { child, host, folder, auth, images: Vec::new() }
    }

    /// Ends it and gives its folder back.
    fn into_folder(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// One request; status and `Location`.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let path = path.strip_prefix(&format!("http://{}", self.host)).unwrap_or(path);
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let auth = self.auth.as_ref().map(|auth| format!("Authorization: Basic {auth}\r\n")).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{auth}Content-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.host,
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_default().to_owned();
        (status, location)
    }

    fn put_blob(&self, name: &str, content: &[u8]) -> String {
        let digest = digest(content);
        let (status, location) = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202);
        let divider = if location.contains('?') { '&' } else { '?' };
        let (status, _) = self.ask("PUT", &format!("{location}{divider}digest={digest}"), "application/octet-stream", content);
        assert_eq!(status, 201);
        digest
    }

    /// Puts an image of these layers; the digest of its manifest.
    pub fn put(&mut self, name: &str, tag: &str, platform: (&str, &str), layers: &[Vec<u8>]) -> (String, usize) {
        let layers: Vec<(String, usize)> = layers.iter().map(|layer| (self.put_blob(name, layer), layer.len())).collect();
        // The layers are not compressed: their digests are those of their content.
        let ids: Vec<&String> = layers.iter().map(|(digest, _)| digest).collect();
        let config = json!({"os": "linux", "architecture": platform.0, "variant": platform.1, "config": {},
            "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string();
        let layers: Vec<Value> = layers
            .iter()
            .map(|(digest, size)| json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest, "size": size}))
            .collect();
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "layers": layers, "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json", "digest": self.put_blob(name, config.as_bytes()), "size": config.len()}})
        .to_string();
        self.put_manifest(name, tag, kind, &manifest)
    }

    /// Puts a list of images by platform, each of its own one layer.
    fn put_list(&mut self, name: &str, tag: &str, images: &[(&str, &str, Vec<u8>)]) {
        let mut manifests = Vec::new();
        for (number, (architecture, variant, layer)) in images.iter().enumerate() {
            let one = format!("{tag}-{number}");
            let (digest, size) = self.put(name, &one, (architecture, variant), std::slice::from_ref(layer));
            manifests.push(
                json!({"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture, "variant": variant}}),
            );
        }
        let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
        self.put_manifest(name, tag, kind, &json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string());
    }

    fn put_manifest(&mut self, name: &str, tag: &str, kind: &str, manifest: &str) -> (String, usize) {
        let (status, _) = self.ask("PUT", &format!("/v2/{name}/manifests/{tag}"), kind, manifest.as_bytes());
        assert_eq!(status, 201, "{manifest}");
        self.images.push(self.image(&format!("{name}:{tag}")));
        (digest(manifest.as_bytes()), manifest.len())
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// How often something was fetched.
    fn fetched(&self, part: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let get =
            |line: &&str| line.contains("\"response completed\"") && line.contains("method=GET") && line.contains("status=200");
        log.lines().filter(get).filter(|line| line.contains(part)).count()
    }

    /// The file of a blob.
    fn blob(&self, digest: &str) -> std::path::PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.folder.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// As `docker login` would write it.
    pub fn login(&self, password: &str) -> Arc<Object> {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        let config = json!({"auths": {&self.host: {"auth": auth}}}).to_string();
        let data = base64::engine::general_purpose::STANDARD.encode(config);
        let secret = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}});
        Arc::new(Object::from_value(secret).unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A list that Podman refuses, since another test removes an image at this moment, is no failure of this one.
        let said = |args: &[&str]| {
            let output = crate::support::docker_command().args(args).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let digests = said(&["images", "--digests", "--format", "{{.ID}} {{.Repository}}"]);
        let mine = digests.lines().filter_map(|line| line.split_once(' ')).filter(|(_, name)| name.starts_with(&self.host));
        for (id, _) in mine {
            // The agent is gone by now, its containers not yet.
            let made_of_it = said(&["ps", "-aq", "--filter", &format!("ancestor={id}")]);
            for container in made_of_it.lines() {
                let _ = crate::support::docker_command()
                    .args(["rm", "-fv", container])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
            let _ = crate::support::docker_command()
                .args(["image", "rm", "-f", id])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn digest(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A file system with busybox, and a file that makes it another one than all others.
fn busybox(own: &str) -> Vec<u8> {
    let mut tar = Tar::default();
    tar.directory("bin", 0o755);
    tar.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").expect("busybox-static is installed"));
    for name in ["sh", "sleep", "cat", "echo"] {
        tar.link(&format!("bin/{name}"), "busybox");
    }
    tar.file("own", 0o644, own.as_bytes());
    tar.finish()
}

/// A file system with a program for another machine: the head of one is enough. It is one for IA-64, whatever the image says of
/// itself: a host may have QEMU registered (`binfmt_misc`) for each machine that Bramble knows, and would start a program for ARM.
fn foreign(own: &str) -> Vec<u8> {
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x32\0\x01\0\0\0".to_vec();
    program.resize(256, 0);
    let mut tar = Tar::default();
    tar.directory("bin", 0o755);
    tar.file("bin/sh", 0o755, &program);
    tar.file("own", 0o644, own.as_bytes());
    tar.finish()
}

fn of(name: &str, image: &str) -> Value {
    let mut pod = pod(name, &[("app", STAYS)]);
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

fn with_secrets(mut pod: Value, names: &[&str]) -> Value {
    pod["spec"]["imagePullSecrets"] = names.iter().map(|name| json!({"name": name})).collect();
    pod
}

pub async fn waiting(agent: &Agent, name: &str, reason: &str) -> String {
    let status = agent.until(name, reason, |status| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason).await;
    status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().to_owned()
}

fn events_of(agent: &Agent, name: &str) -> String {
    let of_pod = agent.events().into_iter().filter(|event| event.name == name);
    of_pod.map(|event| format!("{}: {}\n", event.reason, event.message)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_is_shown_the_pods_secrets_one_after_the_other() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut registry = Registry::start(Wishes { password: true, ..Wishes::default() });
    let names = ["right", "second", "wrong", "none", "late"];
    for name in names {
        registry.put(name, "1", ("amd64", ""), &[busybox(&format!("{} {name}", cluster.uid))]);
    }
    let agent = Agent::start(&cluster);
    let pod = |name: &str, secrets: &[&str]| with_secrets(of(name, &registry.image(&format!("{name}:1"))), secrets);
    let mut all = share(&[
        pod("right", &["good"]),
        pod("second", &["odd", "bad", "good"]),
        pod("wrong", &["bad"]),
        pod("none", &[]),
        pod("late", &["later"]),
    ]);
    all.secrets.insert("default/good".into(), registry.login(PASSWORD));
    all.secrets.insert("default/bad".into(), registry.login("hunter2"));
    all.secrets
        .insert("default/odd".into(), Arc::new(Object::from_value(json!({"data": {".dockerconfigjson": "e30x"}})).unwrap()));
    agent.want(all.clone()).await;
    agent.until_ready("right").await;
    agent.until_ready("second").await;
    for name in ["wrong", "none", "late"] {
        let words = waiting(&agent, name, "ImagePullBackOff").await;
        assert!(words.contains(&format!("registry {} wants other credentials", registry.host)), "{words}");
    }
    let late = events_of(&agent, "late");
    assert!(late.contains("FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (later)"), "{late}");
    let second = events_of(&agent, "second");
    assert!(second.contains("FailedToRetrieveImagePullSecret: Image pull secret \"odd\" cannot be used"), "{second}");
    // The secret comes: that is a reason to try at once, not after the back-off.
    all.secrets.insert("default/later".into(), registry.login(PASSWORD));
    let pulls = || agent.events().iter().filter(|event| event.name == "late" && event.reason == "Pulling").count();
    let (since, before) = (std::time::Instant::now(), pulls());
    agent.want(all).await;
    agent.until("late", "fetched again", |_| pulls() > before).await;
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    agent.until_ready("late").await;
    let said = format!("{:?}", names.map(|name| (agent.status(name), events_of(&agent, name))));
    assert!(!said.contains("lace") && !said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_named_by_tag_or_digest_and_two_pods_fetch_it_once() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut registry = Registry::start(Wishes::default());
    let layer = busybox(&cluster.uid);
    let (manifest, _) = registry.put("one", "1", ("amd64", ""), std::slice::from_ref(&layer));
    let exact = registry.image(&format!("one@{manifest}"));
    let agent = Agent::start(&cluster);
    let mut always = of("always", &registry.image("one:1"));
    always["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let mut also = of("also", &registry.image("one:1"));
    also["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    agent.want(share(&[of("tag", &registry.image("one:1")), of("digest", &exact), always, also])).await;
    for name in ["tag", "digest", "always", "also"] {
        let status = agent.until_ready(name).await;
        assert_eq!(status["containerStatuses"][0]["imageID"], json!(exact), "{name}");
    }
    assert_eq!(registry.fetched(&format!("/blobs/{}", digest(&layer))), 1, "one layer, fetched once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_image_is_made_for_is_read_before_it_is_fetched_and_before_it_is_started() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut registry = Registry::start(Wishes::default());
    let (own, arm) =
        (|name: &str| busybox(&format!("{} {name}", cluster.uid)), |name: &str| foreign(&format!("{} {name}", cluster.uid)));
    registry.put_list("arms", "1", &[("arm64", "v8", arm("a")), ("arm", "v7", arm("b"))]);
    registry.put_list("both", "1", &[("arm64", "", arm("c")), ("amd64", "", own("c"))]);
    registry.put_list("old", "1", &[("386", "", own("d")), ("arm64", "", arm("d"))]);
    registry.put("single", "1", ("arm64", ""), &[arm("e")]);
    registry.put("liar", "1", ("amd64", ""), &[arm("f")]);
    let agent = Agent::start(&cluster);
    let image = |name: &str| registry.image(&format!("{name}:1"));
    // It came to this node in another way, with nobody to ask.
    let local = format!("bramble-test-arm-{}:1", cluster.uid);
    load(&local, &arm("g"));
    let pods = ["arms", "both", "old", "single", "liar"].map(|name| of(name, &image(name)));
    let pods: Vec<Value> = pods.into_iter().chain([of("local", &local)]).collect();
    agent.want(share(&pods)).await;
    agent.until_ready("both").await;
    agent.until_ready("old").await;
    // What a list has for others is known to those only who are asked for it.
    let arms = if Kind::chosen().asks_platforms() { "linux/arm64 and linux/arm/v7 only" } else { "other machines only" };
    for (name, image, what) in [
        ("arms", image("arms"), arms),
        ("single", image("single"), "linux/arm64 only"),
        ("local", local.clone(), "linux/arm64 only"),
    ] {
        let words = waiting(&agent, name, "ImagePullBackOff").await;
        assert!(words.contains(&format!("image \"{image}\" is for {what}; this node is linux/amd64")), "{words}");
        assert!(events_of(&agent, name).contains(what));
    }
    assert_eq!(registry.fetched("/v2/arms/blobs/"), 0);
    let asked = agent.runtime.image_platforms(&image("arms"), &[]).await.unwrap();
    if Kind::chosen().asks_platforms() {
        assert_eq!(registry.fetched(&format!("/v2/single/blobs/{}", digest(&arm("e")))), 0, "no layer");
        assert!(registry.fetched("/v2/single/blobs/sha256:") >= 1, "its configuration, again at each try");
        assert_eq!(listed(&asked), "linux/arm64 and linux/arm/v7", "what the master is answered");
    } else {
        assert!(asked.is_empty(), "the master is told that nobody knows: {asked:?}");
    }
    let old = events_of(&agent, "old");
    assert!(old.contains("ForeignArchitecture: Image") && old.contains("32-bit"), "{old}");
    let liar = agent
        .until("liar", "StartError", |status| status["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "StartError")
        .await;
    let words = liar["containerStatuses"][0]["lastState"]["terminated"]["message"].as_str().unwrap();
    assert!(words.starts_with("exec format error: the program in image") && words.contains("linux/amd64 node"), "{words}");
    assert!(events_of(&agent, "liar").contains("Failed: Error: failed to start container \"app\": exec format error"));
    agent.want(share(&[])).await;
    docker(&["image", "rm", "-f", &local]);
}

/// Gives Docker an image for 64-bit ARM without a registry.
fn load(name: &str, layer: &[u8]) {
    let config =
        json!({"os": "linux", "architecture": "arm64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}});
    let mut tar = Tar::default();
    tar.file("config.json", 0o644, config.to_string().as_bytes());
    tar.file("layer.tar", 0o644, layer);
    tar.file(
        "manifest.json",
        0o644,
        json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string().as_bytes(),
    );
    let mut load =
        crate::support::docker_command().args(["load", "-q"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    load.stdin.take().unwrap().write_all(&tar.finish()).unwrap();
    assert!(load.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_nothing_or_of_rubbish_is_told_in_words() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut registry = Registry::start(Wishes::default());
    registry.put("nothing", "1", ("amd64", ""), &[Tar::default().finish()]);
    let layer = busybox(&cluster.uid);
    registry.put("rubbish", "1", ("amd64", ""), std::slice::from_ref(&layer));
    // As long as before, and something else.
    std::fs::write(registry.blob(&digest(&layer)), vec![7u8; layer.len()]).unwrap();
    let agent = Agent::start(&cluster);
    agent.want(share(&[of("nothing", &registry.image("nothing:1")), of("rubbish", &registry.image("rubbish:1"))])).await;
    let nothing = agent
        .until("nothing", "StartError", |status| {
            status["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "StartError"
        })
        .await;
    let words = nothing["containerStatuses"][0]["lastState"]["terminated"]["message"].to_string();
    assert!(words.contains("/bin/sh"), "{words}");
    let words = waiting(&agent, "rubbish", "ImagePullBackOff").await;
    assert!(words.contains("is damaged, or the line broke"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_private_authority_is_trusted_once_its_certificate_is_on_the_node() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut plain = Registry::start(Wishes::default());
    plain.put("tls", "1", ("amd64", ""), &[busybox(&cluster.uid)]);
    // Docker trusts everything on 127.0.0.0/8: an address of a bridge of its own on this host, that it does not.
    let address: IpAddr = if Kind::chosen().trusts_loopback() {
        let network = format!("bramble-test-tls-{}", cluster.uid);
        let label = format!("bramble/cluster={}", cluster.uid);
        docker(&["network", "create", "--label", &label, &network]);
        docker(&["network", "inspect", &network, "--format", "{{(index .IPAM.Config 0).Gateway}}"]).parse().unwrap()
    } else {
        LOOPBACK
    };
    let pki = tempfile::tempdir().unwrap();
    let (certificate, key) = (pki.path().join("tls.crt"), pki.path().join("tls.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry", "-addext"])
        .arg(format!("subjectAltName=IP:{address}"))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let registry = Registry::start(Wishes {
        tls: Some((&certificate, &key)),
        address: Some(address),
        folder: Some(plain.into_folder()),
        ..Wishes::default()
    });
    let agent = Agent::start(&cluster);
    agent.want(share(&[of("web", &registry.image("tls:1"))])).await;
    let words = waiting(&agent, "web", "ImagePullBackOff").await;
    let place = format!("{}/{}", Kind::chosen().certificates(), registry.host);
    assert!(words.contains("x509") && words.contains(&format!("{place}/ca.crt")), "{words}");
    // What those words say is done.
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(&certificate, format!("{place}/ca.crt")).unwrap();
    agent.want(share(&[of("trusting", &registry.image("tls:1"))])).await;
    agent.until_ready("trusting").await;
    std::fs::remove_dir_all(&place).unwrap();
    // Its address is the network's: that goes after it.
    agent.kill().await;
    drop(registry);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_hangs_is_given_up_with_its_pod() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    // It takes connections and says nothing.
    let hung = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let web = of("web", &format!("{}/a:1", hung.local_addr().unwrap()));
    agent.want(share(std::slice::from_ref(&web))).await;
    agent.until("web", "pulling", |_| agent.reasons().iter().any(|reason| reason == "Pulling")).await;
    let since = std::time::Instant::now();
    agent.want(share(&[deleted(web)])).await;
    agent.until_gone("web").await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert!(!events_of(&agent, "web").contains("Failed:"), "{}", events_of(&agent, "web"));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_bramble_fetched_go_when_nobody_uses_them_and_others_stay() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut registry = Registry::start(Wishes::default());
    for name in ["used", "unused", "theirs"] {
        registry.put(name, "1", ("amd64", ""), &[busybox(&format!("{} {name}", cluster.uid))]);
    }
    let image = |name: &str| registry.image(&format!("{name}:1"));
    docker(&["pull", "-q", &image("theirs")]);
    let data = tempfile::tempdir().unwrap();
    let keep = |runtime: &Arc<DockerRuntime>, fetched, wanted: &[String]| {
        let (told, images) = watch::channel(Vec::new());
        let wanted: Wanted = wanted.iter().cloned().collect();
        let parts = images::run::Parts {
            runtime: Arc::clone(runtime) as Arc<dyn Runtime>,
            clock: SystemClock::start(),
            data_dir: data.path().to_owned(),
            // Any disk is fuller than this.
            limits: Thresholds { high_percent: 0, low_percent: 0, minimum_age: Duration::ZERO },
            fetched,
            wanted: watch::channel(wanted).1,
            told,
        };
        let stop = CancellationToken::new();
        let (_, task) = images::run::make(parts, stop.clone());
        (stop, tokio::spawn(task), images)
    };
    let start = || {
        let (fetched, fetches) = mpsc::channel(16);
        let mut settings = cluster.settings();
        settings.fetched = Some(fetched);
        (Agent::start_on(DockerRuntime::new(settings)), fetches)
    };
    let (agent, fetches) = start();
    let pods = ["used", "unused", "theirs"].map(|name| of(name, &image(name)));
    let all: Vec<String> = ["used", "unused", "theirs"].map(&image).into();
    let (stop, task, mut listed) = keep(&agent.runtime, fetches, &all);
    agent.want(share(&pods)).await;
    for name in ["used", "unused", "theirs"] {
        agent.until_ready(name).await;
    }
    let told = listed.wait_for(|images| images.iter().any(|one| one.names.contains(&image("unused"))));
    let told = tokio::time::timeout(LOOKED, told).await.expect("the node tells of it").unwrap().clone();
    // Another test may have one of nothing on this engine.
    let mut own = told.iter().filter(|one| one.names.iter().any(|name| all.contains(name)));
    assert!(own.all(|one| one.size_bytes > 0) && told.len() <= 50, "{told:?}");
    agent.want(share(&pods[..1])).await;
    let filter = "label=bramble/pod-uid=uid-unused";
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !docker(&["ps", "-aq", "--filter", filter, "--filter", &format!("label=bramble/cluster={}", cluster.uid)]).is_empty() {
        // What uses an image is looked at each five minutes only.
        assert!(std::time::Instant::now() < deadline, "the pod stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The agent's next start knows what the one before had fetched.
    stop.cancel();
    task.await.unwrap();
    agent.kill().await;
    let (agent, fetches) = start();
    agent.want(share(&pods[..1])).await;
    agent.until_ready("used").await;
    let (stop, task, mut listed) = keep(&agent.runtime, fetches, &[image("used")]);
    let gone = listed.wait_for(|images| !images.is_empty() && !images.iter().any(|one| one.names.contains(&image("unused"))));
    tokio::time::timeout(LOOKED, gone).await.expect("it is removed").unwrap();
    let here = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(here.lines().any(|name| name == image("theirs")), "somebody else fetched it");
    assert!(here.lines().any(|name| name == image("used")), "a container uses it");
    stop.cancel();
    task.await.unwrap();
}
