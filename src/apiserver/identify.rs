//! Which board is it? `POST /api/v1/nodes/NAME/proxy/identify?seconds=60` makes a node's LEDs blink.
//!
//! In:       the query; what the node answered.
//! Out:      what to ask the node; the reply, or a failure in plain words.
//! Never:    calls the node (`run.rs`).
//! Source:   the path is the one by which Kubernetes passes requests on to a kubelet (`nodes/proxy`); this is the one that our nodes
//!           have an answer to. `kubectl create --raw PATH -f FILE` with an empty file sends it too.

use std::time::Duration;

use serde_json::Value;

use super::route::Query;
use crate::api::registry;
use crate::api::status::ApiError;
use crate::link::call::{CallError, Identified, IdentifyQuestion, Question};

/// A node that has not answered by then has no link: somebody waits at a terminal, and `https.rs` waits for 5 s.
pub const WITHIN: Duration = Duration::from_secs(3);
/// When nobody says.
const USUAL_SECONDS: i64 = 60;
/// An hour: longer is no search.
const MOST_SECONDS: i64 = 3600;

/// What the node is asked.
///
/// # Errors
/// 400 for seconds that are no number from 1 to 3600.
pub fn question(query: &Query) -> Result<Question, ApiError> {
    let given = query.number("seconds")?.unwrap_or(USUAL_SECONDS);
    let seconds = u32::try_from(given).ok().filter(|_| (1..=MOST_SECONDS).contains(&given));
    let wrong = || ApiError::BadRequest(format!("seconds must be from 1 to {MOST_SECONDS}, and it is {given}"));
    Ok(Question::Identify(IdentifyQuestion { seconds: seconds.ok_or_else(wrong)? }))
}

/// The reply.
///
/// # Errors
/// 409 when the node has no LEDs, 503 when it does not answer.
pub fn reply(node: &str, answer: Result<Value, CallError>) -> Result<Value, ApiError> {
    let answer = answer.map_err(|error| match error {
        CallError::NoAnswer(_) => ApiError::Unavailable(format!(
            "node {node} does not answer: its link is down, or its agent is of an older version that cannot identify itself"
        )),
        CallError::NotFound(words) | CallError::Failed(words) => ApiError::Internal(words),
    })?;
    let identified: Identified =
        serde_json::from_value(answer.clone()).map_err(|_| ApiError::Internal(format!("node {node} answered something else")))?;
    if identified.leds == 0 {
        let why = format!("it has no LEDs: {}", identified.unlit.unwrap_or_else(|| "it does not say why".to_owned()));
        return Err(ApiError::Conflict { resource: &registry::NODES, name: node.to_owned(), why });
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_query_says_for_how_long() {
        let asked = |query: &str| question(&Query::parse(query)).map_err(|error| (error.code(), error.to_string()));
        let seconds = |seconds| Ok(Question::Identify(IdentifyQuestion { seconds }));
        assert_eq!((asked(""), asked("seconds=1"), asked("seconds=3600")), (seconds(60), seconds(1), seconds(3600)));
        for bad in ["0", "-5", "3601", "99999999999"] {
            let words = format!("seconds must be from 1 to 3600, and it is {bad}");
            assert_eq!(asked(&format!("seconds={bad}")), Err((400, words)));
        }
        assert_eq!(asked("seconds=soon").unwrap_err().0, 400);
    }

    #[test]
    fn what_the_node_says_becomes_a_reply_or_says_why_not() {
        let told = |answer| reply("pi", answer).map_err(|error| (error.code(), error.to_string()));
        assert_eq!(told(Ok(json!({"leds": 8}))), Ok(json!({"leds": 8})));
        let none = "Operation cannot be fulfilled on nodes \"pi\": it has no LEDs: its board is \"generic\", which has none";
        assert_eq!(told(Ok(json!({"leds": 0, "unlit": "its board is \"generic\", which has none"}))), Err((409, none.into())));
        let (code, words) = told(Err(CallError::NoAnswer("pi".into()))).unwrap_err();
        assert!(code == 503 && words.starts_with("node pi does not answer: its link is down"), "{code} {words}");
        assert_eq!(told(Err(CallError::Failed("no".into()))).unwrap_err().0, 500);
        assert_eq!(told(Ok(json!("?"))).unwrap_err().0, 500);
    }
}
