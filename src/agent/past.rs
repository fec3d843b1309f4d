//! What a node remembers of its pods on its disk beside the share: what Docker cannot tell any more once somebody has removed it.
//!
//! In:       pods as they are observed, and why the node gave one up.
//! Out:      [`Past`], small, as one JSON document; what a pod's containers were before this agent began.
//! Never:    touches the disk (`disk.rs`).
//!
//! Kept is only what decides whether something runs again: under `restartPolicy: Never` a container that ran, under `OnFailure` one
//! that ended well, an ephemeral container that ran, and a pod that the node gave up. So pods of `Always`, and crash loops, write
//! nothing. A pod that has left the share goes with the next change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pods::plan::{PodFailure, newest};
use super::pods::spec::{PodSpec, RestartPolicy};
use super::runtime::{ObservedContainer, ObservedPod, RunState, Trace};
use crate::api::Uid;
use crate::clock::Wall;

/// The format of the document.
const VERSION: u32 = 1;

/// What is remembered, by pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Past {
    /// Pods of which nothing is remembered are not here.
    pub pods: BTreeMap<Uid, PodPast>,
}

/// What is remembered of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodPast {
    /// Why the node gave it up, and how long it had to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<GivenUp>,
    /// The newest runs that matter, by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub runs: BTreeMap<String, Run>,
    /// The last address, for the status of a pod that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The IPv6 one beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6: Option<String>,
}

/// A pod that the node gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Why.
    #[serde(flatten)]
    pub failure: PodFailure,
    /// What its containers were given to end, in milliseconds.
    pub grace_ms: u64,
}

/// A run of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    id: String,
    attempt: u32,
    spec_hash: String,
    image: String,
    image_id: String,
    sandbox_id: String,
    started: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<End>,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    at: Wall,
    exit_code: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    oom: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    /// It was gone before anybody saw its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unknown: bool,
}

/// Why what is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// Not what we write.
    #[error("what is remembered of pods is damaged")]
    Malformed(#[from] serde_json::Error),
    /// By another version.
    #[error("what is remembered of pods has format {0}, understood is {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    pods: Past,
}

/// As bytes.
#[must_use]
pub fn encode(past: &Past) -> Vec<u8> {
    // String keys only: cannot fail.
    serde_json::to_vec(&Document { version: VERSION, pods: past.clone() }).unwrap_or_default()
}

/// From bytes.
///
/// # Errors
/// When they are not a whole document of this format.
pub fn decode(bytes: &[u8]) -> Result<Past, PastError> {
    let document: Document = serde_json::from_slice(bytes)?;
    if document.version == VERSION { Ok(document.pods) } else { Err(PastError::Version(document.version)) }
}

/// What is to be remembered of a pod as it is; `None`: nothing.
#[must_use]
pub fn of_pod(spec: &PodSpec, observed: &ObservedPod, failure: Option<&GivenUp>, ips: &[String]) -> Option<PodPast> {
    let ephemeral = |name: &str| spec.ephemeral.iter().any(|container| container.name == name);
    let matters = |run: &&ObservedContainer| match &run.state {
        RunState::Created => false,
        _ if ephemeral(&run.name) => true,
        RunState::Running { .. } => spec.restart_policy == RestartPolicy::Never,
        RunState::Exited { exit_code, .. } => match spec.restart_policy {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => *exit_code == 0,
            RestartPolicy::Never => true,
        },
    };
    let lasting = spec.all().filter(|container| !container.sidecar);
    let runs = lasting.filter_map(|container| newest(observed, &container.name)).filter(matters);
    let runs: BTreeMap<String, Run> = runs.map(|run| (run.name.clone(), Run::of(run))).collect();
    let mut ips = ips.iter().cloned();
    let (ip, ip6) = (ips.next(), ips.next());
    (failure.is_some() || !runs.is_empty()).then(|| PodPast { failure: failure.cloned(), runs, ip, ip6 })
}

impl PodPast {
    /// The last addresses, the one of IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = &String> {
        self.ip.iter().chain(&self.ip6)
    }

    /// The runs as they were last seen.
    pub fn containers(&self) -> impl Iterator<Item = ObservedContainer> {
        self.runs.iter().map(|(name, run)| run.observed(name))
    }
}

impl GivenUp {
    /// A pod that is given up now.
    #[must_use]
    pub fn new(failure: PodFailure, grace: Duration) -> Self {
        Self { failure, grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }
    }

    /// What its containers were given to end.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl Run {
    fn of(run: &ObservedContainer) -> Self {
        let (started, ended) = match &run.state {
            RunState::Created => (Wall::default(), None),
            RunState::Running { started } => (*started, None),
            RunState::Exited { started, finished, exit_code, oom, error } => {
                let end = End {
                    at: *finished,
                    exit_code: *exit_code,
                    oom: *oom || (run.oom && *exit_code == 137),
                    error: error.clone(),
                    message: run.message.clone(),
                    unknown: run.trace == Trace::LostRunning,
                };
                (*started, Some(end))
            }
        };
        Self {
            id: run.id.clone(),
            attempt: run.attempt,
            spec_hash: run.spec_hash.clone(),
            image: run.image.clone(),
            image_id: run.image_id.clone(),
            sandbox_id: run.sandbox_id.clone(),
            started,
            ended,
        }
    }

    fn observed(&self, name: &str) -> ObservedContainer {
        let state = match &self.ended {
            None => RunState::Running { started: self.started },
            Some(end) => RunState::Exited {
                started: self.started,
                finished: end.at,
                exit_code: end.exit_code,
                oom: end.oom,
                error: end.error.clone(),
            },
        };
        let end = self.ended.as_ref();
        ObservedContainer {
            id: self.id.clone(),
            name: name.to_owned(),
            attempt: self.attempt,
            spec_hash: self.spec_hash.clone(),
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            message: end.map(|end| end.message.clone()).unwrap_or_default(),
            trace: if end.is_some_and(|end| end.unknown) { Trace::LostRunning } else { Trace::There },
            state,
            ..ObservedContainer::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::pods::spec;
    use crate::api::Object;
    use serde_json::json;

    fn pod(policy: &str) -> PodSpec {
        let container = |name: &str| json!({"name": name, "image": "i"});
        let object = json!({"metadata": {"name": "w", "uid": "u"}, "spec": {"restartPolicy": policy,
            "initContainers": [container("init"), {"name": "side", "image": "i", "restartPolicy": "Always"}],
            "containers": [container("app")], "ephemeralContainers": [container("debug")]}});
        spec::read(&Object::from_value(object).unwrap())
    }

    fn run(name: &str, exit_code: Option<i64>) -> ObservedContainer {
        let started = Wall(5);
        let state = match exit_code {
            None => RunState::Running { started },
            Some(exit_code) => RunState::Exited { started, finished: Wall(9), exit_code, oom: false, error: None },
        };
        ObservedContainer { id: format!("id-{name}"), name: name.into(), message: "bye".into(), state, ..Default::default() }
    }

    #[test]
    fn only_what_decides_whether_something_runs_again_is_kept() {
        let all = [run("init", Some(0)), run("side", None), run("app", None), run("debug", None)];
        let ended = [run("init", Some(0)), run("side", Some(1)), run("app", Some(1)), run("debug", Some(1))];
        let well = [run("init", Some(0)), run("side", Some(0)), run("app", Some(0))];
        for (policy, containers, kept) in [
            ("Always", &all[..], &["debug"][..]),
            ("Always", &ended[..], &["debug"]),
            ("Always", &well[..], &[]),
            ("OnFailure", &all[..], &["debug", "init"]),
            ("OnFailure", &ended[..], &["debug", "init"]),
            ("OnFailure", &well[..], &["app", "init"]),
            ("Never", &all[..], &["app", "debug", "init"]),
            ("Never", &ended[..], &["app", "debug", "init"]),
            ("Never", &[], &[]),
        ] {
            let observed = ObservedPod { containers: containers.to_vec(), ..ObservedPod::default() };
            let past = of_pod(&pod(policy), &observed, None, &[]);
            let names: Vec<String> = past.iter().flat_map(|past| past.runs.keys().cloned()).collect();
            assert_eq!(
                (names.as_slice(), past.is_some()),
                (&kept.iter().map(ToString::to_string).collect::<Vec<_>>()[..], !kept.is_empty()),
                "{policy}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_is_damaged_is_not() {
        let lost = ObservedContainer { trace: Trace::LostRunning, ..run("app", Some(137)) };
        let observed = ObservedPod { containers: vec![run("init", Some(0)), lost, run("debug", None)], ..ObservedPod::default() };
        let failure = PodFailure { reason: "Evicted".into(), message: "low".into(), ..PodFailure::default() };
        let given_up = GivenUp { failure, grace_ms: 1500 };
        let addresses = ["10.0.0.2".to_owned(), "fd00::2".to_owned()];
        let kept = of_pod(&pod("Never"), &observed, Some(&given_up), &addresses).unwrap();
        assert!(kept.addresses().eq(&addresses));
        let past = Past { pods: [(Uid::from("u"), kept)].into() };
        let bytes = encode(&past);
        let read = decode(&bytes).unwrap();
        assert_eq!(read, past);
        let mut runs: Vec<ObservedContainer> = read.pods[&Uid::from("u")].containers().collect();
        runs.sort_by(|a, b| b.name.cmp(&a.name));
        assert_eq!(
            runs.iter().map(|run| (run.name.as_str(), run.trace)).collect::<Vec<_>>(),
            [("init", Trace::There), ("debug", Trace::There), ("app", Trace::LostRunning)]
        );
        assert_eq!(runs[1].state, RunState::Running { started: Wall(5) });
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(matches!(decode(br#"{"version":9,"pods":{}}"#), Err(PastError::Version(9))));
    }
}
