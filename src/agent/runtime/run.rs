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

use super::{Changed, Changes, Command, Failure, Listing, ObservedPod, Runtime};
use crate::agent::node::{Input, Order, Outcome};
use crate::api::Uid;
use crate::backoff::Policy;

/// Between attempts to reach a runtime that is away.
const AWAY: Policy = Policy { first: Duration::from_millis(250), cap: Duration::from_secs(10) };
/// Changes come in flocks (die, destroy, create, start): one look serves them all.
const FLOCK: Duration = Duration::from_millis(20);

/// A runtime that tells of no change for so long is asked whether it still lives: one that hangs is silent as well …
const LIVES: Duration = Duration::from_secs(15);
/// … and when it has not answered by then it is away. Source: both together are the 30 s after which the kubelet calls a runtime down.
const ANSWERS: Duration = Duration::from_secs(15);
/// Everything is listed anew after so long, whatever the changes told: no event is ever needed.
const RELIST: Duration = Duration::from_secs(300);
/// A pod whose sandbox runs on no network is looked at once more after so long: one look alone makes nothing certain
/// (`pods/address.rs`).
const SECOND_LOOK: Duration = Duration::from_millis(1500);

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
    // Orders that are under way, by their tickets: they may be given up.
    let mut under_way: BTreeMap<u64, CancellationToken> = BTreeMap::new();
    // An outcome that could not be followed by a look: everything is listed anew. One slot: a second wish adds nothing.
    let (relist, mut lists) = mpsc::channel::<()>(1);
    let watcher = look(Arc::clone(&runtime), inputs.clone(), health, &mut lists);
    tokio::pin!(watcher);
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Some(ended) = work.join_next() => match ended {
                Ok(ticket) => { under_way.remove(&ticket); }
                Err(error) => tracing::error!(%error, "an order died"),
            },
            Some(order) = orders.recv() => {
                if order.command == Command::Cancel {
                    if let Some(given_up) = under_way.get(&order.ticket) {
                        given_up.cancel();
                    }
                    continue;
                }
                let ticket = order.ticket;
                let given_up = CancellationToken::new();
                under_way.insert(ticket, given_up.clone());
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
                () = given_up.cancelled() => Err(Failure::given_up()),
                result = runtime.execute(&pod, &command, given_up) => result,
                never = tell(runtime, ticket, &pod.uid, image, inputs) => never,
            }
        }
        Command::FindImage { .. } => {
            // It changes nothing, so the pod may be looked at meanwhile.
            let (result, after) = tokio::join!(runtime.execute(&pod, &command, given_up), runtime.observe(Some(&pod.uid)));
            return Outcome { ticket, uid: pod.uid, result, after: after.ok() };
        }
        _ => runtime.execute(&pod, &command, given_up).await,
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
        let failure = match subscribe(&*runtime, &inputs).await {
            Ok(seen) => {
                if failures > 0 {
                    tracing::info!("the container runtime answers again");
                }
                failures = 0;
                health.send_replace(Health::Ready);
                match follow(&*runtime, &inputs, seen, lists).await {
                    Next::List => continue,
                    Next::Away(failure) => failure,
                    Next::End => return,
                }
            }
            Err(failure) => failure,
        };
        if failures == 0 {
            tracing::warn!(%failure, "the container runtime is away; pods go on, and it is asked again");
        }
        failures = failures.saturating_add(1);
        health.send_replace(Health::Away(failure.to_string()));
        tokio::time::sleep(AWAY.delay(failures)).await;
    }
}

/// What was found when everything was listed.
struct Seen {
    changes: Box<dyn Changes>,
    /// What came while it was listed; `None`: the stream broke.
    meanwhile: Vec<Option<Changed>>,
    /// Pods that are to be looked at once more.
    doubtful: BTreeSet<Uid>,
}

/// Subscribes, and lists at the same time: what changes in between is seen twice rather than never.
async fn subscribe(runtime: &dyn Runtime, inputs: &mpsc::Sender<Input>) -> Result<Seen, Failure> {
    let mut changes = runtime.events().await?;
    let mut meanwhile = Vec::new();
    let listing = {
        let listing = runtime.observe(None);
        tokio::pin!(listing);
        loop {
            let listens = !matches!(meanwhile.last(), Some(None));
            tokio::select! { biased;
                change = changes.next(), if listens => meanwhile.push(change),
                listing = &mut listing => break listing?,
            }
        }
    };
    let doubtful = off_network(&listing);
    let _ = inputs.send(Input::Observed(listing)).await;
    Ok(Seen { changes, meanwhile, doubtful })
}

/// The pods whose sandbox runs and is on no network.
fn off_network(listing: &Listing) -> BTreeSet<Uid> {
    let off = |pod: &&ObservedPod| pod.sandboxes.last().is_some_and(|sandbox| sandbox.state.is_running() && sandbox.off_network);
    listing.pods.values().filter(off).map(|pod| pod.pod.uid.clone()).collect()
}

/// What comes after a stream of changes.
enum Next {
    /// Everything is to be listed.
    List,
    /// The runtime does not answer.
    Away(Failure),
    /// Nobody listens any more.
    End,
}

/// Looks at what changed, until that is no longer enough.
async fn follow(runtime: &dyn Runtime, inputs: &mpsc::Sender<Input>, seen: Seen, lists: &mut mpsc::Receiver<()>) -> Next {
    let Seen { mut changes, mut meanwhile, mut doubtful } = seen;
    let relist = tokio::time::sleep(RELIST);
    tokio::pin!(relist);
    let second_look = tokio::time::sleep(SECOND_LOOK);
    tokio::pin!(second_look);
    loop {
        let mut touched = BTreeSet::<Uid>::new();
        let mut again = BTreeSet::<Uid>::new();
        tokio::select! {
            change = next(&mut meanwhile, &mut *changes) => match change {
                Some(Changed::Pod(uid)) => { touched.insert(uid); }
                Some(Changed::All) | None => return Next::List,
            },
            _ = lists.recv() => return Next::List,
            () = &mut relist => return Next::List,
            () = &mut second_look, if !doubtful.is_empty() => again.append(&mut doubtful),
            () = tokio::time::sleep(LIVES) => {
                let silent = || Failure::Unavailable(format!("it did not answer within {} s", ANSWERS.as_secs()));
                if let Err(failure) = tokio::time::timeout(ANSWERS, runtime.lives()).await.unwrap_or_else(|_| Err(silent())) {
                    return Next::Away(failure);
                }
            }
        }
        let flock = tokio::time::sleep(FLOCK);
        tokio::pin!(flock);
        loop {
            tokio::select! { biased;
                () = &mut flock => break,
                change = next(&mut meanwhile, &mut *changes) => match change {
                    Some(Changed::Pod(uid)) => { touched.insert(uid); }
                    Some(Changed::All) | None => return Next::List,
                },
            }
        }
        for uid in touched.union(&again) {
            let Ok(listing) = runtime.observe(Some(uid)).await else { return Next::List };
            // One that has had its second look is the node's to mend.
            if !again.contains(uid) && !off_network(&listing).is_empty() && doubtful.insert(uid.clone()) {
                second_look.as_mut().reset(tokio::time::Instant::now() + SECOND_LOOK);
            }
            if inputs.send(Input::Observed(listing)).await.is_err() {
                return Next::End;
            }
        }
    }
}

/// The next change: one that came while everything was listed, or one that comes. Safe to drop half way.
async fn next(meanwhile: &mut Vec<Option<Changed>>, changes: &mut dyn Changes) -> Option<Changed> {
    if meanwhile.is_empty() { changes.next().await } else { meanwhile.remove(0) }
}
