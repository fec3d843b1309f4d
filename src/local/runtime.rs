//! Which runtime the nodes of a local cluster get: chosen at its first start, then kept.

use std::path::PathBuf;

use super::containers;
use super::docker::{self, Answer};
use super::state::{Cluster, Runtime};
use crate::error::Report;

/// `--runtime`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WantedRuntime {
    /// What the cluster has; for a new one Docker, or simulated where there is none.
    #[default]
    Auto,
    /// Docker.
    Docker,
    /// A model of it.
    Simulated,
}

/// What was chosen, and what the user should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The runtime.
    pub runtime: Runtime,
    /// Docker's socket, with that runtime.
    pub socket: Option<PathBuf>,
    /// Why nothing really runs and what to do about it, when nobody asked for that: said first and last.
    pub simulated_because: Option<String>,
}

impl Chosen {
    fn simulated(because: Option<String>) -> Self {
        Self { runtime: Runtime::Simulated, socket: None, simulated_because: because }
    }
}

/// For a new cluster.
///
/// # Errors
/// When Docker was asked for, or is there, and cannot be used.
pub fn for_new(wanted: WantedRuntime) -> Result<Chosen, Report> {
    if wanted == WantedRuntime::Simulated {
        return Ok(Chosen::simulated(None));
    }
    if !containers::BUILT_IN {
        return match wanted {
            WantedRuntime::Docker => {
                Err(Report::usage("this bramble was built without Docker").fix("build it with the feature `docker`"))
            }
            _ => Ok(Chosen::simulated(Some("this bramble was built without Docker; build it with the feature `docker`".into()))),
        };
    }
    let socket = docker::socket()?;
    let answer = docker::ask(&socket);
    decide(wanted, socket, answer)
}

fn decide(wanted: WantedRuntime, socket: PathBuf, answer: Answer) -> Result<Chosen, Report> {
    let because = match (wanted, &answer) {
        (WantedRuntime::Auto, Answer::Absent) => {
            Some(format!("there is no Docker here ({} does not exist); to install it: `{}`", socket.display(), docker::install()))
        }
        (WantedRuntime::Auto, Answer::NobodyListens) if docker::engine_name(&socket) == "Podman" => Some(format!(
            "Podman's service is not running (nobody listens on {}); to start it: `sudo systemctl enable --now podman.socket`",
            socket.display()
        )),
        (WantedRuntime::Auto, Answer::NobodyListens) => Some(format!(
            "Docker is not running (nobody listens on {}); to start it: `sudo systemctl start docker`, to install it: `{}`",
            socket.display(),
            docker::install()
        )),
        _ => None,
    };
    if because.is_some() {
        return Ok(Chosen::simulated(because));
    }
    match docker::obstacle(&socket, answer) {
        Some(report) => Err(report),
        None => Ok(Chosen { runtime: Runtime::Docker, socket: Some(socket), simulated_because: None }),
    }
}

/// For one that was made before: what it has, if that goes with what is asked for and still works.
///
/// # Errors
/// When another one is asked for, or Docker cannot be used now.
pub fn for_standing(wanted: WantedRuntime, cluster: &Cluster, delete: &str) -> Result<Chosen, Report> {
    let other = match wanted {
        WantedRuntime::Auto => false,
        WantedRuntime::Docker => cluster.runtime != Runtime::Docker,
        WantedRuntime::Simulated => cluster.runtime != Runtime::Simulated,
    };
    if other {
        let words = match cluster.runtime {
            Runtime::Docker => "in Docker",
            Runtime::Simulated => "simulated",
        };
        return Err(Report::usage(format!("the nodes of this cluster are {words}: the runtime is chosen once"))
            .fix(format!("leave --runtime out; or remove the cluster with `{delete}` and start anew")));
    }
    match &cluster.docker_socket {
        None => Ok(Chosen::simulated(None)),
        Some(socket) => match docker::obstacle(socket, docker::ask(socket)) {
            // A cluster that is in Docker is not simulated, whatever the flag would be good for otherwise.
            Some(mut report) => {
                report.fix = report.fix.map(|fix| {
                    fix.replace(", or start with `--runtime simulated`", "").replace("; or start with `--runtime simulated`", "")
                });
                Err(report)
            }
            None => Ok(Chosen { runtime: Runtime::Docker, socket: Some(socket.clone()), simulated_because: None }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Ports;
    use super::*;

    fn refused() -> Answer {
        Answer::Refused(std::io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn auto_simulates_only_where_there_is_no_engine_and_says_how_to_get_one() {
        use WantedRuntime::{Auto, Docker};
        type Expected = Result<(Runtime, bool), u8>;
        let cases: [(WantedRuntime, Answer, Expected); 7] = [
            (Auto, Answer::Lives, Ok((Runtime::Docker, false))),
            (Auto, Answer::Absent, Ok((Runtime::Simulated, true))),
            (Auto, Answer::NobodyListens, Ok((Runtime::Simulated, true))),
            (Auto, refused(), Err(1)),
            (Docker, Answer::Lives, Ok((Runtime::Docker, false))),
            (Docker, Answer::Absent, Err(1)),
            (Docker, refused(), Err(1)),
        ];
        for (wanted, answer, expected) in cases {
            let told = format!("{wanted:?} {answer:?}");
            let chosen = decide(wanted, "/d.sock".into(), answer);
            if let Ok(chosen) = &chosen {
                assert!(chosen.simulated_because.as_ref().is_none_or(|because| because.contains(docker::install())));
            }
            let chosen = chosen.map(|chosen| (chosen.runtime, chosen.simulated_because.is_some()));
            assert_eq!(chosen.map_err(|report| report.exit.code()), expected, "{told}");
        }
    }

    #[test]
    fn the_choice_is_kept() {
        let ports = Ports { api: 1, mqtts: 2, mqtt: 3 };
        let simulated = Cluster::new("u".into(), String::new(), Runtime::Simulated, None, ports);
        assert_eq!(for_standing(WantedRuntime::Auto, &simulated, "d").unwrap().runtime, Runtime::Simulated);
        assert_eq!(for_standing(WantedRuntime::Docker, &simulated, "d").unwrap_err().exit.code(), 2);
        let lost = Cluster::new("u".into(), String::new(), Runtime::Docker, Some("/nonexistent/d.sock".into()), ports);
        let told = for_standing(WantedRuntime::Auto, &lost, "d").unwrap_err();
        assert!(told.what.contains("there is no Docker here") && !told.fix.unwrap().contains("simulated"));
    }
}
