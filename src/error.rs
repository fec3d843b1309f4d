//! How errors are printed, and what the process says by its exit code.

use std::fmt;

/// Prints an error and its sources, each once, joined by `: `.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut said = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some libraries print their source within their own text.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            source = error.source();
        }
        Ok(())
    }
}

/// What went wrong, as the exit code tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it was asked rightly and failed.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
}

impl Exit {
    /// The process' exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Failed => 1,
            Exit::Usage => 2,
        }
    }
}

/// An error for a person at a terminal: what happened, why, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Report {
    /// What happened, a sentence without full stop.
    pub what: String,
    /// Why, when it adds something.
    #[source]
    pub why: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// What to do about it: a sentence or a command.
    pub fix: Option<String>,
    /// Which exit code it gives.
    pub exit: Exit,
}

impl Report {
    /// A failure (exit 1).
    pub fn failed(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, fix: None, exit: Exit::Failed }
    }

    /// A failure (exit 1) of which everything was printed already.
    #[must_use]
    pub fn told() -> Self {
        Self::failed("")
    }

    /// Wrong usage or configuration (exit 2).
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(what) }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
