//! Hands: answers the master's small questions.

use std::sync::Arc;

use serde_json::Value;

use crate::agent::runtime::Runtime;
use crate::link::call::{CallError, Question};

/// Answers questions. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    #[allow(dead_code)] // the next change reads from it
    runtime: Arc<dyn Runtime>,
}

impl Answers {
    /// By what this runtime says.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime }
    }

    /// The answer.
    ///
    /// # Errors
    /// When it cannot be known; the words are for the user.
    #[allow(clippy::unused_async)] // each question waits for the runtime
    pub async fn answer(&self, question: &Question) -> Result<Value, CallError> {
        match question {
            Question::Stats => Err(CallError::Failed("this node does not count what it uses".to_owned())),
        }
    }
}
