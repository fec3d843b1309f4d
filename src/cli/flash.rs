//! `bramble flash`: puts a node into a Raspberry Pi OS image, or onto a card.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Report;
use crate::flash::device::Device;
use crate::flash::disk::{self, Kind, Packing};
use crate::flash::overlay::Disk;
use crate::flash::partition::{self, Partition, TableError};
use crate::flash::plan::{self, Contents, Plan, Refusal};
use crate::flash::program::Machine;
use crate::flash::settings::{NodeFiles, Settings, Typed};
use crate::flash::volume::{Volume, VolumeError};
use crate::rng::Rng;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A Raspberry Pi OS image (.img, .img.xz, .img.gz), a card (/dev/…), or the folder where a card's boot partition is mounted
    #[arg(value_name = "IMAGE|DEVICE|DIR")]
    target: PathBuf,
    // clap takes the placeholder in a help text for a line break, and in the name of a value for what it is.
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

/// What is written to.
enum Target {
    Folder(PathBuf),
    /// A file, or a device that was found to be free.
    Disk {
        path: PathBuf,
        device: bool,
    },
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
    let (agent, typed) = (agent(&args)?, typed(&args)?);
    // All of them before anything is written.
    let settings: Vec<Settings> = numbers
        .iter()
        .map(|number| Typed { name: numbered(&args.name, *number), ..typed.clone() }.check().map_err(faults))
        .collect::<Result<_, _>>()?;
    for one in &settings {
        taken_by_the_agent(one)?;
    }
    let work = Work { args, typed, agent };
    let args = &work.args;
    let kind = disk::kind(&args.target).map_err(|error| cannot("read", &args.target, error))?;
    let Some(output) = &args.output else {
        let target = match kind {
            Kind::Folder => Target::Folder(args.target.clone()),
            Kind::Device(name) => {
                free_device(args, &name, None)?;
                Target::Disk { path: args.target.clone(), device: true }
            }
            Kind::File(Packing::None) => Target::Disk { path: args.target.clone(), device: false },
            Kind::File(packing) => {
                let unpacked = args.target.with_extension("");
                return Err(Report::usage(format!("{} is packed", args.target.display())).fix(unpack_first(
                    packing,
                    &args.target,
                    &format!("say where the card's image goes: --output {}", unpacked.display()),
                )));
            }
        };
        let only = settings.first().ok_or_else(Report::told)?;
        return onto(&work, &target, only);
    };
    let Kind::File(packing) = kind else {
        return Err(Report::usage(format!("{} is no image file: it cannot be copied to --output", args.target.display()))
            .fix("leave --output out to put the node onto it, or name an image"));
    };
    if let Packing::Other(_) = packing {
        return Err(Report::usage(format!("{} is packed in another way", args.target.display())).fix(unpack_first(
            packing,
            &args.target,
            "",
        )));
    }
    let jobs: Vec<(PathBuf, &Settings)> =
        numbers.iter().map(|number| PathBuf::from(numbered(&output.to_string_lossy(), *number))).zip(&settings).collect();
    from_image(&work, packing, &jobs)
}

fn unpack_first(packing: Packing, path: &Path, else_: &str) -> String {
    match packing {
        Packing::Other(tool) => format!("unpack it first: {tool} {}", path.display()),
        _ => else_.to_owned(),
    }
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

fn text(path: &Path) -> Result<String, Report> {
    std::fs::read_to_string(path).map_err(|error| cannot("read", path, error))
}

fn typed(args: &Args) -> Result<Typed, Report> {
    let passphrase = match &args.wifi_passphrase_file {
        Some(path) if path == Path::new("-") => {
            let mut line = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut line)
                .map_err(|error| Report::failed("cannot read the passphrase").because(error))?;
            Some(line)
        }
        Some(path) => Some(text(path)?),
        None => None,
    };
    Ok(Typed {
        name: String::new(),
        user: args.user.clone(),
        keys: args.ssh_keys.iter().map(|path| text(path)).collect::<Result<_, _>>()?,
        password_hash: args.password_hash.clone(),
        ssid: args.wifi.clone(),
        passphrase: passphrase.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()),
        country: args.wifi_country.clone(),
        master: args.master.clone(),
        token: args.token.clone(),
        config: config(args)?,
        node: args.node_dir.as_deref().map(node_folder).transpose()?,
    })
}

/// The text of --config, if the agent would take it with the flags.
fn config(args: &Args) -> Result<String, Report> {
    #[cfg(feature = "agent")]
    {
        use crate::config::{FileMay, Flag};
        let flag = |name, key, value: &Option<String>| Flag { name, key, value: value.clone() };
        let flags = [
            flag("--name", "node", &Some("x".to_owned())),
            flag("--master", "join.master", &args.master),
            flag("--token", "join.token", &args.token),
        ];
        // The node folder's has a master of its own.
        let folder = args.node_dir.as_ref().map(|dir| dir.join("agent.toml")).filter(|path| path.exists());
        for path in [args.config.as_ref(), folder.as_ref()] {
            let file = path.map(|path| (path.as_path(), FileMay::NotBeMissing));
            crate::agent::config::AgentConfig::load(file, [], &flags)?;
        }
    }
    args.config.as_deref().map_or(Ok(String::new()), text)
}

/// Whether the agent takes what was put together of several files: each may be right, and they may not fit.
fn taken_by_the_agent(settings: &Settings) -> Result<(), Report> {
    #[cfg(feature = "agent")]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = std::env::temp_dir().join(format!("bramble-{}.toml", Rng::from_os("configuration").name_suffix(16)));
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = written.and_then(|mut file| file.write_all(settings.agent_toml.as_bytes()));
        let file = Some((path.as_path(), crate::config::FileMay::NotBeMissing));
        let loaded = written.map(|()| crate::agent::config::AgentConfig::load(file, [], &[]));
        // It was never made, or it is the owner's alone, among temporary files: what was found counts.
        let _ = std::fs::remove_file(&path);
        if let Err(wrong) = loaded.map_err(|error| cannot("write", &path, error))? {
            return Err(faults(vec![format!("the agent would not take its configuration:\n{wrong}")]));
        }
    }
    // Without the agent nobody here knows what it takes; its node says so then.
    #[cfg(not(feature = "agent"))]
    let _ = settings;
    Ok(())
}

/// What `bramble node add` made: the text of `agent.toml`, and the agent's own files.
fn node_folder(dir: &Path) -> Result<(String, NodeFiles), Report> {
    let made = |report: Report| report.fix("--node-dir is the folder that `bramble node add NAME -o DIR` made");
    let files = ["join.json", "pki/ca.crt", "pki/node.crt", "pki/node.key"].map(|name| {
        let path = dir.join("bramble-agent").join(name);
        std::fs::read(&path).map(|bytes| (name.to_owned(), bytes)).map_err(|error| made(cannot("read", &path, error)))
    });
    Ok((text(&dir.join("agent.toml")).map_err(made)?, files.into_iter().collect::<Result<_, _>>()?))
}

fn agent(args: &Args) -> Result<Vec<u8>, Report> {
    let path = match &args.agent {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|error| Report::failed("cannot find this program's file").because(error))?,
    };
    let program = std::fs::read(&path).map_err(|error| cannot("read", &path, error))?;
    match Machine::of(&program) {
        Machine::Aarch64 | Machine::Arm => Ok(program),
        other => {
            let what = if args.agent.is_some() {
                format!("{} is no program for a Raspberry Pi", path.display())
            } else {
                "this program does not run on a Raspberry Pi".to_owned()
            };
            let how = "build the agent with `cross/build.sh rpi-4b` (64 bits) or `cross/build.sh rpi-zero-w` (32 bits), and give what it prints: --agent FILE";
            Err(Report::usage(what).because(format!("it is {other}")).fix(how))
        }
    }
}

/// Copies or unpacks the image for each node, and puts the node in.
fn from_image(work: &Work, packing: Packing, jobs: &[(PathBuf, &Settings)]) -> Result<(), Report> {
    let args = &work.args;
    let source = &args.target;
    let one = jobs.first().map(|(path, _)| path.clone()).unwrap_or_default();
    let device = match disk::kind(&one) {
        Ok(Kind::Device(name)) => Some(name),
        Ok(Kind::Folder) => {
            return Err(Report::usage(format!("--output {} is a folder", one.display())).fix("name a file, or a card (/dev/…)"));
        }
        _ => None,
    };
    let is_device = |path: &Path| matches!(disk::kind(path), Ok(Kind::Device(_)));
    if let Some((card, _)) = jobs.iter().find(|(path, _)| args.count.is_some() && is_device(path)) {
        return Err(Report::usage(format!("--count writes image files, and {} is a card", card.display()))
            .fix("write one card at a time, without --count; or name files, and write each to a card"));
    }
    for (path, _) in jobs.iter().filter(|_| device.is_none()) {
        if path.exists() {
            return Err(Report::usage(format!("{} is there already", path.display())).fix("name another file, or remove it"));
        }
    }
    // A packed image is checked when it is unpacked.
    let unpacked = beside(if device.is_some() { source } else { &one }, "unpacked");
    let base = if packing == Packing::None { source.clone() } else { unpacked.clone() };
    let result = (|| {
        if packing != Packing::None {
            let mut meter = Meter::new("unpacks");
            disk::unpack(source, packing, &base, &mut |done, all| meter.at(done, all)).map_err(|error| {
                let broken = matches!(
                    error.kind(),
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput
                );
                let report = cannot("unpack", source, error);
                if broken { report.fix("it is cut short or damaged: fetch it again, and compare its checksum") } else { report }
            })?;
            meter.end();
        }
        let length = check(&base, source, &work.agent)?;
        if let Some(name) = &device {
            let held = free_device(args, name, Some(length))?;
            say(&format!("{} → {}\n", source.display(), held.title()));
            let mut from = disk::open(&base).map_err(|error| cannot("read", &base, error))?;
            let mut to = disk::open_to_write(&one, true).map_err(|error| cannot("write", &one, error))?;
            let mut meter = Meter::new("writes");
            disk::copy(&mut from, &mut to, length, &mut |done, all| meter.at(done, all)).map_err(|error| {
                cannot("write", &one, error)
                    .fix("the card holds no image now: run this again, with another card if it fails again")
            })?;
            meter.end();
            drop(to);
            let Some((_, settings)) = jobs.first() else { return Ok(()) };
            return onto(work, &Target::Disk { path: one.clone(), device: true }, settings);
        }
        for (path, settings) in jobs {
            let part = beside(path, "part");
            let made = (|| {
                let mut meter = Meter::new("copies");
                disk::unpack(&base, Packing::None, &part, &mut |done, all| meter.at(done, all))
                    .map_err(|error| cannot("write", &part, error))?;
                meter.end();
                onto(work, &Target::Disk { path: part.clone(), device: false }, settings)?;
                std::fs::rename(&part, path).map_err(|error| cannot("write", path, error))
            })();
            if made.is_err() {
                // It was ours, and half an image is nobody's use.
                let _ = std::fs::remove_file(&part);
            }
            made?;
            say(&format!("{} is node {}'s card\n", path.display(), settings.name));
        }
        Ok(())
    })();
    if packing != Packing::None {
        let _ = std::fs::remove_file(&unpacked);
    }
    result
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{ending}"))
}

/// Whether a device may be written; asks a person.
fn free_device(args: &Args, name: &str, wanted: Option<u64>) -> Result<Device, Report> {
    let root = Path::new("/");
    let unknown = |error| cannot("look at", Path::new(&format!("/dev/{name}")), error);
    let Some(device) = disk::device(root, name).map_err(unknown)? else {
        return Err(Report::usage(format!("/dev/{name} is a partition")).fix("name the whole card, as `lsblk` shows it"));
    };
    if let Some(why) = disk::in_use(root, &device).map_err(unknown)? {
        return Err(Report::failed(format!("/dev/{name} is in use by this machine, and is not written"))
            .because(why)
            .fix("is it the right one (`lsblk`)? If it is: unmount it (`umount`), and run this again; or give the folder where it is mounted"));
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted > device.bytes) {
        return Err(Report::failed(format!("/dev/{name} is too small"))
            .because(format!("it has {} bytes, and the image {wanted}", device.bytes))
            .fix("take a larger card"));
    }
    if args.yes {
        return Ok(device);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Report::usage(format!("writing to /dev/{name} needs a yes"))
            .because(device.title())
            .fix("add --yes if it is the right one"));
    }
    let loses = if wanted.is_some() { "ALL that is on it is lost" } else { "its boot partition is changed" };
    say(&format!("{}: {loses}. Type {name} to go on: ", device.title()));
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if answer.trim() == name { Ok(device) } else { Err(Report::failed("nothing was written")) }
}

/// Opens the boot partition of an image or card; `named`: what a person calls it.
fn boot_partition<D: Disk>(disk: &mut D, named: &Path) -> Result<(Partition, u64), Report> {
    let (sector, total) = disk::first_sector(disk).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => unusable(named, "it is shorter than one sector"),
        _ => cannot("read", named, error),
    })?;
    let table = partition::read(&sector, total).map_err(|error| {
        let fix = match error {
            TableError::CutShort { .. } => "fetch or copy it again, and compare its checksum",
            TableError::OnePartition => "name the whole card or image, or mount the partition and name that folder",
            _ => "take an image of Raspberry Pi OS; a card that was written half way is written anew: bramble flash IMAGE --output DEVICE",
        };
        unusable(named, error).fix(fix)
    })?;
    let boot = partition::boot(&table).ok_or_else(|| unusable(named, "it has no FAT32 partition to boot from"))?;
    Ok((boot, total))
}

fn unusable(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Report {
    Report::failed(format!("{} cannot be used; nothing was written", path.display()))
        .because(why)
        .fix("take an image of Raspberry Pi OS")
}

/// Whether an image is one, before it is copied anywhere; its length in bytes.
fn check(path: &Path, named: &Path, agent: &[u8]) -> Result<u64, Report> {
    let mut file = disk::open(path).map_err(|error| cannot("read", path, error))?;
    let (boot, total) = boot_partition(&mut file, named)?;
    let contents = contents(&mut file, &boot, named)?;
    let image = plan::image(&contents).map_err(|refusal| refused(named, &refusal))?;
    let machine = Machine::of(agent);
    if machine != image.machine {
        return Err(refused(named, &Refusal::Machine { image: image.machine, agent: machine }));
    }
    Ok(total)
}

fn contents(disk: &mut std::fs::File, boot: &Partition, named: &Path) -> Result<Contents, Report> {
    Volume::open(disk, boot).and_then(|mut volume| volume.contents()).map_err(|error| unusable(named, error))
}

fn refused(named: &Path, refusal: &Refusal) -> Report {
    let fix = match refusal {
        Refusal::NotPi { .. } => "take an image of Raspberry Pi OS".to_owned(),
        Refusal::Machine { image, .. } => format!("give the agent for it: --agent \"$(cross/build.sh {})\"", image.board()),
        Refusal::CommandLine(_) => {
            "take a fresh image of Raspberry Pi OS, not set up by another tool; or start the card once, so that what waits on it is done".to_owned()
        }
        Refusal::Full { .. } => "remove from it what is not needed, or take a fresh image".to_owned(),
    };
    Report { fix: Some(fix), ..unusable(named, refusal.to_string()) }
}

/// Puts a node onto what is there.
fn onto(work: &Work, target: &Target, settings: &Settings) -> Result<(), Report> {
    let instance = format!("bramble-{}", Rng::from_os("instance").name_suffix(16));
    match target {
        Target::Folder(folder) => {
            let contents = disk::folder_contents(folder).map_err(|error| cannot("read", folder, error))?;
            let (plan, kept) = planned(work, &contents, folder, settings, &instance)?;
            disk::folder_apply(folder, &plan).map_err(|error| {
                kept.told(cannot("write", folder, error).fix("run this again; the card starts as before until it is done"))
            })?;
            kept.done();
            finished(folder, settings, &contents, &plan);
        }
        Target::Disk { path, device } => {
            if let Some(name) = Some(path).filter(|_| !device).and_then(|path| disk::shown_by(Path::new("/"), path)) {
                return Err(Report::failed(format!("{} is in use by this machine, and is not written", path.display()))
                    .because(format!("/dev/{name} shows it"))
                    .fix(format!("unmount it, and `losetup -d /dev/{name}`")));
            }
            let mut file = disk::open_to_write(path, *device).map_err(|error| cannot("write", path, error))?;
            let (boot, _) = boot_partition(&mut file, path)?;
            let mut volume = Volume::open(&mut file, &boot).map_err(|error| unusable(path, error))?;
            let contents = volume.contents().map_err(|error| unusable(path, error))?;
            if contents.unfinished {
                say("somebody stopped half way through writing it: it is mended\n");
            }
            let (plan, kept) = planned(work, &contents, path, settings, &instance)?;
            let mut meter = Meter::new("puts the node in");
            let written = volume.apply(&plan, &mut |done, all| meter.at(done, all));
            written.map_err(|error| kept.told(not_written(path, error)))?;
            meter.end();
            kept.done();
            finished(path, settings, &contents, &plan);
        }
    }
    Ok(())
}

fn not_written(path: &Path, error: VolumeError) -> Report {
    let report = match error {
        VolumeError::Prepare(_) => return unusable(path, error),
        other => Report::failed(format!("the node is not on {}", path.display())).because(other),
    };
    report.fix("run this again: it goes on from what is there. If it fails again, take another card")
}

fn finished(path: &Path, settings: &Settings, contents: &Contents, plan: &Plan) {
    let replaced = contents.names.iter().any(|name| name.eq_ignore_ascii_case("bramble"));
    let again = if replaced { ", in place of what was there" } else { "" };
    let joins = if plan.files.iter().any(|file| file.path.ends_with("/node.crt")) {
        "it is in the cluster from its first start"
    } else if settings.agent_toml.contains("token") {
        "it joins by its token"
    } else {
        "it waits for a person to let it in: bramble node list"
    };
    say(&format!("node {} is on {}{again}; {joins}\n", settings.name, path.display()));
}

/// What is written, and with --add the node that was added for it.
fn planned(work: &Work, contents: &Contents, named: &Path, settings: &Settings, instance: &str) -> Result<(Plan, Kept), Report> {
    let image = plan::image(contents).map_err(|refusal| refused(named, &refusal))?;
    let plan = |settings: &Settings| {
        plan::plan(image, contents, settings, &work.agent, instance).map_err(|refusal| refused(named, &refusal))
    };
    let without = plan(settings)?;
    #[cfg(feature = "master")]
    if work.args.add {
        // Now that nothing else is in its way. The folder outlives a failure: the node is in the cluster then.
        let dir = std::env::temp_dir().join(format!("{instance}-{}", settings.name));
        super::node::make(work.args.data_dir.clone(), &settings.name, &dir)?;
        // Before anything is written: whoever stops this now finds the certificate there.
        say(&format!(
            "node {} is in the cluster; until it is on the card its certificate lies in {}\n",
            settings.name,
            dir.display()
        ));
        let kept = Kept(Some(dir.clone()));
        let with_node = || {
            let typed = Typed { name: settings.name.clone(), node: Some(node_folder(&dir)?), ..work.typed.clone() };
            plan(&typed.check().map_err(faults)?)
        };
        let with_node = with_node().map_err(|report| kept.told(report))?;
        return Ok((with_node, kept));
    }
    Ok((without, Kept(None)))
}

/// The folder with the certificate of a node that was added.
struct Kept(Option<PathBuf>);

impl Kept {
    fn done(self) {
        if let Some(dir) = self.0 {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    fn told(&self, report: Report) -> Report {
        match &self.0 {
            Some(dir) => report.fix(format!(
                "the node is in the cluster already: run this again with --node-dir {} in place of --add",
                dir.display()
            )),
            None => report,
        }
    }
}

fn say(text: &str) {
    super::print(text);
}

/// How far it is: one line that moves on a terminal, else a line each quarter.
struct Meter {
    what: &'static str,
    terminal: bool,
    shown: u64,
}

impl Meter {
    fn new(what: &'static str) -> Self {
        Self { what, terminal: std::io::stdout().is_terminal(), shown: 0 }
    }

    fn at(&mut self, done: u64, all: u64) {
        let percent = (done * 100).checked_div(all).unwrap_or(100).min(100);
        let step = if self.terminal { 1 } else { 25 };
        if percent / step <= self.shown / step && self.shown > 0 {
            return;
        }
        self.shown = percent.max(1);
        let mib = |bytes: u64| bytes >> 20;
        let text = format!("{}: {} of {} MiB, {percent} %", self.what, mib(done), mib(all));
        say(&if self.terminal { format!("\r\x1b[2K{text}") } else { format!("{text}\n") });
        let _ = std::io::stdout().flush();
    }

    fn end(&self) {
        if self.terminal {
            say("\r\x1b[2K");
        }
    }
}
