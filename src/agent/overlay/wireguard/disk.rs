//! The node's private key, in the agent's data folder.

use std::io::ErrorKind;
use std::path::Path;

use defguard_boringtun::x25519::StaticSecret;

use crate::agent::disk::{DiskError, replace};

/// 32 bytes, for its owner's eyes only.
const FILE: &str = "wireguard.key";

/// The key, made if there is none. One of the wrong length is none. Blocks on the disk: call it off the runtime.
///
/// # Errors
/// When the disk refuses.
pub fn key(directory: &Path) -> Result<StaticSecret, DiskError> {
    let path = directory.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            if let Ok(bytes) = <[u8; 32]>::try_from(bytes) {
                return Ok(StaticSecret::from(bytes));
            }
            tracing::warn!(path = %path.display(), "what is there is no key: a new one is made");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => return Err(DiskError::Io { act: "read", path, source }),
    }
    let secret = StaticSecret::random();
    replace(directory, FILE, secret.as_bytes())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_nobody_else_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let first = key(directory.path()).unwrap();
        assert_eq!(first.as_bytes(), key(directory.path()).unwrap().as_bytes());
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(directory.path().join(FILE), "short").unwrap();
        assert_ne!(first.as_bytes(), key(directory.path()).unwrap().as_bytes());
        assert!(key(Path::new("/nowhere/at/all")).is_err());
    }
}
