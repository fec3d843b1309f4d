//! A Docker of our own: containerd and dockerd in a folder of their own, in the network namespace of this program.
//!
//! The machine's Docker may be in use, and grows with use. This one is as fresh as on a node that was just set up, and no
//! shim in it is somebody else's. It needs root; where that is not given, there is no figure about Docker.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cluster::wait;
use crate::process;

/// The image that is run: Debian's static busybox in an otherwise empty root.
pub const IMAGE: &str = "bramble-figures/busybox:1";

/// Says that this program has a network namespace of its own.
const ALONE: &str = "BRAMBLE_FIGURES_ALONE";

/// Begins this program again in a network namespace of its own, so that Docker, the cluster and we reach each other and pods, and
/// nobody else. Without the right to it the program goes on here, and no Docker is started.
pub fn alone() -> anyhow::Result<()> {
    if is_alone() || !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let mut again = Command::new("unshare");
    again.args(["--net", "sh", "-c", script]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(ALONE, "1");
    Err(again.exec()).context("cannot begin again in a network namespace")
}

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Ended when it is dropped.
pub struct Engine {
    containerd: Child,
    dockerd: Child,
    folder: tempfile::TempDir,
}

impl Engine {
    /// Starts both, with the image in it.
    pub fn start() -> anyhow::Result<Self> {
        // Two Dockers in one namespace quarrel about the rules of the firewall.
        anyhow::ensure!(is_alone(), "a Docker of our own needs root, and `unshare` and `ip`, for a network namespace of its own");
        let folder = tempfile::Builder::new().prefix("bramble-docker-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let log = |name: &str| File::create(at(name)).map(Stdio::from);
        let containerd = Command::new("containerd")
            .arg("--root")
            .arg(at("containerd"))
            .arg("--state")
            .arg(at("containerd-state"))
            .arg("--address")
            .arg(at("containerd.sock"))
            .args(["--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(log("containerd.log")?)
            .stderr(log("containerd.err")?)
            .spawn()
            .context("cannot start containerd")?;
        std::fs::write(at("daemon.json"), r#"{"storage-driver": "overlay2"}"#)?;
        let script = "cd \"$0\" && exec dockerd --config-file \"$0/daemon.json\" --host \"unix://$0/docker.sock\" \
                      --data-root \"$0/data\" --exec-root \"$0/exec\" --pidfile \"$0/docker.pid\" --containerd \"$0/containerd.sock\" --log-level warn";
        let dockerd = Command::new("sh")
            .args(["-c", script])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log("dockerd.log")?)
            .stderr(log("dockerd.err")?)
            .spawn()
            .context("cannot start dockerd")?;
        let engine = Self { containerd, dockerd, folder };
        let ready = wait("a Docker of our own answers", Duration::from_secs(60), || Ok(engine.docker(&["info"]).is_ok()));
        if let Err(error) = ready {
            let said = std::fs::read_to_string(engine.folder.path().join("dockerd.err")).unwrap_or_default();
            bail!("{error}\n{said}");
        }
        engine.import()?;
        Ok(engine)
    }

    /// As `DOCKER_HOST` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    /// dockerd's process.
    pub fn dockerd(&self) -> u32 {
        self.dockerd.id()
    }

    /// containerd's process.
    pub fn containerd(&self) -> u32 {
        self.containerd.id()
    }

    /// Where dockerd keeps everything.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Id and start of each container that runs, in order: whoever was started again is another.
    pub fn runs(&self) -> anyhow::Result<Vec<String>> {
        let ids = self.docker(&["ps", "--quiet", "--no-trunc"])?;
        let mut arguments = vec!["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"];
        arguments.extend(ids.lines());
        let mut runs: Vec<String> = self.docker(&arguments)?.lines().map(str::to_owned).collect();
        runs.sort();
        Ok(runs)
    }

    /// The shims of its containers.
    pub fn shims(&self) -> Vec<u32> {
        let socket = self.folder.path().join("containerd.sock").display().to_string();
        process::named("containerd-shim").into_iter().filter(|pid| process::arguments(*pid).contains(&socket)).collect()
    }

    /// The processes that hold the pods' namespaces: `bramble sandbox`.
    pub fn sandboxes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for shim in self.shims() {
            pids.extend(
                process::children(shim).into_iter().filter(|pid| process::arguments(*pid).contains(&"sandbox".to_owned())),
            );
        }
        pids
    }

    /// Runs the docker command; what it printed.
    pub fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let said = Command::new("docker").args(arguments).env("DOCKER_HOST", self.host()).stdin(Stdio::null()).output()?;
        if !said.status.success() {
            bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&said.stderr));
        }
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    fn import(&self) -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            std::fs::create_dir(root.path().join(folder))?;
        }
        let busybox = Path::new("/bin/busybox");
        std::fs::copy(busybox, root.path().join("bin/busybox")).context("Debian's busybox-static is needed")?;
        for name in ["sh", "sleep", "httpd", "true"] {
            std::os::unix::fs::symlink("busybox", root.path().join("bin").join(name))?;
        }
        std::fs::create_dir(root.path().join("www"))?;
        std::fs::write(root.path().join("www/index.html"), "well\n")?;
        let archive = self.folder.path().join("busybox.tar");
        let packed = Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg(".").status()?;
        anyhow::ensure!(packed.success(), "tar failed");
        self.docker(&["import", "--change", "ENV PATH=/bin", &archive.display().to_string(), IMAGE]).map(|_| ())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Docker first: it ends its containers through containerd.
        for child in [&mut self.dockerd, &mut self.containerd] {
            let pid = child.id();
            if process::signal(pid, "TERM").is_ok()
                && wait("it ends", Duration::from_secs(30), || Ok(!process::lives(pid))).is_err()
            {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}
