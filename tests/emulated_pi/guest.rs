//! What an emulated Pi boots from: a kernel, and a small system in memory with the files that a test puts in.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::here;

/// A file in the guest.
pub struct File {
    /// Without the leading slash.
    pub path: &'static str,
    pub content: Vec<u8>,
    pub mode: u32,
}

impl File {
    /// A file of text that anybody may read.
    pub fn text(path: &'static str, text: &str) -> Self {
        Self { path, content: text.as_bytes().to_vec(), mode: 0o644 }
    }

    /// The agent, as it is shipped.
    pub fn agent(program: &Path) -> Self {
        Self { path: "usr/bin/bramble", content: std::fs::read(program).unwrap(), mode: 0o755 }
    }
}

/// A processor's kernel and system.
pub struct Guest {
    folder: PathBuf,
    qemu: &'static str,
}

impl Guest {
    /// For 64-bit boards.
    pub fn arm64() -> Self {
        Self::made("arm64", "qemu-system-aarch64")
    }

    /// For ARMv6: Pi Zero and Pi 1.
    pub fn armel() -> Self {
        Self::made("armel", "qemu-system-arm")
    }

    fn made(architecture: &str, qemu: &'static str) -> Self {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(qemu).is_file());
        assert!(found, "{qemu} is missing: apt-get install qemu-system-arm, or leave this out with BRAMBLE_SKIP=pi");
        let script = here().join("guest.sh");
        let said = Command::new(script).arg(architecture).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(said.status.success(), "guest.sh {architecture} failed ({}); what it said stands above", said.status);
        let folder = PathBuf::from(String::from_utf8(said.stdout).unwrap().trim_end());
        println!("{architecture}: kernel {}", folder.file_name().unwrap().to_string_lossy());
        Self { folder, qemu }
    }

    pub fn qemu(&self) -> &'static str {
        self.qemu
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the guest's system with these files to `to`. Of archives that follow one another the kernel unpacks all.
    pub fn with(&self, files: &[File], to: &Path) {
        let mut archive = std::fs::read(self.file("base.cpio.gz")).unwrap();
        let mut added = Vec::new();
        for (index, file) in files.iter().enumerate() {
            // Folders that are there already stay as they are.
            let parents: Vec<&Path> =
                Path::new(file.path).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
            for parent in parents.into_iter().rev() {
                entry(&mut added, 0, parent.to_str().unwrap(), 0o040_755, &[]);
            }
            entry(&mut added, index + 1, file.path, 0o100_000 | file.mode, &file.content);
        }
        entry(&mut added, 0, "TRAILER!!!", 0, &[]);
        // Uncompressed archives begin at a multiple of four.
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(&added);
        std::fs::File::create(to).unwrap().write_all(&archive).unwrap();
    }
}

/// One entry of a cpio archive, of root: the format "newc" of the kernel's `initramfs buffer format`.
fn entry(archive: &mut Vec<u8>, inode: usize, name: &str, mode: u32, content: &[u8]) {
    let fields = [
        inode,
        mode as usize,
        0, // user
        0, // group
        1, // links
        0, // time
        content.len(),
        0, // device
        0,
        0, // of a device file
        0,
        name.len() + 1,
        0, // no checksum
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Waits for one's turn: a lock that ends with its file.
pub fn turn() -> std::fs::File {
    let path = std::env::temp_dir().join("bramble-emulated-pi.lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
    file.lock().unwrap();
    file
}
