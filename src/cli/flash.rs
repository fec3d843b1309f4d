//! `bramble flash`: puts a node into a Raspberry Pi OS image, or onto a card.
//!
//! The arguments, and which way they lead: what they name is read in `inputs.rs`; an image is looked at, unpacked and copied in `image.rs`; the
//! node is put onto it, or onto a card, in `card.rs`.

mod card;
mod image;
mod inputs;
mod meter;

use std::path::{Path, PathBuf};

use crate::error::Report;
use crate::flash::disk::{self, Kind, Packing};
use crate::flash::settings::{Settings, Typed};
use card::Target;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A Raspberry Pi OS image (.img, .img.xz, .img.gz), a card (/dev/…), or the folder where a card's boot partition is mounted
    #[arg(value_name = "IMAGE|DEVICE|DIR")]
    target: PathBuf,
    // The braces stand in the value's name: in a help text clap makes a line break of them.
    /// Leaves the image as it is and writes to this file or card; with --count the number goes where the braces are
    #[arg(short, long, value_name = "FILE|DEVICE|FILE-{n}")]
    output: Option<PathBuf>,
    /// The node's name, and its host's; with --count the number goes where the braces are
    #[arg(long, value_name = "NAME|NAME-{n}")]
    name: String,
    /// How many images are written, numbered from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: Option<u16>,
    /// The agent's program for the Pi [default: this one, if it is]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Who may log in
    #[arg(long)]
    user: Option<String>,
    /// Their public key, like ~/.ssh/id_ed25519.pub; turns the SSH server on
    #[arg(long = "ssh-key", value_name = "FILE")]
    ssh_keys: Vec<PathBuf>,
    /// Their password's hash, as `openssl passwd -6` prints it
    #[arg(long, value_name = "HASH")]
    password_hash: Option<String>,
    /// The Wi-Fi's name
    #[arg(long, value_name = "SSID")]
    wifi: Option<String>,
    /// The file with its passphrase; `-` for standard input
    #[arg(long, value_name = "FILE")]
    wifi_passphrase_file: Option<PathBuf>,
    /// The country where the Pi stands, like DE
    #[arg(long, value_name = "XX")]
    wifi_country: Option<String>,
    /// The master's API; without, the Pi looks for it by mDNS
    #[arg(long, value_name = "URL")]
    master: Option<String>,
    /// The token with which it joins (`bramble token create`); without, a person lets it in
    #[arg(long)]
    token: Option<String>,
    /// The folder that `bramble node add` made: the node is in from its first start
    #[arg(long, value_name = "DIR", conflicts_with = "count")]
    node_dir: Option<PathBuf>,
    /// More of the agent's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Adds the node to this machine's master: as --node-dir with a folder of its own
    #[cfg(feature = "master")]
    #[arg(long, conflicts_with_all = ["node_dir", "token", "master"])]
    add: bool,
    /// With --add: the master's data directory
    #[cfg(feature = "master")]
    #[arg(long, value_name = "DIR", requires = "add")]
    data_dir: Option<PathBuf>,
    /// Writes to a card without asking
    #[arg(long)]
    yes: bool,
}

/// What one run does.
struct Work {
    args: Args,
    /// For --add, which is the master's.
    #[cfg_attr(not(feature = "master"), allow(dead_code))]
    typed: Typed,
    agent: Vec<u8>,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let numbers: Vec<Option<u16>> = args.count.map_or(vec![None], |count| (1..=count).map(Some).collect());
    if args.count.is_some() {
        let numbered = |text: &str| text.contains("{n}");
        if !numbered(&args.name) || !args.output.as_ref().is_some_and(|output| numbered(&output.to_string_lossy())) {
            return Err(Report::usage("--count writes several images, and each needs a name of its own")
                .fix("say where the number goes: --name shed-{n} --output shed-{n}.img"));
        }
    }
    let (agent, typed) = (inputs::agent(&args)?, inputs::typed(&args)?);
    // All of them before anything is written.
    let settings: Vec<Settings> = numbers
        .iter()
        .map(|number| Typed { name: numbered(&args.name, *number), ..typed.clone() }.check().map_err(faults))
        .collect::<Result<_, _>>()?;
    for one in &settings {
        inputs::taken_by_the_agent(one)?;
    }
    let work = Work { args, typed, agent };
    let args = &work.args;
    let kind = disk::kind(&args.target).map_err(|error| cannot("read", &args.target, error))?;
    let Some(output) = &args.output else {
        let target = match kind {
            Kind::Folder => Target::Folder(args.target.clone()),
            Kind::Device(name) => {
                card::free_device(args, &name, None)?;
                Target::Disk { path: args.target.clone(), device: true }
            }
            Kind::File(Packing::None) => Target::Disk { path: args.target.clone(), device: false },
            Kind::File(packing) => return Err(image::packed(packing, &args.target)),
        };
        let only = settings.first().ok_or_else(Report::told)?;
        return card::onto(&work, &target, only);
    };
    let Kind::File(packing) = kind else {
        return Err(Report::usage(format!("{} is no image file: it cannot be copied to --output", args.target.display()))
            .fix("leave --output out to put the node onto it, or name an image"));
    };
    if matches!(packing, Packing::Other { .. }) {
        return Err(image::packed(packing, &args.target));
    }
    let jobs: Vec<(PathBuf, &Settings)> =
        numbers.iter().map(|number| PathBuf::from(numbered(&output.to_string_lossy(), *number))).zip(&settings).collect();
    image::from_image(&work, packing, &jobs)
}

fn numbered(text: &str, number: Option<u16>) -> String {
    number.map_or(text.to_owned(), |number| text.replace("{n}", &number.to_string()))
}

fn cannot(verb: &str, path: &Path, error: std::io::Error) -> Report {
    let report = Report::failed(format!("cannot {verb} {}", path.display()));
    let report = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            report.fix("a card is written by root: sudo bramble flash …; or give yourself the right to the file")
        }
        std::io::ErrorKind::StorageFull => report.fix("make room there, or write elsewhere"),
        std::io::ErrorKind::ResourceBusy => report.fix("something on this machine uses it: unmount it first"),
        _ => report,
    };
    report.because(error)
}

fn faults(faults: Vec<String>) -> Report {
    let count = faults.len();
    Report::usage(if count == 1 { "the node cannot be so".to_owned() } else { format!("the node cannot be so: {count} faults") })
        .because(faults.join("\n"))
}

fn say(text: &str) {
    super::print(text);
}
