//! `bramble fleet`: many simulated nodes in one process. `bramble start` uses it beyond ten nodes.

use std::path::PathBuf;

use crate::agent::config::{AgentConfig, Runtime};
use crate::config::FileMay;
use crate::error::Report;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One configuration a node
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    config: Vec<PathBuf>,
    /// The cluster's data directory; only so that `ps` shows whose fleet it is
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Validates the configurations and exits: 0 good, 2 not
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Report> {
    let mut configs = Vec::with_capacity(args.config.len());
    let mut faults = Vec::new();
    for file in &args.config {
        // No environment here: what it says of one node cannot hold for all.
        match AgentConfig::load(Some((file, FileMay::NotBeMissing)), [], &[]) {
            Ok(config) if config.runtime == Runtime::Simulated => configs.push(config),
            Ok(config) => faults.push(crate::config::Fault {
                place: file.display().to_string(),
                key: "runtime".into(),
                what: format!("expected \"simulated\", since nodes share a process here; {} says otherwise", config.node),
            }),
            Err(found) => faults.extend(found.0),
        }
    }
    if !faults.is_empty() {
        return Err(crate::config::Faults(faults).into());
    }
    if args.check {
        super::print(&format!("{} configurations are good\n", configs.len()));
        return Ok(());
    }
    super::agent::run_nodes(configs)
}
