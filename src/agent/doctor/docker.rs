//! Whether a container engine is there, and is there again after a boot.

use super::{Act, Finding, Host, State, unit};

/// This check's name.
pub const ID: &str = "docker";
const DAEMONS: &[&str] = &["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/snap/bin/docker"];
const SOCKETS: &[&str] = &["/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"];
const DOCKER: &str = "docker.service";
const UNITS: &[&str] = &[DOCKER, "docker.socket", "podman.socket", "snap.docker.dockerd.service"];

const WHY: &str = "after a power cut this node's pods stay away until somebody comes";

/// Whether Docker's daemon is installed.
pub(super) fn has_docker(host: &dyn Host) -> bool {
    DAEMONS.iter().any(|path| host.exists(path))
}

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let podman = ["/usr/bin/podman", "/usr/local/bin/podman"].iter().any(|path| host.exists(path));
    let listens = SOCKETS.iter().any(|path| host.exists(path));
    if !has_docker(host) && !podman && !listens {
        if !host.exists("/etc") {
            return Finding::absent(ID, "no root file system to judge by");
        }
        let mut found = Finding::new(ID, State::Problem, "there is no Docker and no Podman here")
            .because("an agent has nothing to run its pods in");
        found.remedy = super::Remedy::WhenNamed(vec![Act::Install("docker.io")]);
        let apt = host.exists("/usr/bin/apt-get");
        if apt && host.runs() {
            found.undo = super::undo(host, &[Act::Install("docker.io")]);
            return found
                .todo("sudo apt-get install -y docker.io (or: sudo bramble doctor --fix docker; a bare --fix installs nothing)");
        }
        found.remedy = super::Remedy::Person;
        return found.todo(if apt {
            "on the machine itself: sudo apt-get install -y docker.io"
        } else {
            "curl -fsSL https://get.docker.com | sudo sh"
        });
    }
    if let Some(unit) = UNITS.iter().find(|unit| unit::enabled(host, unit)) {
        return Finding::ok(ID, format!("{unit} starts at boot"));
    }
    let waits = Finding::new(ID, State::Warning, "the container engine is installed and does not start at boot").because(WHY);
    if let Some(mask) = unit::mask(host, DOCKER) {
        return waits.todo(format!("{}: {}", mask.seen(host), mask.lifted(host)));
    }
    if unit::installed(host, DOCKER) {
        return waits.mended_by(host, format!("enables {DOCKER}"), vec![Act::Enable(DOCKER)]);
    }
    if unit::installed(host, "podman.socket") {
        return waits.mended_by(host, "enables podman.socket", vec![Act::Enable("podman.socket")]);
    }
    Finding::new(ID, State::Warning, "a container engine is installed, and no unit starts it at boot")
        .because(WHY)
        .todo("give it a unit that starts at boot, such as docker.service of the package docker.io; or see that something else starts it")
}
