//! A Podman of the tests' own: its service on a socket of its own, with images, containers, locks and networks in a folder of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Seconds for which the monitors of an exec that has ended stay: Podman's own 300 would be taken for leaks.
const MONITORS_STAY: u32 = 20;

/// A running service. It ends with this; containers are conmon's and live on.
pub struct Podman {
    folder: PathBuf,
    socket: PathBuf,
    /// Ports of loopback at which it takes a registry without TLS; given out one by one.
    plain: Mutex<Vec<u16>>,
    child: Option<Child>,
}

/// Writes a file that another test's service may read at this moment.
fn put(path: &Path, text: &str) {
    let fresh = path.with_extension(std::process::id().to_string());
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

impl Podman {
    /// A service whose images and containers are those of this folder: what one test imported, the next one has.
    pub fn start(folder: &Path) -> Self {
        for name in ["root", "runroot", "tmp", "volumes", "networks"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let at = |name: &str| folder.join(name).display().to_string();
        // Podman raises the limits of open files and processes for every container, unless a file names others; this needs
        // CAP_SYS_RESOURCE, which a machine that is itself a container may lack.
        let limits =
            if may_raise_limits() { "" } else { "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n" };
        let engine = format!(
            "{limits}[engine]\nexit_command_delay = {MONITORS_STAY}\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\nruntime = \"runc\"\n\
             static_dir = \"{}\"\ntmp_dir = \"{}\"\nvolume_path = \"{}\"\n[network]\nnetwork_backend = \"cni\"\nnetwork_config_dir = \"{}\"\n",
            at("root/libpod"),
            at("tmp"),
            at("volumes"),
            at("networks"),
        );
        put(&folder.join("containers.conf"), &engine);
        let storage =
            format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n", at("root"), at("runroot"));
        put(&folder.join("storage.conf"), &storage);
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let socket = std::env::temp_dir().join(format!("bramble-podman-{}-{number}.sock", std::process::id()));
        // Read once, when the first image is asked for: so the ports are there before the registries.
        let free: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let plain: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let named = plain.iter().map(|port| format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n"));
        let registries = named.collect::<Vec<_>>().concat();
        std::fs::write(socket.with_extension("registries"), format!("unqualified-search-registries = []\n{registries}")).unwrap();
        let mut podman = Self { folder: folder.to_owned(), socket, plain: Mutex::new(plain), child: None };
        podman.run();
        podman
    }

    pub fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// A port of loopback for a registry without TLS, which it would take nowhere else.
    pub fn plain_port(&self) -> u16 {
        self.plain.lock().unwrap().pop().expect("a test has four such registries at most")
    }

    /// Starts the service and waits until it answers.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = Command::new("podman")
            .args(["system", "service", "--time=0", &format!("unix://{}", self.socket())])
            // conmon leaves a file `oom` where the service was started.
            .current_dir(&self.folder)
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.socket.with_extension("registries"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Debian's podman is installed");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.docker().arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the service in order, or kills it.
    pub fn stop(&mut self, kill: bool) {
        let Some(mut child) = self.child.take() else { return };
        let signal = if kill { rustix::process::Signal::KILL } else { rustix::process::Signal::TERM };
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal);
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_file(&self.socket);
    }

    /// The `docker` command against it.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &format!("unix://{}", self.socket())]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.stop(false);
        let _ = std::fs::remove_file(self.socket.with_extension("registries"));
    }
}

/// Whether this machine lets root raise limits: CAP_SYS_RESOURCE, bit 24.
fn may_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bits =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << 24) != 0)
}
