//! Hands: asks the nodes for their figures, many at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::{asked, objects};
use crate::api::status::ApiError;
use crate::apiserver::options::Selectors;
use crate::apiserver::route::{Query, Target};
use crate::apiserver::verbs::read::Page;
use crate::apiserver::verbs::{Answer, Body};
use crate::clock::Wall;
use crate::link::call::{CallError, Calls, Question};
use crate::link::stats::NodeStats;
use crate::store::{Store, View};

/// A node that has not answered by then is left out: somebody waits at a terminal.
const WITHIN: Duration = Duration::from_secs(2);
/// Nodes that are asked at the same time: half of the calls that may wait at the dispatcher, so that logs can be read meanwhile.
const AT_ONCE: usize = 32;

type Answered = Pin<Box<dyn Future<Output = (String, Result<serde_json::Value, CallError>)> + Send>>;

fn ask(calls: Arc<dyn Calls>) -> impl FnMut(String) -> Answered + Send {
    move |node| {
        let answer = calls.ask(&node, Question::Stats, WITHIN);
        Box::pin(async move { (node, answer.await) })
    }
}

/// One object or a list.
///
/// # Errors
/// 400 for a selector that cannot be read, 404 for one whose figures are not known.
pub async fn answer(
    store: &Store,
    calls: &Arc<dyn Calls>,
    target: &Target,
    query: &Query,
    now: Wall,
) -> Result<Answer, ApiError> {
    let selectors = Selectors::parse(query, target.resource)?;
    let (meant, revision) = store.view(|view| (asked(view, target, &selectors), View::revision(view)));
    let mut answers = stream::iter(meant.nodes.clone()).map(ask(Arc::clone(calls))).buffer_unordered(AT_ONCE);
    let mut items = Vec::new();
    while let Some((node, answer)) = answers.next().await {
        let stats = answer.map_err(|error| error.to_string());
        match stats.and_then(|stats| serde_json::from_value::<NodeStats>(stats).map_err(|error| error.to_string())) {
            Ok(stats) => items.extend(objects(target.resource, &meant, &node, &stats, now).into_iter().map(Arc::new)),
            Err(error) => tracing::debug!(node, error, "a node gave no figures"),
        }
    }
    items.sort_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
    match &target.name {
        Some(name) => items
            .into_iter()
            .next()
            .map(Answer::object)
            .ok_or_else(|| ApiError::NotFound { resource: target.resource, name: name.clone() }),
        None => {
            let page = Page { resource: target.resource, items, revision, next: None, remaining: None };
            Ok(Answer { code: 200, body: Body::List(page), warnings: Vec::new() })
        }
    }
}
