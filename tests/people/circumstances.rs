//! Machines on which something is wrong: each time what, why and what to do, and nothing that was acknowledged is lost.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::{kubectls, wait_until};
use super::terminal::{Heard, bramble};

const FREE: [&str; 6] = ["--api-port", "0", "--mqtt-port", "0", "--viewer-port", "0"];

/// A home that every user may look into, with the program in it: where it was built may be closed to others.
fn open_home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = home.path().join("bramble");
    // A hard link where it can be one: the program is large.
    std::fs::hard_link(env!("CARGO_BIN_EXE_bramble"), &program)
        .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_bramble"), &program).map(drop))
        .unwrap();
    (home, program)
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// The program as a user without rights.
fn as_nobody(home: &Path, program: &Path, arguments: &[&str]) -> Heard {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    Heard::from(command.args(arguments).env("HOME", home).env_remove("DOCKER_HOST").env("KUBECONFIG", home.join("kubeconfig")))
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn a_port_in_use_is_named_with_who_has_it() {
    let home = tempfile::tempdir().unwrap();
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = ours.local_addr().unwrap().port().to_string();
    let data = path(home.path(), "c");
    for (flag, what) in [("--api-port", "the API"), ("--mqtt-port", "MQTT for nodes"), ("--viewer-port", "MQTT for people")] {
        let mut flags = FREE;
        let at = flags.iter().position(|known| *known == flag).unwrap();
        flags[at + 1] = &port;
        let start = ["start", "--runtime", "simulated", "--data-dir", &data];
        let told = Heard::from(&mut bramble(home.path(), start.iter().chain(&flags)));
        told.fails(1, &format!("port {port}, wanted for {what}, is in use by "), &format!("{flag} 0"));
        assert!(told.err.contains(&format!("(pid {})", std::process::id())), "{}", told.err);
        assert!(!Path::new(&data).join("cluster.json").exists(), "a start that could not begin leaves no cluster");
    }
    // The daemon itself, whose flag is another one.
    let listen = format!("127.0.0.1:{port}");
    let master = ["master", "--data-dir", &data, "--api-listen", &listen, "--mqtt-listen", "127.0.0.1:0"];
    let told = Heard::from(bramble(home.path(), master).env("BRAMBLE_MQTT__VIEWER_LISTEN", "off"));
    told.says(1, &[&format!("cannot listen on {listen}: another program uses this port"), "--api-listen"]);
    let master = ["master", "--data-dir", &data, "--mqtt-listen", &listen, "--api-listen", "127.0.0.1:0"];
    let told = Heard::from(bramble(home.path(), master).env("BRAMBLE_MQTT__VIEWER_LISTEN", "off"));
    told.says(1, &[&format!("cannot listen for MQTT on {listen}: another program has this port"), "another port"]);
}

#[test]
fn a_kept_port_that_somebody_else_took_is_named_at_the_next_start() {
    let cluster = super::support::Cluster::started(&["--runtime", "simulated"]);
    let api = cluster.status()["api"].as_str().unwrap().to_owned();
    cluster.bramble(["stop"]).expect();
    let _ours = TcpListener::bind(api.strip_prefix("https://").unwrap()).unwrap();
    let told = cluster.start(&[]);
    assert_eq!(told.code, 1, "{}", told.out);
    assert!(
        told.err.contains(&format!("(pid {})", std::process::id())) && told.err.contains("this cluster keeps port"),
        "{}",
        told.err
    );
}

#[test]
fn dockers_socket_that_refuses_this_user_is_told_with_the_command_that_helps() {
    let (home, program) = open_home();
    // A socket that is there and closed to all but its owner.
    let socket = path(home.path(), "docker.sock");
    let _engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let owner = if is_root() { 0o600 } else { 0 };
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(owner)).unwrap();
    let folder = home.path().join("nobody");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let data = path(&folder, "c");
    for runtime in ["auto", "docker"] {
        let docker_host = format!("DOCKER_HOST=unix://{socket}");
        let mut command = if is_root() { Command::new("setpriv") } else { Command::new("env") };
        if is_root() {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "env"]);
        }
        let start = ["start", "--data-dir", &data, "--runtime", runtime];
        let told = Heard::from(command.arg(&docker_host).arg(&program).args(start).args(FREE).env("HOME", &folder));
        told.fails(1, &format!("this user may not use Docker: {socket} refuses it"), "sudo usermod -aG docker $USER");
        assert!(told.err.contains("why: Permission denied"), "{}", told.err);
        assert!(!Path::new(&data).exists(), "nothing was made");
    }
}

#[test]
fn without_docker_auto_simulates_and_says_so_first_and_last() {
    let home = tempfile::tempdir().unwrap();
    let data = path(home.path(), "c");
    let missing = path(home.path(), "no.sock");
    let dead = path(home.path(), "dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let start = |socket: &str, runtime: &str| {
        let start = ["start", "--data-dir", &data, "--runtime", runtime];
        Heard::from(bramble(home.path(), start.iter().chain(&FREE)).env("DOCKER_HOST", format!("unix://{socket}")))
    };
    start(&missing, "docker").fails(1, "there is no Docker here", "--runtime simulated");
    start(&dead, "docker").fails(1, "Docker is not running", "systemctl start docker");
    for (socket, why) in [(&missing, "there is no Docker here"), (&dead, "Docker is not running")] {
        let told = start(socket, "auto");
        told.says(0, &["1 node ready in"]);
        let lines: Vec<&str> = told.out.lines().collect();
        for line in [lines[0], lines[lines.len() - 1]] {
            assert!(line.contains("SIMULATED") && line.contains(why) && line.contains("install"), "{line:?} in\n{}", told.out);
        }
        let kubectl = ["kubectl", "--data-dir", &data, "get", "nodes", "-o", "wide"];
        Heard::from(&mut bramble(home.path(), kubectl)).says(0, &["simulated://"]);
        Heard::from(&mut bramble(home.path(), ["delete", "--data-dir", &data])).says(0, &["removed"]);
    }
    let remote = Heard::from(bramble(home.path(), ["start", "--data-dir", &data]).env("DOCKER_HOST", "tcp://there:2375"));
    remote.fails(2, "DOCKER_HOST is tcp://there:2375", "unset DOCKER_HOST");
}

#[test]
fn a_data_directory_that_this_user_may_not_write_is_named() {
    let (home, program) = open_home();
    let closed = home.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).unwrap();
    let at = closed.display().to_string();
    let config = path(home.path(), "agent.toml");
    std::fs::write(&config, "node = 'pi'\ncluster_uid = 'u'\nruntime = 'simulated'\n").unwrap();
    let start = [&["start", "--runtime", "simulated", "--data-dir", &at][..], &FREE].concat();
    for arguments in [&start[..], &["master", "--data-dir", &at], &["agent", "--config", &config, "--data-dir", &at]] {
        let told = as_nobody(home.path(), &program, arguments);
        told.fails(1, &format!("cannot write {at}"), "or choose another directory with --data-dir");
        assert!(told.err.contains("why: Permission denied"), "{}", told.err);
    }
}

/// A small file system that only one process sees, and those who are sent into its view of the disk.
struct Disk {
    holder: Child,
    at: PathBuf,
    home: tempfile::TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        let mount = format!("mount -t tmpfs -o size={size} none '{}' && echo ready && exec sleep 300", at.display());
        let mut command = Command::new("unshare");
        // Without being root, root of a namespace of one's own.
        command.args(if is_root() { &["-m"][..] } else { &["-r", "-m"][..] });
        let mut holder = command.args(["sh", "-c", &mount]).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).expect("a mount namespace with a tmpfs");
        Self { holder, at, home }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m"]);
        if !is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg(program).env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("kubeconfig"));
        command
    }

    fn bramble(&self, arguments: &[&str]) -> Heard {
        let (first, rest) = arguments.split_first().unwrap();
        let data = path(&self.at, "c");
        Heard::from(self.command(env!("CARGO_BIN_EXE_bramble")).args([*first, "--data-dir", &data]).args(rest))
    }

    fn kubectl(&self, arguments: &[&str]) -> Heard {
        let program = kubectls().pop().unwrap().1;
        Heard::from(
            Command::new(program)
                .args(arguments)
                .env("HOME", self.home.path())
                .env("KUBECONFIG", self.home.path().join("kubeconfig")),
        )
    }

    fn remount(&self, options: &str) {
        let remount = format!("remount,{options}");
        Heard::from(self.command("mount").args(["-o", &remount]).arg(&self.at)).says(0, &[]);
    }

    fn names(&self) -> Vec<String> {
        let said = self.kubectl(&["get", "configmaps", "-o", "name"]);
        said.says(0, &[]).out.lines().map(|line| line.trim_start_matches("configmap/").to_owned()).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.bramble(&["delete"]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing_that_was_acknowledged() {
    let disk = Disk::new("1m");
    disk.bramble(&[&["start", "--runtime", "simulated"][..], &FREE].concat()).says(0, &["1 node ready"]);
    let blob = path(disk.home.path(), "blob");
    std::fs::write(&blob, "x".repeat(100_000)).unwrap();
    let mut acknowledged = Vec::new();
    let refused = loop {
        let name = format!("big-{}", acknowledged.len());
        let said = disk.kubectl(&["create", "configmap", &name, &format!("--from-file={blob}")]);
        if said.code != 0 {
            break said;
        }
        acknowledged.push(name);
        assert!(acknowledged.len() < 20, "the disk does not fill");
    };
    refused.says(1, &["the disk is full", "No space left on device", "make room on the disk that holds", "df -h"]);
    assert!(acknowledged.len() > 2);
    let all_there = |when: &str| {
        let names = disk.names();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !names.contains(name)).collect();
        assert!(lost.is_empty() && names.len() == acknowledged.len() + 1, "{when}: {lost:?} lost, there are {names:?}");
    };
    all_there("while it is full");
    disk.bramble(&["status"]).says(0, &["cluster     ready"]);
    // And over a stop and a start that find it as full as before.
    disk.bramble(&["stop"]).says(0, &["stopped"]);
    let full = disk.bramble(&["start"]);
    if full.code == 0 {
        all_there("after a start on a full disk");
    } else {
        full.says(1, &["what to do: "]);
        assert!(full.err.contains("No space left") || full.err.contains("the disk is full"), "{}", full.err);
    }
    disk.remount("size=8m");
    disk.bramble(&["start"]).says(0, &["1 node ready"]);
    all_there("after room was made");
    disk.kubectl(&["create", "configmap", "small", "--from-literal=a=b"]).says(0, &["created"]);
}

#[test]
fn a_disk_that_was_full_from_the_start_and_one_that_turns_read_only_are_told() {
    let disk = Disk::new("4m");
    Heard::from(
        disk.command("sh").args(["-c", &format!("head -c 8m /dev/zero > {}/ballast 2>/dev/null; true", disk.at.display())]),
    )
    .says(0, &[]);
    let told = disk.bramble(&[&["start", "--runtime", "simulated"][..], &FREE].concat());
    told.says(1, &["No space left on device", "what to do: "]);
    assert!(told.err.contains("room on the disk") || told.err.contains("the disk is not full"), "{}", told.err);
    Heard::from(disk.command("rm").arg(disk.at.join("ballast"))).says(0, &[]);
    disk.bramble(&[&["start", "--runtime", "simulated"][..], &FREE].concat()).says(0, &["1 node ready"]);
    disk.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).says(0, &["created"]);
    disk.bramble(&["stop"]).says(0, &["stopped"]);
    disk.remount("ro");
    let told = disk.bramble(&["start"]);
    told.fails(1, "cannot", "writable");
    assert!(told.err.contains("Read-only file system"), "{}", told.err);
    disk.remount("rw");
    disk.bramble(&["start"]).says(0, &["1 node ready"]);
    wait_until("what was there is there", Duration::from_secs(10), || {
        let names = disk.names();
        if names.contains(&"kept".to_owned()) { Ok(()) } else { Err(format!("{names:?}")) }
    });
}
