//! `bramble delete`: removes the cluster on this machine: processes, containers, data, and its context in the kubeconfig.

use crate::error::Report;
use crate::local::layout::Layout;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: super::Place,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    crate::local::stop::delete(&Layout::find(args.place.data_dir)?)
}
