//! The image of one container, or of one image volume: looked for, fetched, waited for.
//!
//! In:       what is known of it, which fetches are under way, the pod's pull secrets, outcomes.
//! Out:      the next question or fetch, and events in upstream's words.
//! Never:    asks a registry (`runtime/docker/images.rs`).
//! Source:   the kubelet's image manager. We differ where a house must come up without its registry: see `ImageState::Unreachable`.
//!
//! ```text
//!  Misnamed: it stays so
//!  Unknown ─find─▶ Absent ─fetch─▶ Ready ─▶ the container starts
//!     │ Always: fetch ─ no registry ─▶ Unreachable ─find─▶ Ready, with a warning
//!     ├─ no answer ─▶ Failed ─ 1 s … 10 s ─▶ asked again
//!     └──────────────── any failure ─▶ Failed ─ 10 s … 5 min ─▶ fetched, or looked for, again
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use super::known::{Pod, Severity, event, field_path};
use super::lifecycle::PodState;
use super::need::{self, Need};
use super::plan::{About, Next, PULL_BACKOFF};
use super::spec::{PodSpec, PullPolicy};
use crate::agent::images::{credentials, words};
use crate::agent::node::Effect;
use crate::agent::runtime::{Command, Done, Failure};
use crate::api::image::{check, repository};
use crate::backoff::Policy;
use crate::clock::{Now, Tick};
use crate::link::share::Share;
use crate::rng::Rng;

/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
const ERROR_SHOWN: Duration = Duration::from_secs(1);

/// Between questions that the engine did not answer: each costs it little, and the pod waits for nothing else.
const ASK_BACKOFF: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(10) };

/// What is known of an image for a container's next turn; of a volume's for as long as the pod lives. Source: KEP-4639, which has
/// new content come with a new pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageState {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is not here.
    Absent,
    /// It should be fetched anew and its registry is out of reach: a copy may be here.
    Unreachable {
        /// How often fetching failed in a row before.
        failures: u32,
        /// Why.
        message: String,
    },
    /// It may be used for the next turn.
    Ready,
    /// What the pod names is no image's name, in these words: nobody is asked for it.
    Misnamed(String),
    /// It could not be had.
    Failed {
        /// How often in a row.
        failures: u32,
        /// The next attempt.
        due: Tick,
        /// From then on it is a back-off, before that an error.
        cools: Tick,
        /// In the registry's words.
        message: String,
        /// What the next attempt is.
        retry: Retry,
    },
}

/// What is tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It is fetched.
    Fetch,
    /// It is here and cannot be used: it is looked at again.
    Find,
    /// It may not be fetched at all: it is looked for again.
    Never,
    /// Whether it is here is not known, for the engine did not say: it is asked again.
    Ask,
}

/// The fetches of this node.
#[derive(Clone, Copy, Debug)]
pub struct Fetches<'a> {
    /// Another one may begin.
    pub free: bool,
    /// The repositories of the images that are fetched now. Nobody fetches an image twice, and its other tags and digests wait too:
    /// they share layers, which not every engine fetches once.
    pub under_way: &'a BTreeSet<String>,
}

/// What the image of this key needs before the container may start; `None`: nothing.
#[must_use]
pub fn next(spec: &PodSpec, key: &str, state: &ImageState, fetches: Fetches<'_>, share: &Share, now: Tick) -> Option<Next> {
    let Need { image, pull } = need::find(spec, key)?;
    let find = || Next::order(Command::FindImage { image: image.to_owned() }, About::Image(key.to_owned()));
    let fetch = || {
        if !fetches.free || fetches.under_way.contains(&repository(image)) {
            return Next { wants_slot: true, ..Next::default() };
        }
        let credentials = credentials_of(spec, image, share).credentials;
        Next::order(Command::PullImage { image: image.to_owned(), credentials }, About::Pull(key.to_owned()))
    };
    Some(match state {
        ImageState::Ready => return None,
        ImageState::Misnamed(_) => Next::default(),
        ImageState::Unknown if pull == PullPolicy::Always => fetch(),
        ImageState::Unknown | ImageState::Unreachable { .. } => find(),
        ImageState::Absent => fetch(),
        ImageState::Failed { due, cools, .. } if *due > now => Next::wait(if *cools > now { *cools } else { *due }),
        ImageState::Failed { retry: Retry::Find | Retry::Never | Retry::Ask, .. } => find(),
        ImageState::Failed { retry: Retry::Fetch, .. } => fetch(),
    })
}

/// Why this cannot be an image's name, in the kubelet's words. Source: its applyDefaultImageTag.
#[must_use]
pub fn misnamed(image: &str) -> Option<String> {
    let why = check(image).err()?;
    Some(format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}"))
}

/// The pod's spec is another: of a container that has another image now, what is known is of the one before.
pub(in crate::agent) fn other_images(pod: &mut Pod, before: Option<&PodSpec>) {
    let (Some(before), Some(spec)) = (before, &pod.spec) else { return };
    for container in spec.all() {
        if before.any(&container.name).is_some_and(|old| old.image != container.image) {
            pod.memory.images.remove(&container.name);
            pod.memory.trouble.remove(&container.name);
        }
    }
}

/// What the pod shows the registry of an image.
pub(in crate::agent) fn credentials_of(spec: &PodSpec, image: &str, share: &Share) -> credentials::Found {
    credentials::of_pod(share, &spec.pod.namespace, &spec.pull_secrets, image)
}

/// Says which pull secrets are of no use, once each.
pub(in crate::agent) fn tell_secrets(pod: &mut Pod, image: &str, share: &Share, out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else { return };
    for trouble in credentials_of(spec, image, share).troubles {
        if pod.warned.insert(trouble.clone()) {
            out.push(event(&spec.pod, None, Severity::Warning, "FailedToRetrieveImagePullSecret", trouble));
        }
    }
}

/// Other pull secrets may open what was closed: the next attempt is at once.
pub(in crate::agent) fn secrets_changed(pod: &mut Pod) {
    pod.memory.images.retain(|_, state| !matches!(state, ImageState::Failed { retry: Retry::Fetch, .. }));
}

/// Another pod's fetch of this image ended well. What waits for it finds it; with a policy of `Always` it is as fresh as can be,
/// if it was fetched with the same credentials (`shown`). Whether this pod waited for it.
pub(in crate::agent) fn fetched_by_another(
    pod: &mut Pod,
    image: &str,
    shown: &[credentials::Credential],
    share: &Share,
    out: &mut Vec<Effect>,
) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let mut waited = false;
    for key in need::all(spec) {
        let Some(need) = need::find(spec, &key).filter(|need| need.image == image) else { continue };
        let state = pod.memory.images.entry(key.clone()).or_default();
        match state {
            ImageState::Absent => *state = ImageState::Unknown,
            ImageState::Unknown if need.pull == PullPolicy::Always && credentials_of(spec, image, share).credentials == shown => {
                *state = ImageState::Ready;
                let text = format!("Container image \"{image}\" was pulled for another pod at this moment");
                out.push(event(&spec.pod, field_path(spec, &key), Severity::Normal, "Pulled", text));
            }
            _ => continue,
        }
        waited = true;
    }
    waited
}

/// Takes in what became of a question for an image, or of its fetch.
pub(in crate::agent) fn learn(
    pod: &mut Pod,
    name: &str,
    fetch: bool,
    result: &Result<Done, Failure>,
    now: Now,
    out: &mut Vec<Effect>,
) {
    // A fetch that was given up with its pod is nobody's failure.
    if pod.state != PodState::Live {
        return;
    }
    let Some(spec) = &pod.spec else { return };
    let Some(Need { image, pull }) = need::find(spec, name) else { return };
    let path = field_path(spec, name);
    let mut say = |severity, reason, text: String| out.push(event(&spec.pod, path.clone(), severity, reason, text));
    let (failures, stale) = match pod.memory.images.get(name) {
        Some(ImageState::Failed { failures, .. }) => (*failures, None),
        Some(ImageState::Unreachable { failures, message }) => (*failures, Some(message.clone())),
        Some(ImageState::Unknown | ImageState::Absent | ImageState::Ready | ImageState::Misnamed(_)) | None => (0, None),
    };
    let failed = |message: String, retry: Retry| {
        let failures = failures.saturating_add(1);
        // Never sooner than said, and a little apart from the pods that failed at the same moment.
        let chance =
            spec.pod.uid.0.bytes().fold(u64::from(failures), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let delay = if retry == Retry::Ask { ASK_BACKOFF } else { PULL_BACKOFF }.delay(failures);
        let due = now.tick.after(delay + (delay / 10).mul_f64(Rng::seeded(chance, "image back-off").unit()));
        ImageState::Failed { failures, due, cools: now.tick.after(ERROR_SHOWN), message, retry }
    };
    if let Ok(Done::Image { foreign: Some(text), .. } | Done::Pulled { foreign: Some(text), .. }) = result {
        say(Severity::Warning, "ForeignArchitecture", text.clone());
    }
    let state = match result {
        Ok(Done::Image { present: true, .. }) if stale.is_some() => {
            say(
                Severity::Warning,
                "StaleImage",
                format!("Image \"{image}\" cannot be pulled now; the copy on this node is used"),
            );
            ImageState::Ready
        }
        Ok(Done::Image { present: false, .. }) if stale.is_some() => failed(stale.unwrap_or_default(), Retry::Fetch),
        Ok(Done::Image { present: true, .. }) => {
            say(Severity::Normal, "Pulled", format!("Container image \"{image}\" already present on machine"));
            ImageState::Ready
        }
        Ok(Done::Image { present: false, .. }) if pull == PullPolicy::Never => {
            let text = format!("Container image \"{image}\" is not present with pull policy of Never");
            say(Severity::Warning, "ErrImageNeverPull", text.clone());
            failed(text, Retry::Never)
        }
        Ok(Done::Image { present: false, .. }) => ImageState::Absent,
        Ok(Done::Pulled { took, bytes, .. }) => {
            let text = format!("Successfully pulled image \"{image}\" in {:.3}s. Image size: {bytes} bytes.", took.as_secs_f64());
            say(Severity::Normal, "Pulled", text);
            ImageState::Ready
        }
        Ok(_) => ImageState::Ready,
        Err(Failure::Unfit(why)) => {
            say(Severity::Warning, "Failed", format!("Failed to pull image \"{image}\": {why}"));
            failed(why.clone(), if fetch { Retry::Fetch } else { Retry::Find })
        }
        // No answer is no "it is not here": a fetch would ask a registry for what may lie here.
        Err(Failure::Unavailable(why) | Failure::Refused(why) | Failure::Failed(why)) if !fetch && pull != PullPolicy::Always => {
            failed(format!("Failed to inspect image \"{image}\": {why}"), Retry::Ask)
        }
        Err(Failure::Unavailable(why)) => failed(why.clone(), Retry::Fetch),
        Err(Failure::Refused(why) | Failure::Failed(why)) => {
            let why = words::explained(image, why);
            say(Severity::Warning, "Failed", format!("Failed to pull image \"{image}\": {why}"));
            match result {
                // The registry is out of reach, which is no reason to leave a house dark: see whether a copy is here.
                Err(Failure::Failed(_)) if pull == PullPolicy::Always && stale.is_none() => {
                    ImageState::Unreachable { failures, message: why }
                }
                _ => failed(why, Retry::Fetch),
            }
        }
    };
    pod.memory.images.insert(name.to_owned(), state);
}
