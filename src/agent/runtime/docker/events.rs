//! Hands: what Docker tells of changes.
//!
//! Two streams make one: the events of our containers, and those of networks, which tell that somebody took a sandbox off its
//! network. An event of a network has none of our labels: it names a container, and is ours when that is a sandbox that was seen.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt};

use super::{Shared, lock};
use crate::agent::runtime::{Boxed, Changed, Changes, Failure, naming};
use crate::api::Uid;

type Events = Pin<Box<dyn Stream<Item = Result<EventMessage, Error>> + Send>>;

/// Subscribes. The requests go out when the first change is asked for.
pub(super) async fn listen(shared: &Arc<Shared>) -> Result<Box<dyn Changes>, Failure> {
    let docker = shared.client().await?;
    let engine = shared.engine();
    let containers = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("label".to_owned(), shared.owner().filter(None)),
        ("event".to_owned(), engine.events()),
    ]);
    let networks =
        HashMap::from([("type".to_owned(), vec!["network".to_owned()]), ("event".to_owned(), vec!["disconnect".to_owned()])]);
    let (containers, networks) = (ask(&docker, containers), Some(ask(&docker, networks)));
    Ok(Box::new(DockerChanges { shared: Arc::clone(shared), containers, networks }))
}

fn ask(docker: &Docker, filters: HashMap<String, Vec<String>>) -> Events {
    Box::pin(docker.events(Some(EventsOptions { filters: Some(filters), ..EventsOptions::default() })))
}

struct DockerChanges {
    shared: Arc<Shared>,
    containers: Events,
    /// `None`: this engine does not tell of networks, or no longer; everything is looked at now and then.
    networks: Option<Events>,
}

impl Changes for DockerChanges {
    fn next(&mut self) -> Boxed<'_, Option<Changed>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    message = self.containers.next() => {
                        if let Some(changed) = self.of_container(message?.ok()?) {
                            return Some(changed);
                        }
                    }
                    message = of_network(&mut self.networks) => match message {
                        Some(Ok(message)) => {
                            if let Some(uid) = self.sandbox(&message) {
                                return Some(Changed::Pod(uid));
                            }
                        }
                        Some(Err(error)) => {
                            tracing::debug!(%error, "the engine tells of no networks");
                            self.networks = None;
                        }
                        None => self.networks = None,
                    },
                    () = self.shared.oom_news.notified() => return Some(Changed::All),
                }
            }
        })
    }
}

impl DockerChanges {
    /// `None`: another node's. An engine's filter is a wish.
    fn of_container(&self, message: EventMessage) -> Option<Changed> {
        let actor = message.actor.unwrap_or_default();
        let labels = actor.attributes.unwrap_or_default();
        if !self.shared.owner().may_own(&labels) {
            return None;
        }
        if message.action.as_deref() == Some("oom") {
            lock(&self.shared.oom).extend(actor.id);
        }
        let uid = labels.get(naming::POD_UID).cloned();
        Some(uid.map_or(Changed::All, |uid| Changed::Pod(Uid(uid))))
    }

    /// Whose sandbox it was that lost a network. Docker names it in an attribute; Podman makes it the actor.
    fn sandbox(&self, message: &EventMessage) -> Option<Uid> {
        let actor = message.actor.as_ref()?;
        let named = actor.attributes.as_ref().and_then(|attributes| attributes.get("container"));
        let known = lock(&self.shared.sandboxes);
        [named, actor.id.as_ref()].into_iter().flatten().find_map(|id| known.get(id).cloned())
    }
}

/// The next event of a network; never when there is none to hear.
async fn of_network(networks: &mut Option<Events>) -> Option<Result<EventMessage, Error>> {
    match networks {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
