//! Words the status of one container.
//!
//! In:       its runs, what keeps it from its next one, how far its pod has come.
//! Out:      [`Shown`], then a v1 ContainerStatus as JSON.
//! Source:   the kubelet's convertToAPIContainerStatuses.

use serde_json::{Value, json};

use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{ObservedContainer, RunState, Trace};
use crate::api::time::rfc3339;
use crate::clock::Now;

use super::{View, is_initialized};
use crate::agent::pods::image::{ImageState, Retry};
use crate::agent::pods::lifecycle::PodState;
use crate::agent::pods::mount::VOLUMES;
use crate::agent::pods::need::{self, Need};
use crate::agent::pods::plan::{Memory, PostStart, again, known_restarts, newest, previous};
use crate::agent::pods::restart;
use crate::agent::pods::spec::{ContainerSpec, PodSpec};

/// What all last words of a pod's containers may take, in bytes. Source: the kubelet's MaxPodTerminationMessageLogLength.
const LAST_WORDS_OF_POD: usize = 12 << 10;

/// One container's state, before it is JSON.
#[derive(Default)]
pub(super) struct Shown<'a> {
    pub(super) run: Option<&'a ObservedContainer>,
    pub(super) last: Option<&'a ObservedContainer>,
    pub(super) waiting: Option<(String, String)>,
    pub(super) ready: bool,
    /// It runs, and its postStart hook is not behind it.
    pub(super) hooked: bool,
    /// It runs, and its startup probe, if it has one, has succeeded.
    pub(super) started: bool,
}

pub(super) fn shown<'a>(view: View<'a>, container: &ContainerSpec, init: bool, initialized: bool) -> Shown<'a> {
    let (observed, memory) = (view.observed, view.memory);
    let run = newest(observed, &container.name);
    let last = previous(observed, &container.name);
    let ending = view.state != PodState::Live;
    match run.map(|run| (run, &run.state)) {
        Some((run, RunState::Running { .. })) => match memory.post_start.get(&run.id) {
            None => {
                let ready = (!init || container.sidecar) && memory.probes.ready(container, &run.id);
                let started = memory.probes.started(container, &run.id);
                Shown { run: Some(run), last, ready, started, ..Shown::default() }
            }
            // Source: v1 ContainerState is Running only after postStart has ended well.
            Some(hook) => {
                let reason = match hook {
                    PostStart::Failed => "PostStartHookError",
                    PostStart::Due | PostStart::Runs => waits_to_begin(view.spec, init, initialized),
                };
                Shown {
                    run: Some(run),
                    last,
                    waiting: Some((reason.to_owned(), String::new())),
                    hooked: true,
                    ..Shown::default()
                }
            }
        },
        Some((run, RunState::Exited { exit_code, .. })) => {
            let done = init && !container.sidecar && *exit_code == 0;
            let again = container.sidecar || again(view.spec, run, *exit_code, &memory.probes);
            if done || ending || !again {
                return Shown { run: Some(run), last, ready: done, ..Shown::default() };
            }
            // Another image does not wait for what the one before it did.
            let replaced = run.spec_hash != container.hash;
            let waiting = hindrance(view.spec, memory, container, view.now).or_else(|| {
                let due = memory.dues.get(&run.id).copied().unwrap_or_default();
                let delay = restart::delay(run);
                (!replaced && !delay.is_zero() && due > view.now.tick).then(|| {
                    let pod = &view.spec.pod;
                    let text = format!(
                        "back-off {}s restarting failed container={} pod={}_{}({})",
                        delay.as_secs(),
                        container.name,
                        pod.name,
                        pod.namespace,
                        pod.uid
                    );
                    ("CrashLoopBackOff".to_owned(), text)
                })
            });
            // While it waits, the end is the last state; before that it is the present one.
            if waiting.is_some() {
                Shown { run: Some(run), last: Some(run), waiting, ..Shown::default() }
            } else {
                Shown { run: Some(run), last, ..Shown::default() }
            }
        }
        Some((_, RunState::Created)) | None => {
            let waiting = hindrance(view.spec, memory, container, view.now)
                .unwrap_or_else(|| (waits_to_begin(view.spec, init, initialized).to_owned(), String::new()));
            Shown { last, waiting: Some(waiting), ..Shown::default() }
        }
    }
}

/// Why a container that nothing hinders has not begun yet.
fn waits_to_begin(spec: &PodSpec, init: bool, initialized: bool) -> &'static str {
    if !spec.init.is_empty() && (!initialized || init) { "PodInitializing" } else { "ContainerCreating" }
}

/// What keeps a container from its next turn.
fn hindrance(spec: &PodSpec, memory: &Memory, container: &ContainerSpec, now: Now) -> Option<(String, String)> {
    if let Some(error) = memory.config.get(&container.name) {
        let reason = match error {
            crate::agent::pods::env::ConfigError::Volume { .. } => "ContainerCreating",
            _ => "CreateContainerConfigError",
        };
        return Some((reason.to_owned(), error.to_string()));
    }
    // One of a volume stops it as its own does. Source: the kubelet's toKubeContainerImageVolumes.
    let mut images = need::volumes_of(spec, container);
    images.push(container.name.clone());
    for key in images {
        let (Some(Need { image, .. }), Some(state)) = (need::find(spec, &key), memory.images.get(&key)) else { continue };
        match state {
            ImageState::Misnamed(message) => return Some(("InvalidImageName".to_owned(), message.clone())),
            ImageState::Failed { message, retry: Retry::Never, .. } => {
                return Some(("ErrImageNeverPull".to_owned(), message.clone()));
            }
            ImageState::Failed { message, retry: Retry::Ask, .. } => {
                return Some(("ImageInspectError".to_owned(), message.clone()));
            }
            ImageState::Failed { cools, message, .. } if *cools > now.tick => {
                return Some(("ErrImagePull".to_owned(), message.clone()));
            }
            ImageState::Failed { message, .. } => {
                let text = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
                return Some(("ImagePullBackOff".to_owned(), text));
            }
            ImageState::Unknown | ImageState::Absent | ImageState::Unreachable { .. } | ImageState::Ready => {}
        }
    }
    let trouble =
        memory.trouble.get(&container.name).or_else(|| memory.trouble.get(SANDBOX)).or_else(|| memory.trouble.get(VOLUMES));
    trouble.map(|trouble| (trouble.reason.to_owned(), trouble.message.clone()))
}

pub(super) fn container_status(view: View<'_>, container: &ContainerSpec, shown: &Shown<'_>) -> Value {
    let (run, scheme) = (shown.run, view.scheme);
    let words = LAST_WORDS_OF_POD / view.spec.all().count().max(1);
    let state = match (&shown.waiting, run) {
        (Some(_), _) if is_lost(view, container) => json!({"terminated": {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
            "startedAt": null,
            "finishedAt": null,
        }}),
        (Some((reason, message)), _) if message.is_empty() => json!({"waiting": {"reason": reason}}),
        (Some((reason, message)), _) => json!({"waiting": {"reason": reason, "message": message}}),
        (None, Some(run)) => state(run, scheme, words),
        (None, None) => json!({}),
    };
    let known = run.or(shown.last);
    let mut status = json!({
        "name": container.name,
        "image": known.map_or(container.image.as_str(), |run| run.image.as_str()),
        "imageID": known.map(|run| run.image_id.as_str()).unwrap_or_default(),
        "ready": shown.ready,
        "started": shown.started,
        "restartCount": known.map_or_else(|| known_restarts(view.spec, view.memory, &container.name), |run| run.attempt),
        "state": state,
        "lastState": shown.last.map_or_else(|| json!({}), |run| self::state(run, scheme, words)),
    });
    if let Some(run) = known
        && let Some(map) = status.as_object_mut()
    {
        map.insert("containerID".to_owned(), json!(format!("{scheme}://{}", run.id)));
    }
    status
}

/// Whether a container that waits is told as one that was lost, since its pod is over and it must have run, or been about to.
/// Source: the kubelet's status manager, TerminatePod: all main containers once the pod was initialized; of the init containers
/// those up to the last one that ever began, and the first one in any case.
fn is_lost(view: View<'_>, container: &ContainerSpec) -> bool {
    if !view.is_over() {
        return false;
    }
    let spec = view.spec;
    if spec.containers.iter().any(|main| main.name == container.name) {
        return is_initialized(spec, view.observed, view.memory);
    }
    let begun = |init: &ContainerSpec| newest(view.observed, &init.name).is_some_and(|run| run.state != RunState::Created);
    let last = spec.init.iter().rposition(begun).unwrap_or_default();
    spec.init.iter().position(|init| init.name == container.name).is_some_and(|place| place <= last)
}

/// `running` or `terminated`, as the runtime tells it.
pub(super) fn state(run: &ObservedContainer, scheme: &str, words: usize) -> Value {
    match &run.state {
        RunState::Created => json!({}),
        RunState::Running { started } => json!({"running": {"startedAt": rfc3339(*started)}}),
        RunState::Exited { started, finished, exit_code, oom, error } => {
            // Docker may tell of the kill for memory after the end.
            let oom = *oom || (run.oom && *exit_code == 137);
            let reason = match (oom, error, exit_code) {
                _ if run.trace == Trace::LostRunning => "ContainerStatusUnknown",
                // A child may have been killed for its memory long before its parent ended well.
                (_, None, 0) => "Completed",
                (true, _, _) => "OOMKilled",
                (false, Some(_), _) => "StartError",
                (false, None, _) => "Error",
            };
            let message = match error {
                Some(error) => error.get(..error.floor_char_boundary(words)).unwrap_or_default(),
                None if run.trace == Trace::LostRunning => "The container could not be located: it was removed by somebody else",
                None => run.message.get(..run.message.floor_char_boundary(words)).unwrap_or_default(),
            };
            let mut ended = json!({
                "exitCode": exit_code,
                "reason": reason,
                "startedAt": rfc3339(*started),
                "finishedAt": rfc3339(*finished),
                "containerID": format!("{scheme}://{}", run.id),
            });
            if let Some(map) = ended.as_object_mut().filter(|_| !message.is_empty()) {
                map.insert("message".to_owned(), json!(message));
            }
            json!({"terminated": ended})
        }
    }
}
