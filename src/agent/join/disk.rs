//! Hands: what a node keeps of its joining: key, CA, certificate, and `join.json` last, so that it is whole or not there.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::agent::disk::{DiskError, replace};
use crate::api::core::join::Joined;
use crate::pkcs10;

/// What stays where it is when an identity is set aside: the claim on the directory, and what was set aside before.
const STAYS: [&str; 2] = ["agent.lock", "set-aside-"];

/// Why it cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The disk refuses.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk refuses.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is there and makes no sense.
    #[error("cannot use {}: remove it, and the node joins anew", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
    },
}

fn io(act: &'static str, path: &Path) -> impl Fn(io::Error) -> KeepError {
    let path = path.to_owned();
    move |source| KeepError::Io { act, path: path.clone(), source }
}

fn pki(data_dir: &Path) -> Result<PathBuf, KeepError> {
    let pki = data_dir.join("pki");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&pki).map_err(io("make", &pki))?;
    Ok(pki)
}

/// The identity that is kept.
///
/// # Errors
/// When it cannot be read.
pub fn load(data_dir: &Path) -> Result<Option<Joined>, KeepError> {
    let path = data_dir.join("join.json");
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| KeepError::Unusable { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", &path)(error)),
    }
}

/// Keeps an identity: from now on the node has it.
///
/// # Errors
/// When the disk refuses.
pub fn keep(data_dir: &Path, joined: &Joined) -> Result<(), KeepError> {
    // Texts only: cannot fail.
    replace(data_dir, "join.json", &serde_json::to_vec_pretty(joined).unwrap_or_default())?;
    Ok(())
}

/// Keeps the certificate that came.
///
/// # Errors
/// When the disk refuses.
pub fn keep_certificate(data_dir: &Path, certificate: &[u8]) -> Result<(), KeepError> {
    Ok(replace(&pki(data_dir)?, "node.crt", certificate)?)
}

/// The CA that was trusted before.
#[must_use]
pub fn ca(data_dir: &Path) -> Option<Vec<u8>> {
    fs::read(data_dir.join("pki/ca.crt")).ok()
}

/// Keeps the CA: no other is trusted from now on.
///
/// # Errors
/// When the disk refuses.
pub fn keep_ca(data_dir: &Path, ca: &[u8]) -> Result<(), KeepError> {
    Ok(replace(&pki(data_dir)?, "ca.crt", ca)?)
}

/// The node's key (PKCS#8, DER); made when there is none, for its owner's eyes only.
///
/// # Errors
/// When it cannot be read, made or kept.
pub fn key(data_dir: &Path) -> Result<Vec<u8>, KeepError> {
    let folder = pki(data_dir)?;
    let path = folder.join("node.key");
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pem = pkcs10::new_key().map_err(|_| KeepError::Unusable { path: path.clone() })?;
            replace(&folder, "node.key", pem.as_bytes())?;
            pem.into_bytes()
        }
        Err(error) => return Err(io("read", &path)(error)),
    };
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| KeepError::Unusable { path })?;
    Ok(key.secret_der().to_vec())
}

/// Forgets a key that never became anybody's.
///
/// # Errors
/// When the disk refuses.
pub fn forget_key(data_dir: &Path) -> Result<(), KeepError> {
    let path = data_dir.join("pki/node.key");
    fs::remove_file(&path).map_err(io("remove", &path))
}

/// Moves everything of another board's node into a folder of its own; tells which.
///
/// # Errors
/// When the disk refuses.
pub fn set_aside(data_dir: &Path) -> Result<PathBuf, KeepError> {
    let aside = (1..).map(|number| data_dir.join(format!("set-aside-{number}"))).find(|path| !path.exists());
    let aside = aside.unwrap_or_else(|| data_dir.join("set-aside"));
    fs::DirBuilder::new().mode(0o700).create(&aside).map_err(io("make", &aside))?;
    let entries = fs::read_dir(data_dir).map_err(io("read", data_dir))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    // What makes it somebody goes last: cut off half way, it is done again.
    names.sort_by_key(|name| name == "join.json");
    for name in names {
        let stays = name.to_str().is_some_and(|name| STAYS.iter().any(|one| name.starts_with(one)));
        if !stays {
            let from = data_dir.join(&name);
            fs::rename(&from, aside.join(&name)).map_err(io("move", &from))?;
        }
    }
    fs::File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(io("sync", data_dir))?;
    Ok(aside)
}

/// What tells this board from others: its serial number, else the machine's id; empty when there is neither.
#[must_use]
pub fn serial(root: &Path) -> String {
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path)).unwrap_or_default();
        text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
    };
    let own = read("proc/device-tree/serial-number");
    // Some boards' firmware says nothing but zeros.
    if own.bytes().any(|byte| byte != b'0') { own } else { read("etc/machine-id") }
}

/// The board's name for people; empty when there is none.
#[must_use]
pub fn model(root: &Path) -> String {
    let text = fs::read_to_string(root.join("proc/device-tree/model")).unwrap_or_default();
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_for_nobody_elses_eyes() {
        let dir = tempfile::tempdir().unwrap();
        let made = key(dir.path()).unwrap();
        assert_eq!(key(dir.path()).unwrap(), made);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("pki"), mode("pki/node.key")), (0o700, 0o600));
    }

    #[test]
    fn an_identity_is_set_aside_whole_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        for name in ["agent.lock", "share.json"] {
            fs::write(data.join(name), name).unwrap();
        }
        key(data).unwrap();
        keep(data, &Joined { serial: "a".into(), ..Joined::default() }).unwrap();
        let aside = set_aside(data).unwrap();
        assert_eq!(load(data).unwrap(), None);
        assert_eq!(load(&aside).unwrap().unwrap().serial, "a");
        assert!(aside.join("share.json").exists() && aside.join("pki/node.key").exists());
        assert!(data.join("agent.lock").exists() && !data.join("share.json").exists());
        assert_eq!(set_aside(data).unwrap(), data.join("set-aside-2"));
    }

    #[test]
    fn the_serial_number_of_a_board_counts_before_the_id_of_its_system() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(serial(root.path()), "");
        for folder in ["etc", "proc/device-tree"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("etc/machine-id"), "m1\n").unwrap();
        assert_eq!(serial(root.path()), "m1");
        fs::write(root.path().join("proc/device-tree/serial-number"), "0000\0").unwrap();
        assert_eq!(serial(root.path()), "m1");
        fs::write(root.path().join("proc/device-tree/serial-number"), "10000000abcdef\0").unwrap();
        assert_eq!(serial(root.path()), "10000000abcdef");
    }
}
