//! What is told of a pod when it changed: its status to the master, events to people, its light to the LEDs, its past to the disk.
//!
//! In:       what is known of it.
//! Out:      [`Effect::Report`], [`Effect::Event`], [`Effect::Lights`], [`Effect::Keep`]; nothing when it would be what was told before.
//! Never:    words the status (`pods/status.rs`).

use serde_json::{Value, json};

use crate::agent::pods::env::ConfigError;
use crate::agent::pods::known::{Severity, event, field_path};
use crate::agent::pods::lasting::Complaint;
use crate::agent::pods::lifecycle::PodState;
use crate::agent::pods::status;
use crate::api::Uid;
use crate::api::time::rfc3339;
use crate::clock::Now;
use crate::link::message::PodReport;

use super::{Effect, Node, PodLight};

/// Lets a condition's time change just when its status does. That is what the runtime says of it; where it says nothing newer, as
/// of a readiness gate that somebody closed, it is now.
fn turned(before: &Value, mut status: Value, now: Now) -> Value {
    let was = before.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(known) = was.iter().find(|known| known.get("type") == condition.get("type")) else { continue };
        let (then, at) = (known.get("lastTransitionTime").cloned().unwrap_or_default(), condition.get("lastTransitionTime"));
        let newer = at.and_then(Value::as_str) > then.as_str();
        let since = match known.get("status") == condition.get("status") {
            true if then.is_string() => then,
            false if !newer => json!(rfc3339(now.wall)),
            _ => continue,
        };
        if let Some(condition) = condition.as_object_mut() {
            condition.insert("lastTransitionTime".into(), since);
        }
    }
    status
}

impl Node {
    /// Words the status and reports it when it changed.
    pub(super) fn word(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let pulling = pod.pulls() || pod.wants_slot;
        let Some(spec) = &pod.spec else { return };
        for ignored in &spec.ignored {
            if pod.warned.insert(ignored.clone()) {
                out.push(event(&spec.pod, None, Severity::Warning, "FieldIgnored", ignored.clone()));
            }
        }
        // Said now, it could take back what the master knows: that a container is ready which we have not asked yet.
        if pod.reported.is_none() && pod.memory.probes.held(now.tick) {
            return;
        }
        let worded = status::pod_status(status::View {
            spec,
            observed: &pod.observed,
            memory: &pod.memory,
            state: pod.state,
            pulling,
            starting: pod.starts(),
            host_ips: &self.config.host_ips,
            scheme: self.config.scheme,
            now,
        });
        let failed_mount = pod.memory.mounts.failed.clone();
        let mut wrong: Vec<Complaint> =
            failed_mount.into_iter().map(|message| Complaint { path: None, reason: "FailedMount", message }).collect();
        for (name, (reason, message)) in &worded.waits {
            let path = field_path(spec, name);
            let failed = |message: String| Complaint { path: path.clone(), reason: "Failed", message };
            match reason.as_str() {
                "CreateContainerConfigError" => wrong.push(failed(format!("Error: {message}"))),
                "ContainerCreating" if matches!(pod.memory.config.get(name), Some(ConfigError::Volume { .. })) => {
                    wrong.push(Complaint { path: None, reason: "FailedMount", message: message.clone() });
                }
                _ => {}
            }
            // Another name that is none is told as well.
            let same =
                |(before, words): &(String, String)| before == reason && (reason != "InvalidImageName" || words == message);
            if pod.waits.get(name).is_some_and(same) {
                continue;
            }
            match reason.as_str() {
                "CrashLoopBackOff" => {
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        spec.pod.name, spec.pod.namespace, spec.pod.uid
                    );
                    out.push(event(&spec.pod, path, Severity::Warning, "BackOff", text));
                }
                "ImagePullBackOff" => {
                    out.push(event(&spec.pod, path.clone(), Severity::Normal, "BackOff", message.clone()));
                    out.push(event(&spec.pod, path, Severity::Warning, "Failed", format!("Error: {reason}")));
                }
                "InvalidImageName" | "ImageInspectError" => {
                    out.push(event(&spec.pod, path.clone(), Severity::Warning, "InspectFailed", message.clone()));
                    out.push(event(&spec.pod, path, Severity::Warning, "Failed", format!("Error: {reason}")));
                }
                "ErrImagePull" | "ErrImageNeverPull" => {
                    out.push(event(&spec.pod, path, Severity::Warning, "Failed", format!("Error: {reason}")));
                }
                _ => {}
            }
        }
        // Of a pod that ends nobody mends anything any more.
        wrong.retain(|_| pod.state == PodState::Live);
        for Complaint { path, reason, message } in pod.lasting.new_ones(now.tick, wrong) {
            out.push(event(&spec.pod, path, Severity::Warning, reason, message));
        }
        pod.waits = worded.waits;
        let gone = pod.state == PodState::Gone;
        let light = worded.light.filter(|_| !gone);
        self.lights_changed |= pod.light != light || pod.reported.is_none();
        pod.light = light;
        // With its containers its last words are gone from the runtime: the status before stays.
        let emptied = gone || pod.removal.is_some_and(|before| pod.observed.containers.len() < before);
        let before = pod.reported.as_ref();
        let status = match before {
            Some(before) if emptied => before.status.clone(),
            Some(before) => turned(&before.status, worded.status, now),
            None => worded.status,
        };
        if before.is_some_and(|before| before.status == status && before.gone == gone && before.generation == spec.generation) {
            return;
        }
        pod.reports += 1;
        let report = PodReport {
            uid: uid.clone(),
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            generation: spec.generation,
            attempt: pod.reports,
            status,
            gone,
        };
        pod.reported = Some(report.clone());
        // Nobody waits for the status of a pod that is no longer in the share.
        if self.share.as_ref().is_some_and(|share| share.pods.contains_key(uid)) {
            out.push(Effect::Report(report));
        }
    }

    /// Says once more what has been wrong with pods for a while.
    pub(super) fn tell_again(&mut self, now: Now, out: &mut Vec<Effect>) {
        for pod in self.pods.values_mut() {
            let due = pod.lasting.due(now.tick);
            let Some(spec) = &pod.spec else { continue };
            let events =
                due.into_iter().map(|wrong| event(&spec.pod, wrong.path, Severity::Warning, wrong.reason, wrong.message));
            out.extend(events);
        }
    }

    /// Has written down what changed of what is remembered; once per input.
    pub(super) fn keep_past(&mut self, out: &mut Vec<Effect>) {
        if std::mem::take(&mut self.past_changed) {
            out.push(Effect::Keep(self.past.clone()));
        }
    }

    /// Tells the lights when one of them changed; once per input.
    pub(super) fn light(&mut self, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.lights_changed) {
            return;
        }
        let lights: Vec<PodLight> = self
            .pods
            .values()
            .filter_map(|pod| {
                let spec = pod.spec.as_ref()?;
                Some(PodLight {
                    namespace: spec.pod.namespace.clone(),
                    name: spec.pod.name.clone(),
                    led: spec.annotations.get("bramble/led").cloned(),
                    state: pod.light?,
                })
            })
            .collect();
        if lights != self.lights {
            self.lights.clone_from(&lights);
            out.push(Effect::Lights(lights));
        }
    }
}
