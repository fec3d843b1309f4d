//! The sandbox's image: this very program, as an archive, so that nothing is pulled for it.
//!
//! In:       the program's bytes and, when it is dynamic, the libraries and the interpreter that it has mapped.
//! Out:      a tar and the tag that its content gives.
//! Never:    reads a file (`exec.rs`) or talks to Docker (`docker.rs`).
//!
//! Rejected: pulling an image such as upstream's `pause`: a fresh Pi without internet could then start nothing.

use super::tar::Tar;

/// The repository part of the image's name.
pub const REPOSITORY: &str = "bramble-sandbox";
/// Where the program lies in the image.
pub const PROGRAM: &str = "/bramble";

/// A file of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Absolute path in the image.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The files that a process has mapped, from the text of `/proc/self/maps`: its libraries and its interpreter, each once,
/// in order, without the program itself.
#[must_use]
pub fn mapped_files(maps: &str, program: &str) -> Vec<String> {
    let mut files: Vec<String> = maps
        .lines()
        // address, permissions, offset, device, inode, path
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .filter(|path| path.starts_with('/') && *path != program && is_library(path))
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    files
}

/// `libc.so.6`, `ld-linux-x86-64.so.2`, `ld-musl-aarch64.so.1`: other mapped files (locale archives, data) are not needed.
fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with(".so") || name.contains(".so.")
}

/// The interpreter that an ELF program names (`PT_INTERP`), such as `/lib64/ld-linux-x86-64.so.2`; `None` when it is
/// static or no ELF.
#[must_use]
pub fn interpreter(elf: &[u8]) -> Option<String> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        // Every machine that we build for is little-endian.
        bytes.iter().rev().try_fold(0usize, |value, &byte| value.checked_mul(256)?.checked_add(usize::from(byte)))
    };
    if elf.get(..4)? != b"\x7fELF" || elf.get(5) != Some(&1) {
        return None;
    }
    let wide = elf.get(4) == Some(&2);
    let (table, entry_size, entries) =
        if wide { (number(32, 8)?, number(54, 2)?, number(56, 2)?) } else { (number(28, 4)?, number(42, 2)?, number(44, 2)?) };
    for index in 0..entries {
        let at = table.checked_add(index.checked_mul(entry_size)?)?;
        const PT_INTERP: usize = 3;
        if number(at, 4)? == PT_INTERP {
            let (offset, size) =
                if wide { (number(at + 8, 8)?, number(at + 32, 8)?) } else { (number(at + 4, 4)?, number(at + 16, 4)?) };
            let text = elf.get(offset..offset.checked_add(size)?)?;
            return String::from_utf8(text.iter().copied().take_while(|&byte| byte != 0).collect()).ok();
        }
    }
    None
}

/// The image as a tar: the program at [`PROGRAM`], the other parts where they were. Equal parts, equal bytes.
#[must_use]
pub fn archive(program: &[u8], parts: &[Part]) -> Vec<u8> {
    let mut tar = Tar::default();
    let mut made = std::collections::BTreeSet::new();
    for part in parts {
        let path = part.path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if let Some(folder) = path.get(..at).filter(|folder| made.insert((*folder).to_owned())) {
                tar.directory(folder, 0o755);
            }
        }
        tar.file(path, 0o755, &part.content);
    }
    tar.file(PROGRAM.trim_start_matches('/'), 0o755, program);
    tar.finish()
}

/// `bramble-sandbox:<first 16 hex digits of the archive's SHA-256>`.
#[must_use]
pub fn tag(archive: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, archive);
    let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{REPOSITORY}:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_interpreter_are_found_in_the_maps() {
        let maps = "55d0-55d1 r--p 00000000 fe:00 12 /usr/bin/bramble\n\
                    7f00-7f01 r--p 00000000 fe:00 13 /usr/lib/locale/locale-archive\n\
                    7f01-7f02 r-xp 00000000 fe:00 14 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f02-7f03 rw-p 00000000 fe:00 14 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f04-7f05 r-xp 00000000 fe:00 15 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n\
                    7fff-8000 rw-p 00000000 00:00 0 [stack]\n\
                    7fff-8000 rw-p 00000000 00:00 0\n";
        assert_eq!(
            mapped_files(maps, "/usr/bin/bramble"),
            ["/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libc.so.6"]
        );
    }

    #[test]
    fn this_test_names_its_interpreter_and_noise_names_none() {
        let elf = std::fs::read("/proc/self/exe").unwrap();
        let named = interpreter(&elf);
        let dynamic = std::fs::read_to_string("/proc/self/maps").unwrap().contains("ld-");
        assert_eq!(named.is_some(), dynamic, "{named:?}");
        for noise in [&b""[..], b"\x7fELF", &[0xff; 200], b"\x7fELF\x02\x01\x01"] {
            assert_eq!(interpreter(noise), None);
        }
        // Cut anywhere, it is refused or read, and never panics.
        for end in (0..1024).step_by(7) {
            let _ = interpreter(&elf[..end]);
        }
    }

    #[test]
    fn equal_parts_give_an_equal_tag() {
        let part = |content: &[u8]| Part { path: "/lib/x/libc.so.6".into(), content: content.to_vec() };
        let (a, b) = (archive(b"p", &[part(b"1")]), archive(b"p", &[part(b"1")]));
        assert_eq!(a, b);
        assert_eq!(tag(&a), tag(&b));
        assert_ne!(tag(&a), tag(&archive(b"p", &[part(b"2")])));
        assert_eq!(tag(&a).len(), "bramble-sandbox:".len() + 16);
    }
}
