//! `bramble doctor`: looks for what is wrong on this machine. So far: what of Bramble is in its network, and what of that nobody needs.

use crate::agent::overlay::listing::Thing;
use crate::agent::overlay::listing::run::{RemoveError, list, sweep};
use crate::error::Report;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists every link, route, address, table and rule of Bramble in this machine's network, and whether an agent that runs needs it
    Network {
        /// Removes what belongs to no agent that runs here
        #[arg(long)]
        remove: bool,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: super::Output,
    },
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let Command::Network { remove, output } = args.command;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::failed("cannot start").because(error))?;
    let things = if remove {
        runtime.block_on(sweep()).map_err(|error| {
            let report = Report::failed("not all could be removed");
            match error {
                RemoveError::Netlink(error) => report.because(error).fix("run it as root"),
                error => report.because(error).fix("run it as root; `bramble doctor network` lists what is left"),
            }
        })?
    } else {
        runtime.block_on(list()).map_err(|error| Report::failed("cannot look at this machine's network").because(error))?
    };
    match output {
        super::Output::Json => {
            let json = serde_json::to_string(&things).map_err(|error| Report::failed("cannot print as JSON").because(error))?;
            super::print(&format!("{json}\n"));
        }
        super::Output::Text => super::print(&told(&things, remove)),
    }
    Ok(())
}

fn told(things: &[Thing], removed: bool) -> String {
    if things.is_empty() {
        return if removed { "nothing to remove\n" } else { "nothing of Bramble is in this machine's network\n" }.to_owned();
    }
    let line = |thing: &Thing| {
        let state = match (removed, thing.needed) {
            (true, _) => "removed",
            (false, true) => "needed",
            (false, false) => "left over",
        };
        format!("{state:<9}  {}: {}\n", thing.kind.word(), thing.name)
    };
    let mut text: String = things.iter().map(line).collect();
    if !removed && things.iter().any(|thing| !thing.needed) {
        text.push_str("what is left over belongs to no agent that runs here: bramble doctor network --remove\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::overlay::listing::Kind;

    #[test]
    fn what_is_left_over_is_told_with_the_way_to_remove_it() {
        let thing = |needed| Thing { kind: Kind::Link, name: "bvx-1".into(), of: None, needed };
        assert_eq!(told(&[thing(true)], false), "needed     link: bvx-1\n");
        let text = told(&[thing(false)], false);
        assert!(text.starts_with("left over  link: bvx-1\n") && text.ends_with("--remove\n"), "{text}");
        assert_eq!(told(&[], true), "nothing to remove\n");
    }
}
