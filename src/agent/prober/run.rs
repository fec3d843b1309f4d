//! The prober's hand: asks, each within its time-out, and brings the answers back.
//!
//! In:       [`Order`]s; the decider has at most one question out a probe, so what waits here is bounded by the probes there are.
//! Out:      [`Input::Probed`].
//! Never:    counts or judges (`worker.rs`).
//!
//! At most [`AT_ONCE`] are asked at a time, first come, first served; a time-out runs from the asking, not from the wait for
//! it. Each asking is a task of this hand and ends with it, or with its container.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Kind, Order, Sign, exec, grpc, http, tcp};
use crate::agent::node::Input;
use crate::agent::pods::spec::Action;
use crate::agent::runtime::Runtime;

/// So many are asked at a time: each exec is a process that Docker starts, and a Pi has four cores.
pub const AT_ONCE: usize = 16;

/// Serves orders until `stop`.
pub async fn drive(
    runtime: Arc<dyn Runtime>,
    mut orders: mpsc::Receiver<Order>,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut work = JoinSet::new();
    let mut asked: HashMap<String, HashMap<Kind, AbortHandle>> = HashMap::new();
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Some(ended) = work.join_next() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a probe died");
                }
            }
            order = orders.recv() => match order {
                None => break,
                Some(Order::Forget(container)) => {
                    asked.remove(&container).into_iter().flatten().for_each(|(_, task)| task.abort());
                }
                Some(Order::Ask(ask)) => {
                    let (runtime, inputs, slots) = (Arc::clone(&runtime), inputs.clone(), Arc::clone(&slots));
                    let (container, kind) = (ask.ticket.container.clone(), ask.ticket.kind);
                    let task = work.spawn(async move {
                        let Ok(_slot) = slots.acquire().await else { return };
                        let sign = answer(&*runtime, &ask).await;
                        tracing::trace!(container = %ask.ticket.container, kind = ask.ticket.kind.word(), ?sign, "probed");
                        let _ = inputs.send(Input::Probed(Answer { ticket: ask.ticket, sign })).await;
                    });
                    asked.entry(container).or_default().insert(kind, task);
                }
            },
        }
    }
    work.shutdown().await;
}

/// Asks once.
async fn answer(runtime: &dyn Runtime, ask: &Ask) -> Sign {
    let container = &ask.ticket.container;
    // Containers that are not there in truth have no ports either.
    if let Some(sign) = runtime.answers(container) {
        return sign;
    }
    match &ask.action {
        Action::Exec(command) => exec::ask(runtime, container, command, ask.timeout).await,
        Action::Http(get) => http::ask(get, &ask.addresses, ask.timeout).await,
        Action::Tcp { host, port } => tcp::ask(&hosts(host.as_deref(), &ask.addresses), *port, ask.timeout).await,
        Action::Grpc { port, service } => grpc::ask(&ask.addresses, *port, service, ask.timeout).await,
    }
}

/// The host that was named, else the pod's addresses.
pub(super) fn hosts(named: Option<&str>, addresses: &[String]) -> Vec<String> {
    named.map_or_else(|| addresses.to_vec(), |host| vec![host.to_owned()])
}
