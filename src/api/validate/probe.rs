//! Probes and lifecycle hooks of a container.
//!
//! Source:   `validateLivenessProbe`, `validateReadinessProbe`, `validateStartupProbe`, `validateLifecycle` of core.

use super::at::At;
use super::{Errors, FieldError, each, name, not_negative, one_of};

/// All probes and hooks of one container.
pub(super) fn all(container: &At<'_>, grace: i64, out: &mut Errors) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(key);
        if probe.is_set() {
            one(&probe, key == "readinessProbe", grace, out);
        }
    }
    for key in ["postStart", "preStop"] {
        let hook = container.get("lifecycle").get(key);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace, out);
        }
    }
}

fn one(probe: &At<'_>, readiness: bool, grace: i64, out: &mut Errors) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace, out);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(&probe.get(key), out);
    }
    let (grace, successes) = (probe.get("terminationGracePeriodSeconds"), probe.get("successThreshold"));
    if readiness {
        if grace.is_set() {
            out.push(grace.invalid("must not be set for readinessProbes"));
        }
        return;
    }
    if grace.int().is_some_and(|seconds| seconds <= 0) {
        out.push(grace.invalid("must be greater than 0"));
    }
    if successes.int().is_some_and(|number| number != 1) {
        out.push(successes.invalid("must be 1"));
    }
}

/// Exactly one of the ways to act. `pod_grace` is how long the pod has to stop, in seconds.
fn handler(at: &At<'_>, ways: &[&str], pod_grace: i64, out: &mut Errors) {
    let mut chosen = false;
    for way in ways {
        let action = at.get(way);
        if !action.is_set() {
            continue;
        }
        if chosen {
            out.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        chosen = true;
        match *way {
            "exec" => {
                let command = action.get("command");
                if command.len() == 0 {
                    out.push(command.required());
                }
            }
            "httpGet" => http(&action, out),
            "sleep" => {
                let seconds = action.get("seconds").int().unwrap_or_default();
                if !(0..=pod_grace).contains(&seconds) {
                    let words = format!("must be non-negative and less than terminationGracePeriodSeconds ({pod_grace})");
                    out.push(FieldError::invalid(&action.path, seconds, &words));
                }
            }
            _ => port(&action.get("port"), out),
        }
    }
    if !chosen {
        out.push(FieldError::required(&at.path, "must specify a handler type"));
    }
}

fn http(action: &At<'_>, out: &mut Errors) {
    let path = action.get("path");
    if path.text().is_empty() {
        out.push(path.required());
    }
    port(&action.get("port"), out);
    one_of(&action.get("scheme"), &["HTTP", "HTTPS"], out);
    for header in action.get("httpHeaders").items() {
        let title = header.get("name");
        if title.text().is_empty() || !title.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let words = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            out.push(FieldError::invalid(&title.path, title.text(), words));
        }
    }
}

/// A port by number or by name.
pub(super) fn port(at: &At<'_>, out: &mut Errors) {
    match at.int() {
        Some(number) => each(at, name::port_number(number), out),
        None if at.is_set() && at.value().is_string() => each(at, name::port_name(at.text()), out),
        None => out.push(FieldError::invalid(&at.path, 0, "must be between 1 and 65535, inclusive")),
    }
}
