//! A Docker of a test's own, that may be stopped and killed. It has a network namespace of its own: on the host's network a second
//! daemon takes the first one's bridge away.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::import_busybox_into;

/// A daemon with its own data, sockets and addresses; all of it ends and is removed with this.
pub struct OwnDocker {
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// Whether it keeps a firewall, as Docker does on a machine of its own.
    firewall: bool,
    /// Of somebody else, where it is as a host's own is; otherwise it has one of its own, without a bridge.
    namespace: Option<String>,
}

impl OwnDocker {
    pub fn start() -> Self {
        Self::start_on(None)
    }

    /// As the Docker of the host that is this network namespace.
    #[allow(dead_code)] // for who has hosts
    pub fn start_in(namespace: &str) -> Self {
        Self::start_as(Some(namespace.to_owned()), None, true)
    }

    /// With its data on a file system in memory that has these options, if any.
    pub fn start_on(memory: Option<&str>) -> Self {
        Self::start_as(None, memory, false)
    }

    /// With rules of `iptables`, as on a machine of its own.
    #[allow(dead_code)] // of the two areas of tests that have this file, one asks for it
    pub fn start_with_firewall() -> Self {
        Self::start_as(None, None, true)
    }

    fn start_as(namespace: Option<String>, memory: Option<&str>, firewall: bool) -> Self {
        let mut own = Self { folder: tempfile::tempdir().unwrap(), child: None, firewall, namespace };
        if let Some(options) = memory {
            std::fs::create_dir(own.data()).unwrap();
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(own.data()).status();
            assert!(mounted.unwrap().success(), "mounting a tmpfs needs root, as these tests do");
        }
        // The machine's own file may name what flags name as well, which dockerd refuses; its storage driver is the one that works here.
        let machine = std::fs::read("/etc/docker/daemon.json").unwrap_or_else(|_| b"{}".to_vec());
        let mut config: serde_json::Value = serde_json::from_slice(&machine).unwrap();
        config.as_object_mut().unwrap().retain(|key, _| key == "storage-driver");
        std::fs::write(own.path("daemon.json"), config.to_string()).unwrap();
        own.run();
        import_busybox_into(&own.socket());
        own
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// Where its images and containers lie.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The daemon's process, whose network namespace is its own.
    #[allow(dead_code)] // of the two areas of tests that have this file, one asks for it
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn socket(&self) -> String {
        self.path("docker.sock")
    }

    /// Starts the daemon and waits until it answers.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        // `unshare`, `nsenter` and the shell become the daemon: the child's process number is the daemon's.
        let mut command = match &self.namespace {
            None => {
                let mut command = Command::new("unshare");
                command.args(["--net", "--", "sh", "-c", "ip link set lo up; exec dockerd \"$@\"", "dockerd"]);
                command.arg("--bridge=none");
                command
            }
            // Not `ip netns exec`, which hides cgroups.
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/var/run/netns/{name}")).args(["--", "dockerd"]);
                command
            }
        };
        let child = command
            .args(["--config-file", &self.path("daemon.json"), "-H", &format!("unix://{}", self.socket())])
            .args(["--data-root", &self.path("data"), "--exec-root", &self.path("exec"), "--pidfile", &self.path("pid")])
            .args([&format!("--iptables={}", self.firewall), "--ip6tables=false", "--shutdown-timeout", "2"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare, of util-linux");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_docker(&["version"]).0 {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops the daemon in order, or kills it.
    pub fn stop(&mut self, kill: bool) {
        let Some(mut child) = self.child.take() else { return };
        let signal = if kill { rustix::process::Signal::KILL } else { rustix::process::Signal::TERM };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
        child.wait().unwrap();
        if kill {
            // Its containerd dies with it and stays a zombie where process 1 takes in no orphans, and is then taken for alive.
            for stale in ["pid", "exec/containerd/containerd.pid"] {
                let _ = std::fs::remove_file(self.path(stale));
            }
        }
    }

    fn try_docker(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("docker").args(["-H", &format!("unix://{}", self.socket())]).args(args).output().unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Runs the `docker` command against it; its output, trimmed.
    pub fn docker(&self, args: &[&str]) -> String {
        let (good, text) = self.try_docker(args);
        assert!(good, "docker {args:?}: {text}");
        text
    }
}

impl Drop for OwnDocker {
    fn drop(&mut self) {
        if self.child.is_some() {
            let running = self.try_docker(&["ps", "-aq"]).1;
            let ids: Vec<&str> = running.lines().collect();
            if !ids.is_empty() {
                let _ = self.try_docker(&[&["rm", "-fv"][..], &ids].concat());
            }
        }
        self.stop(false);
        // The daemon binds its data onto itself and leaves that behind, and below it may be a file system of its own; without them there is
        // nothing to unmount.
        for _ in 0..3 {
            let _ = Command::new("umount").arg(self.data()).stderr(Stdio::null()).status();
        }
    }
}
