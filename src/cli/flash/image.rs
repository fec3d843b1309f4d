//! Images: what they are packed in, whether one can be used, and copies of it that get a node each.

use std::path::{Path, PathBuf};

use super::card::{self, Target};
use super::meter::Meter;
use super::{Work, cannot, say};
use crate::error::Report;
use crate::flash::disk::{self, Kind, Packing};
use crate::flash::overlay::Disk;
use crate::flash::partition::{self, Partition, TableError};
use crate::flash::plan::{self, Contents, Refusal};
use crate::flash::program::Machine;
use crate::flash::settings::Settings;
use crate::flash::volume::Volume;

/// Why an image that is packed cannot be changed in its place, or at all.
pub(super) fn packed(packing: Packing, path: &Path) -> Report {
    match packing {
        Packing::Other { format, tool } => Report::usage(format!("{} is not unpacked here", path.display()))
            .because(format!("it is {format}"))
            .fix(format!("unpack it first, with `{tool} {}`, and give the image that comes out of it", quoted(path))),
        _ => {
            let ending =
                path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("xz") || ending.eq_ignore_ascii_case("gz"));
            let mut image = path.with_extension("");
            if !ending {
                image = path.to_path_buf();
                image.as_mut_os_string().push(".img");
            }
            Report::usage(format!("{} is packed", path.display()))
                .fix(format!("say where the card's image goes: --output {}", quoted(&image)))
        }
    }
}

/// A path as a shell takes it, in a command to be copied; one that begins as an option does not.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = if text.starts_with('-') { format!("./{text}") } else { text.into_owned() };
    crate::terminal::quoted(&text)
}

/// Copies or unpacks the image for each node, and puts the node in.
pub(super) fn from_image(work: &Work, packing: Packing, jobs: &[(PathBuf, &Settings)]) -> Result<(), Report> {
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
    for (path, _) in jobs {
        can_be_made(path)?;
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
            unpack(source, packing, &base)?;
        }
        let length = check(&base, source, &work.agent)?;
        for (path, settings) in jobs {
            match &device {
                Some(name) => to_device(work, &base, length, (path, name), settings)?,
                None => to_file(work, &base, path, settings)?,
            }
        }
        Ok(())
    })();
    if packing != Packing::None {
        // It has nothing of the node in it: one that stays costs room, and the next time is written over.
        let _ = std::fs::remove_file(&unpacked);
    }
    result
}

/// Whether a file or card could be written by this name, before anything is copied.
fn can_be_made(path: &Path) -> Result<(), Report> {
    let name = path.display();
    if disk::below_dev(path) {
        return Err(Report::usage(format!("--output {name}: there is no such card"))
            .because("what is below /dev and is no device would be a file in this machine's memory")
            .fix("see with `lsblk` what the card is called, and whether it is put in; or name a file elsewhere"));
    }
    if path.to_string_lossy().ends_with('/') {
        return Err(Report::usage(format!("--output {name} is a folder")).fix("name a file in it, or a card (/dev/…)"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    Err(Report::usage(format!("--output {name}: there is no folder {}", folder.display())).fix("make it, or write elsewhere"))
}

/// Unpacks an image that is packed.
fn unpack(source: &Path, packing: Packing, to: &Path) -> Result<(), Report> {
    let mut meter = Meter::new("unpacks");
    disk::unpack(source, packing, to, &mut |done, all| meter.at(done, all)).map_err(|error| {
        let broken = matches!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput
        );
        let report = cannot("unpack", source, error);
        if broken { report.fix("it is cut short or damaged: fetch it again, and compare its checksum") } else { report }
    })?;
    meter.end();
    Ok(())
}

/// Writes an image of so many bytes to a card, and puts the node in.
fn to_device(work: &Work, base: &Path, length: u64, (card, name): (&Path, &str), settings: &Settings) -> Result<(), Report> {
    let held = card::free_device(&work.args, name, Some(length))?;
    say(&format!("{} → {}\n", work.args.target.display(), held.title()));
    let mut from = disk::open(base).map_err(|error| cannot("read", base, error))?;
    let mut to = disk::open_to_write(card, true).map_err(|error| cannot("write", card, error))?;
    let mut meter = Meter::new("writes");
    disk::copy(&mut from, &mut to, length, &mut |done, all| meter.at(done, all)).map_err(|error| {
        cannot("write", card, error).fix("the card holds no image now: run this again, with another card if it fails again")
    })?;
    meter.end();
    drop(to);
    card::onto(work, &Target::Disk { path: card.to_path_buf(), device: true }, settings)
}

/// Copies an image to a file, and puts the node in.
fn to_file(work: &Work, base: &Path, path: &Path, settings: &Settings) -> Result<(), Report> {
    let part = beside(path, "part");
    let made = (|| {
        let mut meter = Meter::new("copies");
        disk::unpack(base, Packing::None, &part, &mut |done, all| meter.at(done, all))
            .map_err(|error| cannot("write", path, error))?;
        meter.end();
        card::onto(work, &Target::New { path: part.clone(), name: path.to_path_buf() }, settings)
    })();
    if made.is_err() {
        // It was ours, and half an image is nobody's use.
        let _ = std::fs::remove_file(&part);
    }
    made?;
    say(&format!("{} is node {}'s card\n", path.display(), settings.name));
    Ok(())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{ending}"))
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

/// Opens the boot partition of an image or card; `named`: what a person calls it.
pub(super) fn boot_partition<D: Disk>(disk: &mut D, named: &Path) -> Result<(Partition, u64), Report> {
    let (sector, total) = disk::first_sector(disk).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => unusable(named, "it is shorter than one sector"),
        _ => cannot("read", named, error),
    })?;
    let table = partition::read(&sector, total).map_err(|error| {
        let fix = match error {
            TableError::CutShort { .. } => "fetch or copy it again, and compare its checksum",
            TableError::OnePartition => "name the whole card or image, or mount the partition and name that folder",
            TableError::Gpt => "take an image of Raspberry Pi OS as its makers offer it (.img.xz): this is another system's, or was made over. On another system the agent is set up by hand (docs/installing.md)",
            _ => "take an image of Raspberry Pi OS; a card that was written half way is written anew: bramble flash IMAGE --output DEVICE",
        };
        unusable(named, error).fix(fix)
    })?;
    let boot = partition::boot(&table).ok_or_else(|| unusable(named, "it has no FAT32 partition to boot from"))?;
    if !partition::has_system(&table) {
        return Err(unusable(named, "it has no Linux partition beside the one that it boots from: there is no system on it"));
    }
    Ok((boot, total))
}

fn contents(disk: &mut std::fs::File, boot: &Partition, named: &Path) -> Result<Contents, Report> {
    Volume::open(disk, boot).and_then(|mut volume| volume.contents()).map_err(|error| unusable(named, error))
}

pub(super) fn unusable(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Report {
    Report::failed(format!("{} cannot be used; nothing was written", path.display()))
        .because(why)
        .fix("take an image of Raspberry Pi OS")
}

pub(super) fn refused(named: &Path, refusal: &Refusal) -> Report {
    let fix = match refusal {
        Refusal::NotPi { .. } => "take an image of Raspberry Pi OS".to_owned(),
        Refusal::Machine { image, .. } => format!("give the agent for it: --agent \"$(cross/build.sh {})\"", image.board()),
        Refusal::CommandLine(_) => {
            "take a fresh image of Raspberry Pi OS, not set up by another tool; or start the card once, so that what waits on it is done".to_owned()
        }
        Refusal::InTheWay { name, .. } | Refusal::Strange { name } => {
            format!("move {name} away from the boot partition if somebody needs it, or remove it; or take a fresh image")
        }
        Refusal::Full { .. } => "remove from it what is not needed, or take a fresh image".to_owned(),
    };
    Report { fix: Some(fix), ..unusable(named, refusal.to_string()) }
}
