//! Writes tar archives (POSIX ustar), byte for byte the same for the same content: no times, no users.
//!
//! Source: POSIX.1-2017 pax, "ustar Interchange Format". Only what we need: directories, files, symbolic links, sizes
//! under 8 GiB, and GNU long names (type `L`) for paths over 100 bytes.

/// An archive that grows.
#[derive(Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// Adds a directory; its path without slash at the end.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.directory_of(path, mode, 0);
    }

    /// Adds a directory that belongs to a group.
    pub fn directory_of(&mut self, path: &str, mode: u32, group: u32) {
        self.entry(&format!("{path}/"), mode, group, b'5', "", &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, mode, 0, b'0', "", content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o777, 0, b'2', target, &[]);
    }

    /// The archive, closed.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, group: u32, kind: u8, target: &str, content: &[u8]) {
        if path.len() > 100 {
            let mut name = path.as_bytes().to_vec();
            name.push(0);
            self.entry("././@LongLink", 0, 0, b'L', "", &name);
        }
        let mut header = Vec::with_capacity(512);
        field(&mut header, 100, path.as_bytes());
        field(&mut header, 8, format!("{mode:07o}").as_bytes());
        field(&mut header, 8, b"0000000");
        // Seven octal digits; a larger number as GNU and Docker write it, in base 256.
        if group < 0o10_000_000 {
            field(&mut header, 8, format!("{group:07o}").as_bytes());
        } else {
            let [a, b, c, d] = group.to_be_bytes();
            field(&mut header, 8, &[0x80, 0, 0, 0, a, b, c, d]);
        }
        field(&mut header, 12, format!("{:011o}", content.len()).as_bytes());
        field(&mut header, 12, b"00000000000");
        // The sum is taken with blanks in its own place.
        let sum_at = header.len();
        field(&mut header, 8, b"        ");
        header.push(kind);
        field(&mut header, 100, target.as_bytes());
        field(&mut header, 6, b"ustar");
        field(&mut header, 2, b"00");
        header.resize(512, 0);
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        for (slot, byte) in header.iter_mut().skip(sum_at).zip(format!("{sum:06o}\0 ").bytes()) {
            *slot = byte;
        }
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        let padding = content.len().next_multiple_of(512) - content.len();
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

/// Puts `value` into a field of `width` bytes, cut or filled with zeros.
fn field(header: &mut Vec<u8>, width: usize, value: &[u8]) {
    let end = header.len() + width;
    header.extend(value.iter().take(width));
    header.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tar_reads_it_back() {
        let long = format!("{}/file", "d".repeat(120));
        let mut tar = Tar::default();
        tar.directory("etc", 0o755);
        tar.file("etc/greeting", 0o600, b"hello");
        tar.file(&long, 0o644, &[7; 513]);
        tar.link("lib64", "lib");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, tar.finish()).unwrap();
        let status = std::process::Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(folder.path()).status().unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read(folder.path().join("etc/greeting")).unwrap(), b"hello");
        assert_eq!(std::fs::read(folder.path().join(long)).unwrap(), [7; 513]);
        assert_eq!(std::fs::read_link(folder.path().join("lib64")).unwrap().to_str(), Some("lib"));
    }
}
