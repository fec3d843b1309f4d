//! `bramble stop`: ends every process and container of the cluster on this machine; its data stays.

use crate::error::Report;
use crate::local::layout::Layout;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: super::Place,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    crate::local::stop::stop(&Layout::find(args.place.data_dir)?)
}
