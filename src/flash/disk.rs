//! Hands: image files, devices and folders of this machine.
//!
//! In:       paths.
//! Out:      what they are; bytes copied, unpacked, and written in an order that a cut does not harm.
//! Never:    writes a device without [`Device::in_use`] having nothing against it, and the kernel neither (`O_EXCL`); nor a folder that
//!           [`folder_in_use`] has anything against.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::device::{self, Device, Part};
use super::overlay::Disk;
use super::plan::{CMDLINE, Contents, Plan, READ, TEXT};

/// Copied at once, in bytes.
const BLOCK: usize = 1 << 20;

impl Disk for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder: a boot partition that is mounted.
    Folder,
    /// A file, by what it begins with.
    File(Packing),
    /// A block device, with its real name below /dev.
    Device(String),
}

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// As Raspberry Pi OS is offered.
    Xz,
    /// gzip.
    Gzip,
    /// In a way that is not read here.
    Other {
        /// What it is, for a person.
        format: &'static str,
        /// The command that unpacks it.
        tool: &'static str,
    },
}

/// Looks at a path.
///
/// # Errors
/// It is not there, or not readable.
pub fn kind(path: &Path) -> io::Result<Kind> {
    let held = fs::metadata(path)?;
    if held.is_dir() {
        return Ok(Kind::Folder);
    }
    if held.file_type().is_block_device() {
        let name = fs::canonicalize(path)?.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Kind::Device(name));
    }
    let mut begin = Vec::new();
    File::open(path)?.take(6).read_to_end(&mut begin)?;
    // Source: each format's description: its magic number.
    Ok(Kind::File(match begin.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Packing::Xz,
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Other { format: "packed by zstd", tool: "unzstd" },
        [b'P', b'K', 3, 4, ..] => Packing::Other { format: "a ZIP archive", tool: "unzip" },
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Other { format: "packed by bzip2", tool: "bunzip2 -k" },
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c] => Packing::Other { format: "a 7-Zip archive", tool: "7z x" },
        _ => Packing::None,
    }))
}

/// What this machine knows of a block device; `root` is `/`, in tests a folder with `proc` and `sys`. `None`: it is a partition.
///
/// # Errors
/// The kernel does not know it.
pub fn device(root: &Path, name: &str) -> io::Result<Option<Device>> {
    let folder = root.join("sys/class/block").join(name);
    if folder.join("partition").exists() {
        return Ok(None);
    }
    let text = |path: PathBuf| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let part = |folder: &Path, name: &str| -> io::Result<Part> {
        let held = fs::read_dir(folder.join("holders")).into_iter().flatten().flatten();
        let holders = held.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        Ok(Part { name: name.to_owned(), number: text(folder.join("dev"))?, holders })
    };
    let mut parts = vec![part(&folder, name)?];
    let entries: BTreeSet<PathBuf> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    for path in entries.iter().filter(|path| path.join("partition").exists()) {
        parts.push(part(path, &path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default())?);
    }
    let model = text(folder.join("device/model")).or_else(|_| text(folder.join("device/name"))).unwrap_or_default();
    // Source: sysfs: in sectors of 512, whatever the device's own are.
    let bytes = text(folder.join("size"))?.parse::<u64>().unwrap_or_default() * 512;
    Ok(Some(Device { parts, bytes, model, is_removable: text(folder.join("removable")).is_ok_and(|word| word == "1") }))
}

/// Why a device may not be written.
///
/// # Errors
/// /proc cannot be read.
pub fn in_use(root: &Path, device: &Device) -> io::Result<Option<String>> {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo"))?;
    Ok(device.in_use(&mounts, &fs::read_to_string(root.join("proc/swaps")).unwrap_or_default()))
}

/// Why a folder is not written: it is the running system's own boot partition, or on a disk of it. `root` as for [`device()`].
///
/// # Errors
/// The folder is not there, or /proc cannot be read.
pub fn folder_in_use(root: &Path, folder: &Path) -> io::Result<Option<String>> {
    let folder = fs::canonicalize(folder)?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo"))?;
    // Source: sysfs: a partition's folder lies in its disk's.
    let disk_of = |number: &str| {
        let place = fs::canonicalize(root.join("sys/dev/block").join(number)).ok()?;
        let disk = if place.join("partition").exists() { place.parent()? } else { &place };
        Some(disk.file_name()?.to_string_lossy().into_owned())
    };
    Ok(device::folder_in_use(&folder.to_string_lossy(), &mounts, &disk_of))
}

/// Whether a new file there would be no file on a disk: below /dev a name that is no device is a slip, and is held in memory.
#[must_use]
pub fn below_dev(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).or_else(|_| std::path::absolute(folder)).unwrap_or_else(|_| folder.to_path_buf());
    folder.starts_with("/dev") && !matches!(kind(path), Ok(Kind::Device(_)))
}

/// Gives a file that is done its name, for good.
///
/// # Errors
/// The system's.
pub fn name(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The loop device that shows an image file to this machine, if one does.
#[must_use]
pub fn shown_by(root: &Path, image: &Path) -> Option<String> {
    let image = fs::canonicalize(image).ok()?;
    let devices = fs::read_dir(root.join("sys/class/block")).ok()?;
    let backs = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("loop/backing_file")).is_ok_and(|file| Path::new(file.trim_end()) == image)
    };
    devices.flatten().find(backs).map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Opens for reading.
///
/// # Errors
/// The system's.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens for writing; a device only if nobody else has it.
///
/// # Errors
/// The system's; `ResourceBusy` for a device in use.
pub fn open_to_write(path: &Path, is_device: bool) -> io::Result<File> {
    // Source: open(2): without O_CREAT it asks the kernel whether the device is in use.
    let flags = if is_device { rustix::fs::OFlags::EXCL.bits() } else { 0 };
    OpenOptions::new().read(true).write(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path)
}

/// The first sector, and the length of all.
///
/// # Errors
/// The disk's; `UnexpectedEof` when it is shorter than a sector.
pub fn first_sector(disk: &mut impl Disk) -> io::Result<([u8; 512], u64)> {
    let total = disk.seek(SeekFrom::End(0))?;
    let mut sector = [0; 512];
    disk.rewind()?;
    disk.read_exact(&mut sector)?;
    Ok((sector, total))
}

/// Copies an image into a new file, which takes no room for what is zero, and is its owner's only: keys are put into it. `told`: bytes read of the source, of how many.
///
/// # Errors
/// Those of both files; a packed source that is cut short or damaged.
pub fn unpack(from: &Path, packing: Packing, to: &Path, told: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
    let source = File::open(from)?;
    let all = source.metadata()?.len();
    let read = std::cell::Cell::new(0);
    let counted = Counted { inner: BufReader::with_capacity(BLOCK, source), read: &read };
    let mut reader: Box<dyn Read> = match packing {
        Packing::Xz => Box::new(lzma_rust2::XzReader::new(counted, true)),
        Packing::Gzip => Box::new(Gzip::Member(flate2::bufread::GzDecoder::new(BufReader::with_capacity(BLOCK, counted)))),
        Packing::None | Packing::Other { .. } => Box::new(counted),
    };
    // What somebody left there may have other rights, or lead elsewhere.
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to)?;
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let count = fill(&mut reader, &mut block)?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(length))?;
            file.write_all(bytes)?;
        }
        length += count as u64;
        told(read.get(), all);
    }
    file.set_len(length)?;
    file.sync_all()
}

/// Copies an image onto a device. The first sector goes last, so that a card that is half written is no card at all.
///
/// # Errors
/// Those of both.
pub fn copy(from: &mut impl Read, to: &mut impl Disk, all: u64, told: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
    to.rewind()?;
    to.write_all(&[0; 512])?;
    to.sync()?;
    let mut first = [0; 512];
    from.read_exact(&mut first)?;
    let mut block = vec![0; BLOCK];
    let (mut done, mut synced) = (512, 0);
    loop {
        let count = fill(from, &mut block)?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        to.write_all(bytes)?;
        done += count as u64;
        // Else the progress would tell how fast memory is.
        if done - synced >= 32 << 20 {
            to.sync()?;
            synced = done;
        }
        told(done, all);
    }
    to.sync()?;
    to.rewind()?;
    to.write_all(&first)?;
    to.sync()
}

fn fill(from: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = block.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// What gzip packed: one member or several, perhaps with zeros behind them, as gzip itself takes it.
enum Gzip<R: BufRead> {
    Member(flate2::bufread::GzDecoder<R>),
    End,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Gzip::Member(member) = self else { return Ok(0) };
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Gzip::Member(member) = std::mem::replace(self, Gzip::End) else { return Ok(0) };
            let mut rest = member.into_inner();
            if more_than_zeros(&mut rest)? {
                *self = Gzip::Member(flate2::bufread::GzDecoder::new(rest));
            }
        }
    }
}

/// Skips zeros; whether anything follows them.
fn more_than_zeros(from: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let held = from.fill_buf()?;
        let (length, zeros) = (held.len(), held.iter().take_while(|byte| **byte == 0).count());
        from.consume(zeros);
        if length == 0 || zeros < length {
            return Ok(length > 0);
        }
    }
}

struct Counted<'a, R> {
    inner: R,
    read: &'a std::cell::Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// What lies in a boot partition that is mounted.
///
/// # Errors
/// The system's.
pub fn folder_contents(folder: &Path) -> io::Result<Contents> {
    let room = rustix::fs::statvfs(folder)?;
    let mut contents =
        Contents { free_bytes: Some(room.f_bavail * room.f_frsize), cluster_bytes: room.f_frsize, ..Contents::default() };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            contents.folders.insert(name.clone());
        } else if READ.contains(&name.to_ascii_lowercase().as_str()) {
            let path = entry.path();
            let bytes = if fs::metadata(&path)?.len() <= TEXT { Some(fs::read(&path)?) } else { None };
            contents.take(&name, bytes);
        }
        contents.names.insert(name);
    }
    Ok(contents)
}

/// Puts a plan's files into a boot partition that is mounted: all beside their places first, then each into its own.
///
/// # Errors
/// The system's.
pub fn folder_apply(folder: &Path, plan: &Plan) -> io::Result<()> {
    let new = folder.join("bramble.new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    fs::create_dir(&new)?;
    let waits = |path: &str| new.join(path.strip_prefix("bramble/").unwrap_or(path));
    for file in &plan.files {
        let path = waits(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        write(&path, &file.bytes)?;
    }
    for name in plan.in_root() {
        fs::rename(waits(name), held(folder, name)?)?;
    }
    if folder.join("bramble").exists() {
        fs::remove_dir_all(folder.join("bramble"))?;
    }
    fs::rename(&new, folder.join("bramble"))?;
    if let Some(line) = &plan.cmdline {
        let beside = folder.join("cmdline.new");
        write(&beside, line.as_bytes())?;
        fs::rename(beside, held(folder, CMDLINE)?)?;
    }
    rustix::fs::syncfs(File::open(folder)?)?;
    Ok(())
}

/// A file's path in a folder where it may stand in capital letters: FAT makes no difference, the system that shows it may.
fn held(folder: &Path, name: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().eq_ignore_ascii_case(name) {
            return Ok(entry.path());
        }
    }
    Ok(folder.join(name))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
