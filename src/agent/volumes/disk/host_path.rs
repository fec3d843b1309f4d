//! Hands: sees to it that what a hostPath volume asks for is there. Source: upstream `hostpath.checkType`; the words are its.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::agent::pods::spec::HostPathType;

/// Why a path of the host cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// Something else is there, or nothing.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    Type {
        /// The path.
        path: String,
        /// In a word.
        wanted: &'static str,
    },
    /// A local volume's path.
    #[error("path \"{path}\" does not exist")]
    Missing {
        /// The path.
        path: String,
    },
    /// It cannot be looked at or made.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Checks a path, and makes what is to be made. Links are followed: the path is the owner's of the machine, not a container's.
///
/// # Errors
/// When it is not what was asked for.
pub fn check(path: &str, kind: HostPathType) -> Result<(), HostPathError> {
    let io = |act, source| HostPathError::Io { act, path: path.to_owned(), source };
    let there = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        // An agent that is not root cannot see everything; Docker can, and says what it finds.
        Err(error) if kind == HostPathType::Unset && error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(io("look at", error)),
    };
    let (wanted, fits): (&'static str, fn(&Metadata) -> bool) = match kind {
        HostPathType::Unset => return Ok(()),
        HostPathType::Exists => {
            return if there.is_some() { Ok(()) } else { Err(HostPathError::Missing { path: path.to_owned() }) };
        }
        HostPathType::DirectoryOrCreate if there.is_none() => {
            return DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|error| io("make the directory", error));
        }
        HostPathType::Provisioned if there.is_none() => {
            let path = Path::new(path);
            // Whoever looks into the directory of all volumes is the node's business; into this one, the container's.
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            let opened = made.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o777)));
            return opened.map_err(|error| io("make the directory", error));
        }
        HostPathType::FileOrCreate if there.is_none() => {
            // Not its directory: upstream makes none either.
            let made = File::options().write(true).create_new(true).mode(0o644).open(Path::new(path));
            return made.map(drop).map_err(|error| io("make the file", error));
        }
        HostPathType::Directory | HostPathType::DirectoryOrCreate | HostPathType::Provisioned => ("directory", Metadata::is_dir),
        HostPathType::File | HostPathType::FileOrCreate => ("file", Metadata::is_file),
        HostPathType::Socket => ("socket file", |there| there.file_type().is_socket()),
        HostPathType::CharDevice => ("character device", |there| there.file_type().is_char_device()),
        HostPathType::BlockDevice => ("block device", |there| there.file_type().is_block_device()),
    };
    if there.is_some_and(|there| fits(&there)) {
        return Ok(());
    }
    Err(HostPathError::Type { path: path.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn each_type_is_checked_and_made_where_asked() {
        let host = tempfile::tempdir().unwrap();
        let at = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
        let (directory, file, socket) = (at("directory"), at("file"), at("socket"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&file, b"").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let none = at("none");
        use HostPathType::*;
        for (path, kind, words) in [
            (&directory, Directory, None),
            (&directory, DirectoryOrCreate, None),
            (&file, File, None),
            (&file, FileOrCreate, None),
            (&socket, Socket, None),
            (&"/dev/null".to_owned(), CharDevice, None),
            (&none, Unset, None),
            (&file, Exists, None),
            (&none, Exists, Some(format!("path \"{none}\" does not exist"))),
            (&file, Directory, Some(format!("hostPath type check failed: {file} is not a directory"))),
            (&none, Directory, Some(format!("hostPath type check failed: {none} is not a directory"))),
            (&file, DirectoryOrCreate, Some(format!("hostPath type check failed: {file} is not a directory"))),
            (&directory, File, Some(format!("hostPath type check failed: {directory} is not a file"))),
            (&directory, FileOrCreate, Some(format!("hostPath type check failed: {directory} is not a file"))),
            (&file, Socket, Some(format!("hostPath type check failed: {file} is not a socket file"))),
            (&file, CharDevice, Some(format!("hostPath type check failed: {file} is not a character device"))),
            (&"/dev/null".to_owned(), BlockDevice, Some("hostPath type check failed: /dev/null is not a block device".into())),
        ] {
            assert_eq!(check(path, kind).err().map(|error| error.to_string()), words, "{path} {kind:?}");
        }
        let (made, deep) = (at("a/b/c"), at("made"));
        check(&made, DirectoryOrCreate).unwrap();
        check(&deep, FileOrCreate).unwrap();
        assert!(std::fs::metadata(&made).unwrap().is_dir() && std::fs::metadata(&deep).unwrap().mode() & 0o400 != 0);
        let claimed = at("volumes/home_db_01234567");
        check(&claimed, Provisioned).unwrap();
        std::fs::write(format!("{claimed}/kept"), b"").unwrap();
        check(&claimed, Provisioned).unwrap();
        let mode = std::fs::metadata(&claimed).unwrap().mode();
        assert!(mode & 0o777 == 0o777 && std::fs::metadata(format!("{claimed}/kept")).is_ok(), "{mode:o}");
        assert!(check(&at("no/such/folder"), FileOrCreate).is_err());
    }
}
