//! Puts a node onto what is there: a card, an image file, or a boot partition that is mounted.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::image::{boot_partition, refused, unusable};
use super::meter::Meter;
use super::{Args, Work, cannot, say};
use crate::error::Report;
use crate::flash::device::Device;
use crate::flash::disk;
use crate::flash::plan::{self, Contents, Plan};
use crate::flash::settings::Settings;
use crate::flash::volume::{Volume, VolumeError};
use crate::rng::Rng;

/// What is written to.
pub(super) enum Target {
    Folder(PathBuf),
    /// A file, or a device that was found to be free.
    Disk {
        path: PathBuf,
        device: bool,
    },
    /// A new file, and the name that it gets when the node is on it.
    New {
        path: PathBuf,
        name: PathBuf,
    },
}

/// Whether a device may be written; asks a person.
pub(super) fn free_device(args: &Args, name: &str, wanted: Option<u64>) -> Result<Device, Report> {
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
    // With nobody who reads or answers, the answer is empty: nothing is written.
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if answer.trim() == name { Ok(device) } else { Err(Report::failed("nothing was written")) }
}

/// Puts a node onto what is there.
pub(super) fn onto(work: &Work, target: &Target, settings: &Settings) -> Result<(), Report> {
    let instance = format!("bramble-{}", Rng::from_os("instance").name_suffix(16));
    match target {
        Target::Folder(folder) => {
            let why = disk::folder_in_use(Path::new("/"), folder).map_err(|error| cannot("look at", folder, error))?;
            if let Some(why) = why {
                return Err(Report::failed(format!("{} is in use by this machine, and is not written", folder.display()))
                    .because(why)
                    .fix("name the folder where the other card is mounted (`findmnt`)"));
            }
            let contents = disk::folder_contents(folder).map_err(|error| cannot("read", folder, error))?;
            let (plan, kept) = planned(work, &contents, folder, settings, &instance)?;
            disk::folder_apply(folder, &plan).map_err(|error| {
                kept.told(cannot("write", folder, error).fix("run this again; the card starts as before until it is done"))
            })?;
            kept.done();
            finished(folder, settings, &contents, &plan);
        }
        Target::Disk { path, .. } | Target::New { path, .. } => {
            let (device, new_name) = match target {
                Target::Disk { device, .. } => (*device, None),
                Target::New { name, .. } => (false, Some(name)),
                Target::Folder(_) => (false, None),
            };
            // What a person calls it.
            let named = new_name.unwrap_or(path);
            if let Some(name) = Some(path).filter(|_| !device).and_then(|path| disk::shown_by(Path::new("/"), path)) {
                return Err(Report::failed(format!("{} is in use by this machine, and is not written", path.display()))
                    .because(format!("/dev/{name} shows it"))
                    .fix(format!("unmount it, and `losetup -d /dev/{name}`")));
            }
            let mut file = disk::open_to_write(path, device).map_err(|error| cannot("write", path, error))?;
            let (boot, _) = boot_partition(&mut file, named)?;
            let mut volume = Volume::open(&mut file, &boot).map_err(|error| unusable(named, error))?;
            let contents = volume.contents().map_err(|error| unusable(named, error))?;
            if contents.unfinished {
                say("somebody stopped half way through writing it: it is mended\n");
            }
            let (plan, kept) = planned(work, &contents, named, settings, &instance)?;
            let mut meter = Meter::new("puts the node in");
            let written = volume.apply(&plan, &mut |done, all| meter.at(done, all));
            written.map_err(|error| kept.told(not_written(named, error)))?;
            meter.end();
            if let Some(name) = new_name {
                disk::name(path, name).map_err(|error| kept.told(cannot("write", name, error)))?;
            }
            kept.done();
            finished(named, settings, &contents, &plan);
        }
    }
    Ok(())
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
        crate::cli::node::make(work.args.data_dir.clone(), &settings.name, &dir)?;
        // Before anything is written: whoever stops this now finds the certificate there.
        say(&format!(
            "node {} is in the cluster; until it is on the card its certificate lies in {}\n",
            settings.name,
            dir.display()
        ));
        let kept = Kept(Some(dir.clone()));
        let with_node = || {
            let mut typed = work.typed.clone();
            typed.name.clone_from(&settings.name);
            typed.node = Some(super::inputs::node_folder(&dir)?);
            plan(&typed.check().map_err(super::faults)?)
        };
        let with_node = with_node().map_err(|report| kept.told(report))?;
        return Ok((with_node, kept));
    }
    Ok((without, Kept(None)))
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

/// The folder with the certificate of a node that was added.
struct Kept(Option<PathBuf>);

impl Kept {
    fn done(self) {
        if let Some(dir) = self.0
            && let Err(error) = std::fs::remove_dir_all(&dir)
        {
            say(&format!("the node's key is on the card, and still in {} as well: remove it ({error})\n", dir.display()));
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
