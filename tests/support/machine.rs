//! A machine of its own with Debian and a real systemd on it, in a container of `systemd-nspawn`: for units, packages, the journal.
//!
//! Needs: root, mmdebstrap, systemd-container (Debian). The root file system is made once, from Debian's archive, and kept in the user's
//! cache folder. What it is not: a kernel of its own, another processor, or a Pi's firmware.

#![allow(dead_code, clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test's tools: each area uses some

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Said, wait_until};

/// What is on it besides what every Debian has.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,iproute2,nftables,kmod";
/// A boot of nothing but systemd, on a machine that builds something else at the same time.
const BOOT: Duration = Duration::from_secs(60);

/// What a machine may, besides what systemd needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Nothing more.
    Usual,
    /// What a container engine needs: every capability, keyrings, BPF, and to write in its control groups.
    Engine,
    /// Users of its own, with the numbers that they have here: what the kernel keeps apart by them is its own (from 6.7 on binfmt_misc is).
    OwnUsers,
}

/// The machine; off and gone when it is dropped.
pub struct Machine {
    child: Child,
    leader: u32,
    folder: tempfile::TempDir,
    groups: Groups,
}

/// A root file system that has not been started.
pub struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    /// Debian, of the same release as this machine, so that what is built here runs there.
    pub fn debian() -> Self {
        Self::debian_with(&[])
    }

    /// The same with these packages too, and what they depend on.
    pub fn debian_with(packages: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("bramble-machine-").tempdir().unwrap();
        let root = Self { folder };
        std::fs::create_dir(root.path()).unwrap();
        run(Command::new("tar").arg("-xf").arg(kept(packages)).arg("-C").arg(root.path()));
        root
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Puts the program of this build there, without what is only for a debugger.
    pub fn install(&self, path: &str) {
        let path = self.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        stripped(&path);
    }

    /// Has `on` pull `unit` in at the start.
    pub fn enable(&self, unit: &str, on: &str) {
        let wants = self.path().join(format!("etc/systemd/system/{on}.wants"));
        std::fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink(format!("/etc/systemd/system/{unit}"), wants.join(unit)).unwrap();
    }

    /// Starts it, with a network that nothing else is in. `binds` are files and folders of this machine, at the same place there.
    pub fn boot(self, binds: &[&Path]) -> Machine {
        self.boot_with(Rights::Usual, binds)
    }

    /// The same, with these rights.
    pub fn boot_with(self, rights: Rights, binds: &[&Path]) -> Machine {
        let log = std::fs::File::create(self.folder.path().join("console")).unwrap();
        let groups = Groups::make(self.folder.path().file_name().unwrap());
        let mut command = groups.enter("systemd-nspawn");
        command.args(["--register=no", "--keep-unit", "--private-network", "--console=pipe", "--boot"]);
        match rights {
            Rights::Usual => {}
            Rights::Engine => {
                command.args(["--capability=all", "--system-call-filter=add_key keyctl bpf"]);
                self.write("/etc/systemd/system/own-groups.service", OWN_GROUPS);
                self.enable("own-groups.service", "sysinit.target");
            }
            Rights::OwnUsers => {
                command.arg("--private-users=identity");
            }
        }
        command.arg("--machine").arg(format!("bramble-test-{}", std::process::id()));
        command.arg("--directory").arg(self.path());
        for bind in binds {
            command.arg(format!("--bind-ro={}", bind.display()));
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut machine = Machine { child, leader: 0, folder: self.folder, groups };
        machine.leader = wait_until("systemd to begin", BOOT, || machine.first());
        machine
    }
}

impl Machine {
    /// The pid of its first process, here.
    fn first(&mut self) -> Result<u32, String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            let said = std::fs::read_to_string(self.folder.path().join("console")).unwrap_or_default();
            let fix = "if it is missing: apt-get install systemd-container, or leave this out with BRAMBLE_SKIP=systemd";
            panic!("systemd-nspawn ended with {status}: {said}\n{fix}");
        }
        let children = |pid: u32| -> Vec<u32> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
        };
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let own = children(self.child.id());
        let below = own.iter().flat_map(|&pid| children(pid));
        let all: Vec<u32> = own.iter().copied().chain(below).collect();
        all.iter().copied().find(|&pid| name(pid).trim() == "systemd").ok_or_else(|| format!("{all:?}"))
    }

    /// Waits until everything that starts by itself has started.
    pub fn booted(self) -> Self {
        wait_until("all to be started", BOOT, || {
            let said = self.run(["systemctl", "is-system-running"]);
            if matches!(said.out.trim(), "running" | "degraded") { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
        });
        self
    }

    /// Runs a program there.
    pub fn run<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Said {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--all", "--root", "--target"]).arg(self.leader.to_string()).arg("--");
        nsenter.args([
            "env",
            "--chdir=/",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
        ]);
        nsenter.arg("DEBIAN_FRONTEND=noninteractive");
        Said::of(nsenter.args(command).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a line of shell there; what it printed.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        self.run(["sh", "-c", line]).expect()
    }

    /// A property of a unit, as `systemctl show` gives it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.run(["systemctl", "show", "--value", "--property", property, unit]).expect().trim().to_owned()
    }

    /// Waits until a property of a unit is this.
    #[track_caller]
    pub fn wait(&self, unit: &str, property: &str, value: &str, most: Duration) {
        wait_until(&format!("{property}={value} of {unit}"), most, || match self.show(unit, property) {
            found if found == value => Ok(()),
            found => Err(format!("{found}\n{}", self.run(["systemctl", "status", "--no-pager", "--lines=20", unit]).out)),
        });
    }

    /// Where its root file system is, here.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader != 0 {
            let said = self.run(["journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic"]);
            eprintln!("── its journal\n{}{}", said.out, said.err);
        }
        // The first asks it to end in order, which nobody needs here; with its first process all others go.
        if self.leader != 0 {
            let _ = Command::new("kill").args(["-KILL", &self.leader.to_string()]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        self.groups.remove();
    }
}

/// Has control groups of cgroup v1 written by who is in the machine: systemd-nspawn leaves those of controllers to be read only. They are
/// the machine's own (see [`Groups`]), nobody else's limits are in reach.
const OWN_GROUPS: &str = "[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'grep \" cgroup ro,\" /proc/mounts | while read -r _ place _; do mount -o remount,bind,rw \"$$place\" || exit 1; done'
";

/// Control groups of a machine's own, one in each hierarchy, within those of this process: two machines at one time do not take each other's
/// services for their own, and nothing is left.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn make(name: &OsStr) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut groups = Vec::new();
        for mount in mounts.lines() {
            let (place, kind) = mount.split_once(" - ").unwrap();
            let (place, kind): (Vec<&str>, Vec<&str>) = (place.split(' ').collect(), kind.split(' ').collect());
            let options = kind[2].split(',');
            let is_here = |controllers: &str| match kind[0] {
                "cgroup2" => controllers.is_empty(),
                "cgroup" => options.clone().any(|option| controllers.split(',').any(|controller| controller == option)),
                _ => false,
            };
            let path = own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                is_here(controllers).then(|| path.strip_prefix(place[3]).unwrap_or(path).trim_start_matches('/'))
            });
            let Some(path) = path else { continue };
            let parent = Path::new(place[4]).join(path);
            let group = parent.join(name);
            // One that may not be written is shared, as all of them are for systemd-nspawn by itself.
            if group.is_dir() || std::fs::create_dir(&group).is_ok() {
                // In cgroup v1 nobody gets into one without a processor.
                let empty = |file: &&str| kind[0] == "cgroup" && group.join(file).exists();
                for file in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(empty) {
                    std::fs::copy(parent.join(file), group.join(file)).unwrap();
                }
                groups.push(group);
            }
        }
        Self(groups)
    }

    /// A program that will be in them.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        let script = "while [ \"$1\" != -- ]; do echo $$ >\"$1/cgroup.procs\" || exit; shift; done; shift; exec \"$@\"";
        command.args(["-c", script, "sh"]).args(&self.0).args(["--", program]);
        command
    }

    /// Those of all who are dead go; the kernel may still be busy with that.
    fn remove(&self) {
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while !self.0.iter().all(|group| without_groups(group)) {
            if std::time::Instant::now() > until {
                eprintln!("control groups are left: {:?}", self.0);
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Removes a control group and all below it. Whether it is gone.
fn without_groups(group: &Path) -> bool {
    let below: Vec<PathBuf> = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for folder in below.iter().filter(|path| path.is_dir()) {
        without_groups(folder);
    }
    std::fs::remove_dir(group).is_ok() || !group.exists()
}

/// Writes the program of this build without what is only for a debugger.
pub fn stripped(path: &Path) {
    run(Command::new("strip").arg("-o").arg(path).arg(env!("CARGO_BIN_EXE_bramble")));
}

/// Where what is made once is kept, and the claim on it: tests are processes of their own.
pub fn cache() -> (PathBuf, std::fs::File) {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("bramble/machines");
    std::fs::create_dir_all(&cache).unwrap();
    let lock = std::fs::File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    (cache, lock)
}

/// The root file system with these packages besides, as it is kept, made if it is not there.
fn kept(packages: &[&str]) -> PathBuf {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable").to_owned();
    let packages = [&[PACKAGES], packages].concat().join(",");
    let (cache, _lock) = cache();
    let tar = cache.join(format!("debian-{release}-{}.tar", packages.replace(',', "-")));
    if !tar.exists() {
        let (from, making) = (std::time::Instant::now(), tar.with_extension("new.tar"));
        let without = ["man", "doc", "locale"].map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
        let mut make = Command::new("mmdebstrap");
        run(make.args(["--quiet", "--variant=minbase", "--include", &packages]).args(without).arg(&release).arg(&making));
        std::fs::rename(&making, &tar).unwrap();
        println!("{}: made in {:.0} s", tar.display(), from.elapsed().as_secs_f64());
    }
    tar
}

/// Runs a program that must end well.
#[track_caller]
pub fn run(command: &mut Command) {
    let said = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}: apt-get install mmdebstrap, or leave this out with BRAMBLE_SKIP=systemd")
    });
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}
