//! Is there a Docker here, or a Podman that speaks as it does? Decided once, by `bramble start`.
//!
//! Never:    makes anything in Docker (the agents do), nor needs the `docker` feature.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Report;

/// How long an engine may take to say that it lives.
const PATIENCE: Duration = Duration::from_secs(5);
/// The system's Podman, when its `podman.socket` is enabled.
const PODMAN: &str = "/run/podman/podman.sock";

/// What is behind a socket.
#[derive(Debug)]
pub enum Answer {
    /// An engine that answers.
    Lives,
    /// No such socket.
    Absent,
    /// The socket is there, and nobody listens.
    NobodyListens,
    /// This user may not.
    Refused(std::io::Error),
    /// It took the connection and did not answer as an engine does.
    Strange(std::io::Error),
}

/// Where this user's Docker is: `DOCKER_HOST`, the system's socket, or a rootless one; where there is none, Podman's.
///
/// # Errors
/// When `DOCKER_HOST` is no unix socket.
pub fn socket() -> Result<PathBuf, Report> {
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    choose(std::env::var("DOCKER_HOST").ok(), std::env::var_os("XDG_RUNTIME_DIR"), exists)
}

fn choose(host: Option<String>, runtime_dir: Option<OsString>, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, Report> {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => Err(Report::usage(format!("DOCKER_HOST is {host}, and bramble's nodes use a unix socket only"))
                .fix("unset DOCKER_HOST, set it to unix:///path/to/docker.sock, or start with `--runtime simulated`")),
        };
    }
    let system = PathBuf::from("/var/run/docker.sock");
    let rootless = |name: &str| runtime_dir.as_ref().map(|dir| PathBuf::from(dir).join(name));
    // Source: podman-system-service(1) for the last two.
    let all = [Some(system.clone()), rootless("docker.sock"), Some(PODMAN.into()), rootless("podman/podman.sock")];
    Ok(all.into_iter().flatten().find(|path| exists(path)).unwrap_or(system))
}

/// Whose engine a socket is, by its name: what people are told before anybody has asked it.
#[must_use]
pub fn engine_name(socket: &Path) -> &'static str {
    if socket.file_name().is_some_and(|name| name == "podman.sock") { "Podman" } else { "Docker" }
}

/// Asks the engine behind `socket` whether it lives.
#[must_use]
pub fn ask(socket: &Path) -> Answer {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                ErrorKind::NotFound => Answer::Absent,
                ErrorKind::ConnectionRefused => Answer::NobodyListens,
                ErrorKind::PermissionDenied => Answer::Refused(error),
                _ => Answer::Strange(error),
            };
        }
    };
    let mut status = [0_u8; 12];
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"))
        .and_then(|()| stream.read_exact(&mut status));
    match asked {
        Ok(()) if status.starts_with(b"HTTP/1.") && status.ends_with(b" 200") => Answer::Lives,
        Ok(()) => Answer::Strange(std::io::Error::other(format!("it says {:?}", String::from_utf8_lossy(&status)))),
        Err(error) => Answer::Strange(error),
    }
}

/// How Docker comes onto this machine, in one command.
#[must_use]
pub fn install() -> &'static str {
    if Path::new("/usr/bin/apt-get").exists() {
        "sudo apt-get install -y docker.io"
    } else {
        "curl -fsSL https://get.docker.com | sudo sh"
    }
}

/// What stands in the way of `answer`'s engine, and what to do; `None` when nothing does.
#[must_use]
pub fn obstacle(socket: &Path, answer: Answer) -> Option<Report> {
    let at = socket.display();
    Some(match answer {
        Answer::Lives => return None,
        Answer::NobodyListens if engine_name(socket) == "Podman" => {
            Report::failed(format!("Podman's service is not running: nobody listens on {at}"))
                .fix("start it with `sudo systemctl enable --now podman.socket` (without sudo and with `--user` for a rootless one)")
        }
        Answer::Absent => Report::failed(format!("there is no Docker here: {at} does not exist"))
            .fix(format!("install it with `{}`, or start with `--runtime simulated`", install())),
        Answer::NobodyListens => Report::failed(format!("Docker is not running: nobody listens on {at}"))
            .fix(format!("start it with `sudo systemctl start docker` (or install it with `{}`)", install())),
        Answer::Refused(error) => Report::failed(format!("this user may not use Docker: {at} refuses it"))
            .because(error)
            .fix("`sudo usermod -aG docker $USER`, then log in again (or `newgrp docker`), then start again; or start with `--runtime simulated`"),
        Answer::Strange(error) => Report::failed(format!("what listens on {at} does not answer as Docker does"))
            .because(error)
            .fix("see `docker version` and `sudo systemctl status docker`; or start with `--runtime simulated`"),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn each_way_of_not_having_docker_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.sock");
        assert!(matches!(ask(&path), Answer::Absent));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(&path), Answer::NobodyListens));
        std::fs::remove_file(&path).unwrap();
        let engine = UnixListener::bind(&path).unwrap();
        let serving = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\n\r\nOK", "HTTP/1.1 500 no\r\n\r\n"] {
                let (mut stream, _) = engine.accept().unwrap();
                let mut request = [0; 256];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert!(matches!(ask(&path), Answer::Lives));
        assert!(matches!(ask(&path), Answer::Strange(_)));
        serving.join().unwrap();
    }

    #[test]
    fn every_obstacle_says_what_to_do() {
        let socket = Path::new("/run/d.sock");
        let no = || std::io::Error::from(ErrorKind::PermissionDenied);
        assert!(obstacle(socket, Answer::Lives).is_none());
        let cases = [
            (Answer::Absent, install()),
            (Answer::NobodyListens, "systemctl start docker"),
            (Answer::Refused(no()), "sudo usermod -aG docker $USER"),
            (Answer::Strange(no()), "docker version"),
        ];
        let podman = obstacle(Path::new("/run/podman/podman.sock"), Answer::NobodyListens).unwrap();
        assert!(podman.what.contains("Podman") && podman.fix.unwrap().contains("podman.socket"));
        for (answer, fix) in cases {
            let report = obstacle(socket, answer).unwrap();
            assert!(report.what.contains("/run/d.sock") && report.fix.unwrap().contains(fix));
            assert_eq!(report.exit.code(), 1);
        }
    }

    #[test]
    fn the_socket_is_docker_hosts_else_the_systems_else_a_rootless_one_else_podmans() {
        let rootless = |path: &Path| path == Path::new("/run/user/1/docker.sock");
        let run = || Some(OsString::from("/run/user/1"));
        assert_eq!(choose(Some("unix:///a".into()), run(), rootless).unwrap(), Path::new("/a"));
        assert_eq!(choose(None, run(), rootless).unwrap(), Path::new("/run/user/1/docker.sock"));
        assert_eq!(choose(None, run(), |_| true).unwrap(), Path::new("/var/run/docker.sock"));
        let podmans = |path: &Path| path.ends_with("podman.sock");
        assert_eq!(choose(None, run(), podmans).unwrap(), Path::new("/run/podman/podman.sock"));
        let own = |path: &Path| path.starts_with("/run/user/1/podman");
        assert_eq!(choose(None, run(), own).unwrap(), Path::new("/run/user/1/podman/podman.sock"));
        assert_eq!((engine_name(Path::new("/run/podman/podman.sock")), engine_name(Path::new("/a"))), ("Podman", "Docker"));
        assert_eq!(choose(Some(String::new()), None, |_| false).unwrap(), Path::new("/var/run/docker.sock"));
        assert_eq!(choose(Some("tcp://h:2375".into()), None, |_| true).unwrap_err().exit.code(), 2);
    }
}
