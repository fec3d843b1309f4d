//! A container's lifecycle hooks, checked.
//!
//! In:       the container's raw JSON.
//! Out:      [`Lifecycle`].
//! Never:    fails. A hook that cannot be run is a [`Hook::Impossible`], which fails when its moment comes, as upstream's do.
//! Source:   v1 Lifecycle; what is asked of a container is read as for its probes.

use std::time::Duration;

use serde_json::Value;

use super::probe::{self, Action, HttpGet};

/// What is done around a container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Right after its start.
    pub post_start: Option<Hook>,
    /// Before it is told to end.
    pub pre_stop: Option<Hook>,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Runs this in the container; exit code 0 is good.
    Exec(Vec<String>),
    /// Asks by HTTP or HTTPS; any answer is good.
    Http(HttpGet),
    /// Does nothing for so long.
    Sleep(Duration),
    /// Cannot be run, and why.
    Impossible(String),
}

/// Reads the hooks of a container.
pub(super) fn lifecycle(container: &Value) -> Lifecycle {
    let one = |key: &str| {
        let raw = container.get("lifecycle")?.get(key).filter(|raw| !raw.is_null())?;
        Some(hook(container, raw))
    };
    Lifecycle { post_start: one("postStart"), pre_stop: one("preStop") }
}

fn hook(container: &Value, raw: &Value) -> Hook {
    if let Some(sleep) = raw.get("sleep").filter(|sleep| !sleep.is_null()) {
        let seconds = sleep.get("seconds").and_then(Value::as_u64);
        return seconds
            .map_or(Hook::Impossible("sleep names no seconds".to_owned()), |seconds| Hook::Sleep(Duration::from_secs(seconds)));
    }
    match probe::action(container, raw) {
        Ok(Action::Exec(command)) => Hook::Exec(command),
        Ok(Action::Http(get)) => Hook::Http(get),
        // Source: v1 LifecycleHandler: tcpSocket is not supported, and fails at run time.
        Ok(Action::Tcp { .. } | Action::Grpc { .. }) => Hook::Impossible("only exec, httpGet and sleep can be hooks".to_owned()),
        Ok(Action::Portless(why)) => Hook::Impossible(why),
        Err(why) => Hook::Impossible(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hooks_are_read_and_what_cannot_be_run_says_why() {
        let get = HttpGet { tls: false, host: None, port: 8080, path: "/bye".into(), headers: Vec::new() };
        for (raw, expected) in [
            (json!({"exec": {"command": ["/bin/bye", "now"]}}), Hook::Exec(vec!["/bin/bye".into(), "now".into()])),
            (json!({"httpGet": {"port": "web", "path": "bye"}}), Hook::Http(get)),
            (json!({"sleep": {"seconds": 3}}), Hook::Sleep(Duration::from_secs(3))),
            (json!({"sleep": {}}), Hook::Impossible("sleep names no seconds".into())),
            (json!({"tcpSocket": {"port": 80}}), Hook::Impossible("only exec, httpGet and sleep can be hooks".into())),
            (json!({"httpGet": {"port": "none"}}), Hook::Impossible("the container has no port named \"none\"".into())),
        ] {
            let container =
                json!({"ports": [{"name": "web", "containerPort": 8080}], "lifecycle": {"preStop": raw, "postStart": null}});
            let read = lifecycle(&container);
            assert_eq!((read.pre_stop, read.post_start), (Some(expected), None), "{raw}");
        }
    }
}
