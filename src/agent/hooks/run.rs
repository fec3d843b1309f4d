//! Hands: runs hooks, each in a task of its own, at most one per container.
//!
//! In:       [`HookOrder`]s.
//! Out:      [`Input::Hooked`], once for each.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{HookEnd, HookOrder, HookOutcome};
use crate::agent::node::Input;
use crate::agent::pods::spec::Hook;
use crate::agent::prober::http;
use crate::agent::runtime::Runtime;

/// Serves hooks until `stop`; what runs then is left: the next agent takes it as done.
pub async fn serve(
    runtime: Arc<dyn Runtime>,
    mut orders: mpsc::Receiver<HookOrder>,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let mut work = JoinSet::new();
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Some(ended) = work.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a hook died");
                }
            }
            Some(order) = orders.recv() => {
                let (runtime, inputs) = (Arc::clone(&runtime), inputs.clone());
                work.spawn(async move {
                    // Its limit is kept here as well: whoever runs it may wait for an answer that never comes.
                    let limit = order.start.limit;
                    let end = tokio::time::timeout(limit, run(&*runtime, &order)).await.unwrap_or(HookEnd::Late);
                    if let HookEnd::Failed(why) = &end {
                        let pod = &order.pod;
                        tracing::info!(pod = %format_args!("{}/{}", pod.namespace, pod.name), container = order.start.name, moment = ?order.start.moment, why, "a hook failed");
                    }
                    let HookOrder { pod, start, .. } = order;
                    let outcome = HookOutcome { uid: pod.uid, container: start.container, moment: start.moment, end };
                    let _ = inputs.send(Input::Hooked(outcome)).await;
                });
            }
            else => break,
        }
    }
    work.shutdown().await;
}

async fn run(runtime: &dyn Runtime, order: &HookOrder) -> HookEnd {
    match &order.start.hook {
        Hook::Exec(command) => match runtime.exec(&order.start.container, command, order.start.limit).await {
            Ok(done) => match done.exit_code {
                Some(0) => HookEnd::Done,
                Some(code) => HookEnd::Failed(format!("command exited with {code}: {}", done.output.trim_end())),
                None => HookEnd::Late,
            },
            Err(failure) => HookEnd::Failed(failure.to_string()),
        },
        Hook::Http(get) => match http::tell(get, std::slice::from_ref(&order.address)).await {
            Ok(()) => HookEnd::Done,
            Err(why) => HookEnd::Failed(why),
        },
        Hook::Sleep(time) => {
            tokio::time::sleep(*time).await;
            HookEnd::Done
        }
        Hook::Impossible(why) => HookEnd::Failed(why.clone()),
    }
}
