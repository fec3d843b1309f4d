//! What both daemons' commands share: where their configuration is, a runtime, and a stop by signal.

use std::future::Future;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::config::FileMay;
use crate::error::Report;
use crate::task::stop_on_signal;

/// Where a daemon's configuration is, and whether to stop after reading it.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration [default: this daemon's file in /etc/bramble, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Validates the configuration and exits: 0 good, 2 not
    #[arg(long)]
    pub(super) check: bool,
}

impl ConfigArgs {
    /// The file that was named, which must be there, else `default`, which need not.
    pub(super) fn file<'a>(&'a self, default: &'a str) -> (&'a Path, FileMay) {
        match &self.config {
            Some(file) => (file, FileMay::NotBeMissing),
            None => (Path::new(default), FileMay::BeMissing),
        }
    }
}

/// Threads of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// One: an agent waits more than it works, and each thread costs memory.
    #[cfg(feature = "agent")]
    One,
    /// Two: the master of a thousand nodes has work for them.
    #[cfg(feature = "master")]
    Several,
}

/// Runs `body` until it ends; its token is cancelled at SIGTERM and SIGINT.
pub(super) fn run<F, B>(workers: Workers, body: B) -> Result<(), Report>
where
    F: Future<Output = Result<(), Report>>,
    B: FnOnce(CancellationToken) -> F,
{
    let mut builder = match workers {
        #[cfg(feature = "agent")]
        Workers::One => tokio::runtime::Builder::new_current_thread(),
        #[cfg(feature = "master")]
        Workers::Several => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
    };
    let runtime = builder.enable_all().build().map_err(|error| Report::failed("cannot start").because(error))?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (signals, body) = (stop_on_signal(stop.clone()), body(stop.clone()));
        tokio::pin!(body);
        // In this order: who can be told that the daemon is ready can stop it.
        tokio::select! { biased;
            heard = signals => match heard {
                Ok(()) => body.await,
                Err(error) => Err(Report::failed("cannot listen for signals").because(error)),
            },
            result = &mut body => result,
        }
    })
}
