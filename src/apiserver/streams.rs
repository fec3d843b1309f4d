//! A container's log: which one is meant, and whether there is anything to read yet.
//!
//! In:       the pod and the query of `GET …/pods/NAME/log`.
//! Out:      the node to call and what to ask it, or 400 in the words that kubectl shows.
//! Never:    calls the node (`run.rs`).

use serde_json::Value;

use crate::api::Object;
use crate::api::status::ApiError;
use crate::clock::Wall;
use crate::link::call::{CallError, LogRequest};

use super::route::Query;

/// What to ask which node.
///
/// # Errors
/// 400 when it is not clear which container is meant, or it has not started.
pub fn log_call(pod: &Object, query: &Query, now: Wall) -> Result<(String, LogRequest), ApiError> {
    let name = pod.name();
    let container = container(pod, query.given("container"))?;
    let previous = query.flag("previous");
    let waits = |why: &str| ApiError::BadRequest(format!("container {container:?} in pod {name:?} is waiting to start: {why}"));
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        return Err(waits("the pod is on no node yet"));
    }
    let status = status_of(pod, &container);
    let state = |path: &str| status.and_then(|status| status.pointer(path)).is_some_and(Value::is_object);
    if previous && !state("/lastState/terminated") {
        return Err(ApiError::BadRequest(format!("previous terminated container {container:?} in pod {name:?} not found")));
    }
    let started = ["/state/running", "/state/terminated", "/lastState/terminated"].into_iter().any(state);
    if !started {
        let reason = status.and_then(|status| status.pointer("/state/waiting/reason")).and_then(Value::as_str);
        return Err(waits(match reason {
            Some("ErrImagePull") => "image can't be pulled",
            Some("ImagePullBackOff") => "trying and failing to pull image",
            Some(other) => other,
            None => "ContainerCreating",
        }));
    }
    let count = |key: &str| Ok::<_, ApiError>(query.number(key)?.and_then(|number| u64::try_from(number).ok()));
    let request = LogRequest {
        pod_uid: pod.uid().0,
        container,
        follow: query.flag("follow"),
        previous,
        tail_lines: count("tailLines")?,
        limit_bytes: count("limitBytes")?,
        since_seconds: match query.given("sinceTime") {
            Some(time) => Some(seconds_since(time, now)?),
            None => count("sinceSeconds")?,
        },
        timestamps: query.flag("timestamps"),
    };
    Ok((node.to_owned(), request))
}

fn seconds_since(time: &str, now: Wall) -> Result<u64, ApiError> {
    let since =
        crate::api::time::parse(time).ok_or_else(|| ApiError::BadRequest(format!("sinceTime is no RFC 3339 time: {time:?}")))?;
    Ok(u64::try_from((now.0 - since.0).div_euclid(1000)).unwrap_or_default())
}

fn names<'a>(pod: &'a Object, list: &str) -> Vec<&'a str> {
    pod.list_at(&["spec", list]).iter().filter_map(|container| container.get("name").and_then(Value::as_str)).collect()
}

fn container(pod: &Object, asked: Option<&str>) -> Result<String, ApiError> {
    let (containers, init) = (names(pod, "containers"), names(pod, "initContainers"));
    match (asked, containers.as_slice()) {
        (Some(asked), _)
            if containers.contains(&asked) || init.contains(&asked) || names(pod, "ephemeralContainers").contains(&asked) =>
        {
            Ok(asked.to_owned())
        }
        (Some(asked), _) => Err(ApiError::BadRequest(format!("container {asked} is not valid for pod {}", pod.name()))),
        (None, [only]) if init.is_empty() => Ok((*only).to_owned()),
        (None, _) => {
            let or_init =
                if init.is_empty() { String::new() } else { format!(" or one of the init containers: [{}]", init.join(" ")) };
            let (name, choice) = (pod.name(), containers.join(" "));
            Err(ApiError::BadRequest(format!(
                "a container name must be specified for pod {name}, choose one of: [{choice}]{or_init}"
            )))
        }
    }
}

fn status_of<'a>(pod: &'a Object, container: &str) -> Option<&'a Value> {
    ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
        .into_iter()
        .flat_map(|list| pod.list_at(&["status", list]))
        .find(|status| status.get("name").and_then(Value::as_str) == Some(container))
}

/// A node's failure as the API tells it.
#[must_use]
pub fn call_failed(error: CallError) -> ApiError {
    match error {
        CallError::NotFound(words) => ApiError::BadRequest(words),
        CallError::Failed(words) => ApiError::Internal(words),
        CallError::NoAnswer(_) => ApiError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &[&str], statuses: Value) -> Object {
        let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
        let value = json!({"metadata": {"name": "p", "uid": "u1"}, "spec": {"nodeName": "pi", "containers": containers}, "status": {"containerStatuses": statuses}});
        Object::from_value(value).unwrap()
    }

    #[test]
    fn a_log_that_cannot_be_read_says_why() {
        let running = json!([{"name": "c", "state": {"running": {}}}]);
        let waiting = |reason: &str| json!([{"name": "c", "state": {"waiting": {"reason": reason}}}]);
        for (pod, query, words) in [
            (pod(&["c", "d"], running.clone()), "", "a container name must be specified for pod p, choose one of: [c d]"),
            (pod(&["c"], running.clone()), "container=x", "container x is not valid for pod p"),
            (pod(&["c"], json!([])), "", "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            (pod(&["c"], waiting("PodInitializing")), "", "container \"c\" in pod \"p\" is waiting to start: PodInitializing"),
            (
                pod(&["c"], waiting("ImagePullBackOff")),
                "",
                "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image",
            ),
            (pod(&["c"], running.clone()), "previous=true", "previous terminated container \"c\" in pod \"p\" not found"),
            (pod(&["c"], running), "tailLines=x", "the query parameter tailLines is no whole number: \"x\""),
        ] {
            assert_eq!(log_call(&pod, &Query::parse(query), Wall(0)).unwrap_err(), ApiError::BadRequest(words.to_owned()));
        }
    }

    #[test]
    fn the_query_becomes_a_call_of_the_pods_node() {
        let crashing =
            json!([{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {}}}]);
        let query = Query::parse("follow=true&tailLines=5&limitBytes=100&timestamps=true&sinceTime=1970-01-01T00:00:10Z");
        let (node, request) = log_call(&pod(&["c"], crashing), &query, Wall(70_000)).unwrap();
        assert_eq!((node.as_str(), request.container.as_str(), request.pod_uid.as_str()), ("pi", "c", "u1"));
        assert_eq!(
            (request.follow, request.tail_lines, request.limit_bytes, request.since_seconds),
            (true, Some(5), Some(100), Some(60))
        );
    }
}
