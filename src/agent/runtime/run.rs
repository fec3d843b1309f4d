//! The runtime's hand: carries out orders, and looks where something changed.
//!
//! In:       [`Order`]s, at most one per pod at a time.
//! Out:      [`Input`]s for the node: outcomes, each with the pod as it is afterwards, and listings.
//!
//! After a start, and whenever the stream of changes broke, everything is listed; between that only pods that changed are
//! looked at. A runtime that is away is asked again with a growing pause, and that is said once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Changed, Changes, Command, Failure, Runtime};
use crate::agent::node::{Input, Order, Outcome};
use crate::api::Uid;
use crate::backoff::Policy;

/// Between attempts to reach a runtime that is away.
const AWAY: Policy = Policy { first: Duration::from_millis(250), cap: Duration::from_secs(10) };
/// Changes come in flocks (die, destroy, create, start): one look serves them all.
const FLOCK: Duration = Duration::from_millis(20);

/// A runtime that tells of no change for so long is asked whether it still lives: one that hangs is silent as well.
const LIVES: Duration = Duration::from_secs(15);
/// Everything is listed anew after so long, whatever the changes told: no event is ever needed.
const RELIST: Duration = Duration::from_secs(300);

/// How often it is looked how far a fetch is.
const FETCH: Duration = Duration::from_secs(1);

/// Whether the runtime answers; for the node's `Ready` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet.
    Unknown,
    /// It answers.
    Ready,
    /// It does not, and why.
    Away(String),
}

/// Serves orders until `stop`. `orders` needs room for one order per pod; `inputs` is read by the node's loop, which never
/// waits for us, so that neither can block the other for good.
pub async fn drive(
    runtime: Arc<dyn Runtime>,
    mut orders: mpsc::Receiver<Order>,
    inputs: mpsc::Sender<Input>,
    health: watch::Sender<Health>,
    stop: CancellationToken,
) {
    let mut work = JoinSet::new();
    // Fetches that are under way, by their tickets: they may be given up.
    let mut fetches: BTreeMap<u64, CancellationToken> = BTreeMap::new();
    // An outcome that could not be followed by a look: everything is listed anew. One slot: a second wish adds nothing.
    let (relist, mut lists) = mpsc::channel::<()>(1);
    let watcher = look(Arc::clone(&runtime), inputs.clone(), health, &mut lists);
    tokio::pin!(watcher);
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Some(ended) = work.join_next() => match ended {
                Ok(ticket) => { fetches.remove(&ticket); }
                Err(error) => tracing::error!(%error, "an order died"),
            },
            Some(order) = orders.recv() => {
                if order.command == Command::Cancel {
                    if let Some(given_up) = fetches.get(&order.ticket) {
                        given_up.cancel();
                    }
                    continue;
                }
                let ticket = order.ticket;
                let given_up = CancellationToken::new();
                if matches!(order.command, Command::PullImage { .. }) {
                    fetches.insert(ticket, given_up.clone());
                }
                let (runtime, inputs, relist) = (Arc::clone(&runtime), inputs.clone(), relist.clone());
                work.spawn(async move {
                    let outcome = carry_out(&*runtime, order, &inputs, &given_up).await;
                    let blind = outcome.after.is_none();
                    // A node that no longer listens is stopping: nobody misses the outcome.
                    let _ = inputs.send(Input::Outcome(outcome)).await;
                    if blind {
                        // Full: somebody else wished the same.
                        let _ = relist.try_send(());
                    }
                    ticket
                });
            }
            () = &mut watcher => break,
        }
    }
    // What is under way in the runtime goes on there; the next agent finds it.
    work.shutdown().await;
}

async fn carry_out(runtime: &dyn Runtime, order: Order, inputs: &mpsc::Sender<Input>, given_up: &CancellationToken) -> Outcome {
    let Order { ticket, pod, command } = order;
    tracing::debug!(pod = %format_args!("{}/{}", pod.namespace, pod.name), command = command.name(), "order");
    let result = match &command {
        Command::PullImage { image, .. } => {
            tokio::select! { biased;
                () = given_up.cancelled() => Err(Failure::Failed("given up: the pod is gone".to_owned())),
                result = runtime.execute(&pod, &command) => result,
                never = tell(runtime, ticket, &pod.uid, image, inputs) => never,
            }
        }
        _ => runtime.execute(&pod, &command).await,
    };
    if let Err(failure) = &result {
        tracing::debug!(pod = %format_args!("{}/{}", pod.namespace, pod.name), command = command.name(), %failure, "order failed");
    }
    let after = runtime.observe(Some(&pod.uid)).await.ok();
    Outcome { ticket, uid: pod.uid, result, after }
}

/// Tells how far a fetch is, for ever.
async fn tell<T>(runtime: &dyn Runtime, ticket: u64, uid: &Uid, image: &str, inputs: &mpsc::Sender<Input>) -> T {
    let mut before = None;
    loop {
        tokio::time::sleep(FETCH).await;
        let progress = runtime.progress(image);
        if let Some(progress) = progress.filter(|progress| before != Some(*progress)) {
            before = Some(progress);
            // A node that is busy need not hear each of them.
            let _ = inputs.try_send(Input::Progress { ticket, uid: uid.clone(), progress });
        }
    }
}

/// Lists, then follows the changes, for ever.
async fn look(
    runtime: Arc<dyn Runtime>,
    inputs: mpsc::Sender<Input>,
    health: watch::Sender<Health>,
    lists: &mut mpsc::Receiver<()>,
) {
    let mut failures = 0u32;
    loop {
        match subscribe(&*runtime, &inputs).await {
            Ok(changes) => {
                if failures > 0 {
                    tracing::info!("the container runtime answers again");
                }
                failures = 0;
                health.send_replace(Health::Ready);
                if !follow(&*runtime, &inputs, changes, lists).await {
                    return;
                }
            }
            Err(failure) => {
                if failures == 0 {
                    tracing::warn!(%failure, "the container runtime is away; pods go on, and it is asked again");
                }
                failures = failures.saturating_add(1);
                health.send_replace(Health::Away(failure.to_string()));
                tokio::time::sleep(AWAY.delay(failures)).await;
            }
        }
    }
}

/// Subscribes first and lists then: what changes in between is seen twice rather than never.
async fn subscribe(runtime: &dyn Runtime, inputs: &mpsc::Sender<Input>) -> Result<Box<dyn Changes>, Failure> {
    let changes = runtime.events().await?;
    let listing = runtime.observe(None).await?;
    let _ = inputs.send(Input::Observed(listing)).await;
    Ok(changes)
}

/// Looks at what changed; `false` when nobody listens any more, `true` when everything is to be listed.
async fn follow(
    runtime: &dyn Runtime,
    inputs: &mpsc::Sender<Input>,
    mut changes: Box<dyn Changes>,
    lists: &mut mpsc::Receiver<()>,
) -> bool {
    let relist = tokio::time::sleep(RELIST);
    tokio::pin!(relist);
    loop {
        let mut touched = BTreeSet::<Uid>::new();
        tokio::select! {
            change = changes.next() => match change {
                Some(Changed::Pod(uid)) => { touched.insert(uid); }
                Some(Changed::All) | None => return true,
            },
            _ = lists.recv() => return true,
            () = &mut relist => return true,
            () = tokio::time::sleep(LIVES) => {
                if runtime.version().await.is_err() {
                    return true;
                }
            }
        }
        let flock = tokio::time::sleep(FLOCK);
        tokio::pin!(flock);
        loop {
            tokio::select! { biased;
                () = &mut flock => break,
                change = changes.next() => match change {
                    Some(Changed::Pod(uid)) => { touched.insert(uid); }
                    Some(Changed::All) | None => return true,
                },
            }
        }
        for uid in &touched {
            let Ok(listing) = runtime.observe(Some(uid)).await else { return true };
            if inputs.send(Input::Observed(listing)).await.is_err() {
                return false;
            }
        }
    }
}
