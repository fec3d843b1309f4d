//! Hands: answers the master's small questions.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;

use super::rates::{self, Look};
use super::sysinfo::Groups;
use crate::agent::images::credentials::Keyring;
use crate::agent::runtime::{Failure, Runtime};
use crate::api::Object;
use crate::clock::{Clock, SystemClock};
use crate::link::call::{CallError, Question};
use crate::link::stats::NodeStats;

/// Answers questions. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    runtime: Arc<dyn Runtime>,
    clock: SystemClock,
    /// The last look, so that the next question needs no pause between two. Held over a look: who asks at the same time waits for
    /// the same answer.
    last: Arc<Mutex<Option<Look>>>,
}

impl Answers {
    /// By what this runtime says.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, clock: SystemClock) -> Self {
        Self { runtime, clock, last: Arc::new(Mutex::new(None)) }
    }

    /// The answer.
    ///
    /// # Errors
    /// When it cannot be known; the words are for the user.
    pub async fn answer(&self, question: &Question) -> Result<Value, CallError> {
        match question {
            Question::Stats => {
                let stats = self.stats().await.map_err(|failure| CallError::Failed(failure.to_string()))?;
                serde_json::to_value(stats).map_err(|error| CallError::Failed(error.to_string()))
            }
            Question::ImagePlatforms(question) => {
                let mut keyring = Keyring::default();
                for secret in question.secrets.iter().filter_map(|secret| Object::from_value(secret.clone())) {
                    // What is wrong with it is said when it is used to fetch the image.
                    let _ = keyring.add_secret(&secret);
                }
                let there = self.runtime.image_platforms(&question.image, &keyring.lookup(&question.image)).await;
                let there = there.map_err(|failure| CallError::Failed(failure.to_string()))?;
                Ok(there.iter().map(|platform| Value::from(platform.to_string())).collect())
            }
            // The runtime has no LEDs: the node's loop answers before it comes here.
            Question::Identify(_) => Err(CallError::Failed("the container runtime cannot identify a board".to_owned())),
        }
    }

    async fn stats(&self) -> Result<NodeStats, Failure> {
        let mut last = self.last.lock().await;
        let before = match last.take().filter(|look| look.serves(self.clock.now())) {
            Some(look) => look,
            None => {
                let first = self.look().await?;
                tokio::time::sleep(rates::LEAST_WINDOW).await;
                first
            }
        };
        let after = self.look().await?;
        let stats = rates::between(&before, &after);
        *last = Some(after);
        Ok(stats)
    }

    async fn look(&self) -> Result<Look, Failure> {
        let usage = self.runtime.usage().await?;
        let node = usage.node.unwrap_or_else(|| Groups::default().node());
        Ok(Look { at: self.clock.now(), node, containers: usage.containers })
    }
}
