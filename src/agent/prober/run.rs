//! The prober's hand: asks, each within its time-out, and brings the answers back.
//!
//! In:       [`Order`]s; the decider has at most one question out a probe, so what waits here is bounded by the probes there are.
//! Out:      [`Input::Probed`].
//! Never:    counts or judges (`worker.rs`).
//!
//! At most [`EXECS`] and [`CALLS`] are asked at a time, first come, first served; a time-out runs from the asking, not from the
//! wait for it. A Docker that hangs holds up what is asked through it, and nothing that is asked over the network. Each asking
//! is a task of this hand and ends with it, or with its container.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Kind, Order, Sign, exec, grpc, http, tcp};
use crate::agent::node::Input;
use crate::agent::pods::spec::Action;
use crate::agent::runtime::Runtime;

/// Commands at a time: each is some processes that Docker starts, and a Pi has four cores.
pub const EXECS: usize = 8;
/// Calls over the network at a time: each is a socket and some kilobytes.
pub const CALLS: usize = 64;

/// Serves orders until `stop`.
pub async fn drive(
    runtime: Arc<dyn Runtime>,
    mut orders: mpsc::Receiver<Order>,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let (execs, calls) = (Arc::new(Semaphore::new(EXECS)), Arc::new(Semaphore::new(CALLS)));
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
                    let slots = if matches!(ask.action, Action::Exec(_)) { &execs } else { &calls };
                    let (runtime, inputs, slots) = (Arc::clone(&runtime), inputs.clone(), Arc::clone(slots));
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
        Action::Portless(why) => Sign::Errored(why.clone()),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::path::PathBuf;

    use super::*;
    use crate::agent::prober::Ticket;
    use crate::agent::runtime::{Boxed, Changes, Command, Done, Executed, Failure, Listing, PodRef};
    use crate::agent::stats::{DiskUsage, Usage};
    use crate::api::Uid;
    use crate::link::call::{Chunks, LogRequest};

    /// Its commands never end.
    struct Hangs;

    impl Runtime for Hangs {
        fn execute<'a>(&'a self, _: &'a PodRef, _: &'a Command, _: &'a CancellationToken) -> Boxed<'a, Result<Done, Failure>> {
            Box::pin(std::future::pending())
        }
        fn observe<'a>(&'a self, _: Option<&'a Uid>) -> Boxed<'a, Result<Listing, Failure>> {
            Box::pin(std::future::pending())
        }
        fn events(&self) -> Boxed<'_, Result<Box<dyn Changes>, Failure>> {
            Box::pin(std::future::pending())
        }
        fn logs(&self, _: LogRequest) -> Chunks {
            mpsc::channel(1).1
        }
        fn exec<'a>(&'a self, _: &'a str, _: &'a [String], _: Duration) -> Boxed<'a, Result<Executed, Failure>> {
            Box::pin(std::future::pending())
        }
        fn version(&self) -> Boxed<'_, Result<String, Failure>> {
            Box::pin(std::future::pending())
        }
        fn teardown(&self) -> Boxed<'_, Result<(), Failure>> {
            Box::pin(std::future::pending())
        }
        fn usage(&self) -> Boxed<'_, Result<Usage, Failure>> {
            Box::pin(std::future::pending())
        }
        fn disk<'a>(&'a self, _: Option<&'a Uid>) -> Boxed<'a, Result<Vec<DiskUsage>, Failure>> {
            Box::pin(std::future::pending())
        }
        fn root(&self) -> Boxed<'_, Result<Option<PathBuf>, Failure>> {
            Box::pin(std::future::pending())
        }
    }

    fn ask(container: &str, action: Action) -> Order {
        let ticket = Ticket { uid: "u".into(), container: container.to_owned(), kind: Kind::Liveness, number: 1 };
        let addresses = vec!["127.0.0.1".to_owned()];
        Order::Ask(Box::new(Ask { ticket, action, addresses, timeout: Duration::from_secs(20) }))
    }

    #[tokio::test]
    async fn commands_that_hang_hold_up_no_calls_and_end_with_their_containers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (orders, inbox) = mpsc::channel(256);
        let (answers, mut heard) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let hand = tokio::spawn(drive(Arc::new(Hangs), inbox, answers, stop.clone()));
        for number in 0..2 * EXECS {
            orders.send(ask(&format!("hangs-{number}"), Action::Exec(vec!["true".into()]))).await.unwrap();
        }
        for number in 0..2 * CALLS {
            orders.send(ask(&format!("calls-{number}"), Action::Tcp { host: None, port })).await.unwrap();
        }
        for _ in 0..2 * CALLS {
            let Some(Input::Probed(answer)) = heard.recv().await else { panic!("the hand ended") };
            assert_eq!(answer.sign, Sign::Good);
            assert!(answer.ticket.container.starts_with("calls"));
        }
        for number in 0..2 * EXECS {
            orders.send(Order::Forget(format!("hangs-{number}"))).await.unwrap();
        }
        drop(orders);
        // Every asking has ended: their ends of the channel are gone, and nothing was said.
        let said = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.unwrap();
        assert!(said.is_none());
        hand.await.unwrap();
    }
}
