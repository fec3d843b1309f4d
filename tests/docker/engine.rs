//! Which engine these tests run on: the machine's Docker, or with `BRAMBLE_TEST_ENGINE=podman` a Podman of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use crate::podman::Podman;

/// Where a test that runs in a host of its own finds that host's Docker.
pub const OWN_SOCKET: &str = "BRAMBLE_TEST_OWN_DOCKER";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Docker,
    Podman,
}

impl Kind {
    /// The chosen one.
    pub fn chosen() -> Self {
        match std::env::var("BRAMBLE_TEST_ENGINE").as_deref() {
            Err(_) | Ok("docker") => Self::Docker,
            Ok("podman") => Self::Podman,
            Ok(other) => panic!("BRAMBLE_TEST_ENGINE is {other}: docker or podman"),
        }
    }

    /// As `BRAMBLE_SKIP` and the ids in a status have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    fn pick<T>(self, docker: T, podman: T) -> T {
        match self {
            Self::Docker => docker,
            Self::Podman => podman,
        }
    }

    /// Where it looks for the certificates of registries.
    pub fn certificates(self) -> &'static str {
        self.pick("/etc/docker/certs.d", "/etc/containers/certs.d")
    }

    /// Whether it takes a registry on loopback for safe whatever it shows.
    pub fn trusts_loopback(self) -> bool {
        self.pick(true, false)
    }

    /// Whether it asks a registry what an image is made for, without fetching it.
    pub fn asks_platforms(self) -> bool {
        self.pick(true, false)
    }

    /// Whether it tells of a kill for memory itself: else the node must have had the time to ask the kernel for it (docs/engines.md).
    pub fn tells_of_kills_for_memory(self) -> bool {
        self.pick(true, false)
    }

    /// Whether capabilities that were added are those of a user who is not root as well, and not only within its reach.
    pub fn hands_capabilities_to_users(self) -> bool {
        self.pick(false, true)
    }

    /// How many files of a log it keeps, of the two that it is asked for.
    pub fn log_files(self) -> u64 {
        self.pick(2, 1)
    }

    /// By how much a node's time-outs are shortened where a test waits for them: on a busy machine Podman's answers take seconds.
    pub fn haste(self) -> u32 {
        self.pick(20, 5)
    }

    /// Whether it removes a container whose network others have.
    pub fn removes_what_others_joined(self) -> bool {
        self.pick(true, false)
    }

    /// Whether a privileged container is refused where the engine itself lacks a capability, or has what there is.
    pub fn refuses_privileged_without_all(self) -> bool {
        self.pick(true, false)
    }
}

/// An engine that runs for as long as somebody has this.
#[derive(Clone)]
pub enum Engine {
    /// The machine's.
    Docker,
    /// The tests'.
    Podman(Arc<Podman>),
}

/// Where the tests' Podman keeps all that it has.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("podman")
}

static RUNNING: Mutex<Weak<Podman>> = Mutex::new(Weak::new());

impl Engine {
    /// The chosen one; started when it is not there.
    pub fn start() -> Self {
        if Kind::chosen() == Kind::Docker {
            return Self::Docker;
        }
        let mut running = RUNNING.lock().unwrap();
        let podman =
            running.upgrade().unwrap_or_else(|| Arc::new(Podman::start(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("podman"))));
        *running = Arc::downgrade(&podman);
        Self::Podman(podman)
    }

    pub fn socket(&self) -> String {
        match self {
            Self::Docker => std::env::var(OWN_SOCKET).unwrap_or_else(|_| "/var/run/docker.sock".to_owned()),
            Self::Podman(podman) => podman.socket(),
        }
    }

    /// A free port of loopback at which it takes a registry without TLS.
    pub fn registry_port(&self) -> u16 {
        match self {
            Self::Docker => std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
            Self::Podman(podman) => podman.plain_port(),
        }
    }

    /// The `docker` command against it.
    pub fn docker(&self) -> Command {
        match self {
            Self::Docker => {
                let mut command = Command::new("docker");
                if let Ok(socket) = std::env::var(OWN_SOCKET) {
                    command.args(["-H", &format!("unix://{socket}")]);
                }
                command
            }
            Self::Podman(podman) => podman.docker(),
        }
    }
}
