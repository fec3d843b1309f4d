//! The simulated runtime's hand: the model behind the trait that Docker is behind, on the machine's clock.
//!
//! It has no task of its own: whoever waits, for a command or for changes, moves the model on when its time has come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Effect, Input, Settings, Simulated, made_for};
use crate::agent::images::credentials::Credential;
use crate::agent::prober::Sign;
use crate::agent::runtime::{Boxed, Changed, Changes, Command, Done, Executed, Failure, Listing, PodRef, Runtime};
use crate::agent::stats::{DiskUsage, Usage};
use crate::api::Uid;
use crate::api::image::{Platform, Platforms};
use crate::clock::{Clock, SystemClock, Tick};
use crate::link::call::{CallError, Chunks, LogRequest};
use crate::step::Machine;

/// Changes that wait for a slow watcher; one that lags further is cut off and lists again.
const CHANGES: usize = 256;

/// A simulated runtime. Clones share it.
#[derive(Clone)]
pub struct SimulatedRuntime {
    clock: SystemClock,
    platform: Platform,
    shared: Arc<Shared>,
}

struct Shared {
    model: Mutex<Model>,
    moved: Notify,
}

struct Model {
    machine: Simulated,
    numbers: u64,
    outcomes: BTreeMap<u64, Result<Done, Failure>>,
    watchers: Vec<mpsc::Sender<Changed>>,
    followers: Vec<(LogRequest, mpsc::Sender<Result<Bytes, CallError>>)>,
}

impl SimulatedRuntime {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings, clock: SystemClock) -> Self {
        let platform = settings.platform.clone();
        let model = Model {
            machine: Simulated::new(settings),
            numbers: 0,
            outcomes: BTreeMap::new(),
            watchers: Vec::new(),
            followers: Vec::new(),
        };
        Self { clock, platform, shared: Arc::new(Shared { model: Mutex::new(model), moved: Notify::new() }) }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        // The model is a plain value: whatever panicked, it can go on.
        self.shared.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the model on to this moment, with an input or without; says when it wants to go on.
    fn step(&self, input: Option<Input>) -> Option<Tick> {
        let now = self.clock.now();
        let mut effects = Vec::new();
        let mut guard = self.model();
        let model = &mut *guard;
        if let Some(input) = input {
            model.machine.handle(now, input, &mut effects);
        }
        let ordered = effects.len();
        model.machine.wake(now, &mut effects);
        let moved = !effects.is_empty();
        for (number, effect) in effects.into_iter().enumerate() {
            match effect {
                Effect::Outcome { id, result } => {
                    model.outcomes.insert(id, result);
                }
                Effect::Changed(uid) => {
                    if number >= ordered {
                        tracing::trace!(%uid, "a container changed by itself");
                    }
                    model.watchers.retain(|watcher| watcher.try_send(Changed::Pod(uid.clone())).is_ok());
                }
            }
        }
        let machine = &model.machine;
        model.followers.retain(|(request, _)| {
            machine.runs(&Uid::from(request.pod_uid.as_str()), &request.container).any(|run| run.state.is_running())
        });
        let wake = model.machine.next_wake();
        drop(guard);
        if moved {
            self.shared.moved.notify_waiters();
        }
        wake
    }
}

impl Runtime for SimulatedRuntime {
    fn execute<'a>(
        &'a self,
        pod: &'a PodRef,
        command: &'a Command,
        given_up: &'a CancellationToken,
    ) -> Boxed<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let id = {
                let mut model = self.model();
                model.numbers += 1;
                model.numbers
            };
            let order = |command: Command| Some(Input::Execute { id, pod: pod.clone(), command });
            let mut input = order(command.clone());
            let mut wanted = true;
            loop {
                // Registered before the look, so that a move in between is not missed.
                let moved = self.shared.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                let wake = self.step(input.take());
                if let Some(result) = self.model().outcomes.remove(&id) {
                    return result;
                }
                tokio::select! {
                    () = moved => {}
                    () = given_up.cancelled(), if wanted => {
                        wanted = false;
                        input = order(Command::Cancel);
                    }
                    () = self.clock.sleep_until(wake) => {}
                }
            }
        })
    }

    fn observe<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Listing, Failure>> {
        Box::pin(async move {
            self.step(None);
            Ok(self.model().machine.listing(only))
        })
    }

    fn events(&self) -> Boxed<'_, Result<Box<dyn Changes>, Failure>> {
        Box::pin(async {
            let (sender, receiver) = mpsc::channel(CHANGES);
            self.model().watchers.push(sender);
            Ok(Box::new(SimulatedChanges { runtime: self.clone(), receiver }) as Box<dyn Changes>)
        })
    }

    fn logs(&self, request: LogRequest) -> Chunks {
        let (sender, receiver) = mpsc::channel(1);
        let uid = Uid::from(request.pod_uid.as_str());
        let mut model = self.model();
        let mut runs: Vec<_> = model.machine.runs(&uid, &request.container).cloned().collect();
        let newest = runs.pop();
        let run = if request.previous { runs.pop() } else { newest };
        let answer = match &run {
            Some(run) => {
                let text = format!(
                    "simulated: container {} of image {} prints nothing\nsimulated: run number {}\n",
                    run.name, run.image, run.attempt
                );
                let wanted = request.tail_lines.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
                let lines: Vec<&str> = text.split_inclusive('\n').collect();
                let mut tail: String = lines.iter().skip(lines.len().saturating_sub(wanted)).copied().collect();
                tail.truncate(request.limit_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)));
                Ok(Bytes::from(tail))
            }
            None => Err(CallError::NotFound(format!("container \"{}\" has no such run", request.container))),
        };
        // The channel is empty and has room for one.
        let _ = sender.try_send(answer);
        if request.follow && run.is_some_and(|run| run.state.is_running()) {
            model.followers.push((request, sender));
        }
        receiver
    }

    fn exec<'a>(&'a self, container: &'a str, command: &'a [String], _limit: Duration) -> Boxed<'a, Result<Executed, Failure>> {
        Box::pin(async move {
            self.step(None);
            let code = self.model().machine.answer(self.clock.now(), container);
            let code = code.ok_or_else(|| Failure::Failed(format!("Container {container} is not running (simulated)")))?;
            let what = command.first().map(String::as_str).unwrap_or_default();
            let output = if code == 0 { String::new() } else { format!("{what} failed (simulated)\n") };
            Ok(Executed { exit_code: Some(code), output })
        })
    }

    fn answers(&self, container: &str) -> Option<Sign> {
        self.step(None);
        Some(match self.model().machine.answer(self.clock.now(), container) {
            Some(0) => Sign::Good,
            Some(_) => Sign::Bad("the container is sick (simulated)".to_owned()),
            None => Sign::Errored("the container does not run (simulated)".to_owned()),
        })
    }

    fn version(&self) -> Boxed<'_, Result<String, Failure>> {
        Box::pin(async { Ok("simulated://".to_owned()) })
    }

    fn platforms(&self) -> Boxed<'_, Result<Platforms, Failure>> {
        Box::pin(async { Ok(Platforms { own: self.platform.clone(), emulated: Vec::new() }) })
    }

    fn image_platforms<'a>(
        &'a self,
        image: &'a str,
        _credentials: &'a [Credential],
    ) -> Boxed<'a, Result<Vec<Platform>, Failure>> {
        Box::pin(async { Ok(made_for(image)) })
    }

    fn teardown(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async {
            let mut model = self.model();
            let pods: Vec<PodRef> = model.machine.listing(None).pods.into_values().map(|observed| observed.pod).collect();
            let now = self.clock.now();
            for pod in pods {
                model.machine.handle(now, Input::Execute { id: 0, pod, command: Command::RemovePod }, &mut Vec::new());
            }
            Ok(())
        })
    }

    fn usage(&self) -> Boxed<'_, Result<Usage, Failure>> {
        Box::pin(async {
            self.step(None);
            Ok(self.model().machine.usage(self.clock.now()))
        })
    }

    fn disk<'a>(&'a self, _only: Option<&'a Uid>) -> Boxed<'a, Result<Vec<DiskUsage>, Failure>> {
        // Nothing is written anywhere.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn root(&self) -> Boxed<'_, Result<Option<PathBuf>, Failure>> {
        Box::pin(async { Ok(None) })
    }
}

struct SimulatedChanges {
    runtime: SimulatedRuntime,
    receiver: mpsc::Receiver<Changed>,
}

impl Changes for SimulatedChanges {
    fn next(&mut self) -> Boxed<'_, Option<Changed>> {
        Box::pin(async {
            loop {
                let wake = self.runtime.step(None);
                let moved = self.runtime.shared.moved.notified();
                tokio::select! { biased;
                    change = self.receiver.recv() => return change,
                    () = moved => {}
                    () = self.runtime.clock.sleep_until(wake) => {}
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runtime::{ContainerPlan, SandboxPlan};

    #[tokio::test]
    async fn it_serves_the_same_trait_with_pulls_exits_and_logs() {
        let settings = Settings { pull: Duration::from_millis(30), ..Settings::default() };
        let runtime = SimulatedRuntime::new(settings, SystemClock::start());
        let pod = PodRef { uid: "u".into(), namespace: "default".into(), name: "web".into() };
        let mut changes = runtime.events().await.unwrap();
        let script = [(super::super::ANNOTATION.to_owned(), "exit=4 after=60ms".to_owned())];
        let sandbox = SandboxPlan { pod: pod.clone(), annotations: script.into(), ..SandboxPlan::default() };
        runtime.execute(&pod, &Command::StartSandbox(Box::new(sandbox)), &CancellationToken::new()).await.unwrap();
        let begun = tokio::time::Instant::now();
        runtime
            .execute(&pod, &Command::PullImage { image: "i".into(), credentials: Vec::new() }, &CancellationToken::new())
            .await
            .unwrap();
        assert!(begun.elapsed().as_millis() >= 30);
        let container = ContainerPlan { pod: pod.clone(), name: "app".into(), ..ContainerPlan::default() };
        let started =
            runtime.execute(&pod, &Command::StartContainer(Box::new(container)), &CancellationToken::new()).await.unwrap();
        let Done::Started { id, .. } = started else { panic!("{started:?}") };
        let run = ["true".to_owned()];
        assert_eq!(runtime.exec(&id, &run, Duration::from_secs(1)).await.unwrap().exit_code, Some(0));
        runtime.exec("another", &run, Duration::from_secs(1)).await.unwrap_err();
        let request = LogRequest { pod_uid: "u".into(), container: "app".into(), follow: true, ..LogRequest::default() };
        let mut log = runtime.logs(request);
        assert!(log.recv().await.unwrap().unwrap().starts_with(b"simulated"));
        let (start, mut looks) = (tokio::time::Instant::now(), 0);
        loop {
            assert_eq!(changes.next().await, Some(Changed::Pod("u".into())));
            looks += 1;
            let listing = runtime.observe(Some(&pod.uid)).await.unwrap();
            if matches!(listing.pods[&pod.uid].containers[0].state, crate::agent::runtime::RunState::Exited { exit_code: 4, .. })
            {
                break;
            }
        }
        assert!(start.elapsed().as_millis() >= 59);
        assert!(looks <= 4);
        assert_eq!(log.recv().await, None, "a followed log ends with its container");
        runtime.teardown().await.unwrap();
        assert!(runtime.observe(None).await.unwrap().pods.is_empty());
    }
}
