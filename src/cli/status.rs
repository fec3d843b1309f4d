//! `bramble status`: how the cluster on this machine is.

use crate::error::Report;
use crate::local::layout::Layout;
use crate::local::status::status;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: super::Place,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: super::Output,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let layout = Layout::find(args.place.data_dir)?;
    let status = status(&layout)?;
    match args.output {
        super::Output::Text => super::print(&status.to_string()),
        super::Output::Json => {
            let json = serde_json::to_string(&status).map_err(|error| Report::failed("cannot print as JSON").because(error))?;
            super::print(&format!("{json}\n"));
        }
    }
    if status.ready { Ok(()) } else { Err(Report::told()) }
}
