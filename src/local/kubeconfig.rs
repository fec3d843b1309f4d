//! The user's kubeconfig: a context `bramble` goes in and comes out again, everything else stays.
//!
//! Source:   Kubernetes' kubeconfig (v1 Config). kubectl, too, loses comments when it writes the file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_yaml_ng::{Mapping, Value};

use crate::master::authority::write_file;

/// The name of context, cluster and user.
pub const NAME: &str = "bramble";

/// Why the user's file was left alone.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// Nowhere to put it.
    #[error("neither KUBECONFIG nor HOME is set")]
    NoPlace,
    /// It is no kubeconfig.
    #[error("{} is not a kubeconfig", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What YAML says; none when it is YAML of another shape.
        source: Option<serde_yaml_ng::Error>,
    },
    /// It cannot be read or written.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What failed.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// How the cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `https://127.0.0.1:6443`.
    pub server: String,
    /// PEM.
    pub ca: String,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// What a merge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Which file.
    pub path: PathBuf,
    /// Where the context `bramble` pointed before, when that was another cluster.
    pub replaced: Option<String>,
}

/// A kubeconfig with nothing else in it.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn alone(access: &Access) -> Result<String, serde_yaml_ng::Error> {
    let mut config = Mapping::new();
    put(&mut config, access);
    serde_yaml_ng::to_string(&config)
}

/// Puts the cluster into the user's kubeconfig and makes it the current context.
///
/// # Errors
/// When the file cannot be read, understood or written; it is then as it was.
pub fn merge(access: &Access) -> Result<Merged, KubeconfigError> {
    let path = users_file()?;
    let mut replaced = None;
    edit(&path, |config| {
        let before = ours(config);
        replaced = before.filter(|(_, ca)| *ca != BASE64.encode(&access.ca)).map(|(server, _)| server);
        put(config, access);
        true
    })?;
    Ok(Merged { path, replaced })
}

/// Takes the cluster with this CA (PEM) out of the user's kubeconfig; `None` when it was not in it.
///
/// # Errors
/// When the file cannot be read, understood or written; it is then as it was.
pub fn take_out(ca: &str) -> Result<Option<PathBuf>, KubeconfigError> {
    let path = users_file()?;
    if !path.exists() {
        return Ok(None);
    }
    let mut taken = false;
    edit(&path, |config| {
        taken = take(config, ca);
        taken
    })?;
    Ok(taken.then_some(path))
}

/// The file that kubectl reads first: the first of `KUBECONFIG`, else `~/.kube/config`. A link is followed, so that it stays.
fn users_file() -> Result<PathBuf, KubeconfigError> {
    let first =
        std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty()));
    let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".kube/config"));
    let path = first.or_else(home).ok_or(KubeconfigError::NoPlace)?;
    Ok(std::fs::canonicalize(&path).unwrap_or(path))
}

/// Reads, changes and replaces the file under kubectl's own lock (`<file>.lock`, made exclusively).
fn edit(path: &Path, change: impl FnOnce(&mut Mapping) -> bool) -> Result<(), KubeconfigError> {
    let failed = |act| {
        let path = path.to_path_buf();
        move |source| KubeconfigError::Io { act, path, source }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    let _lock = Lock::take(path).map_err(failed("lock"))?;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed("read")(error)),
    };
    let strange = |source| KubeconfigError::Strange { path: path.to_path_buf(), source };
    let mut config = match serde_yaml_ng::from_str(&text).map_err(|error| strange(Some(error)))? {
        Value::Mapping(config) => config,
        Value::Null => Mapping::new(),
        _ => return Err(strange(None)),
    };
    let listed = |name: &str| config.get(name).is_none_or(|list| list.is_sequence() || list.is_null());
    if !["clusters", "users", "contexts"].into_iter().all(listed) {
        return Err(strange(None));
    }
    if change(&mut config) {
        let text = serde_yaml_ng::to_string(&config).map_err(|error| strange(Some(error)))?;
        write_file(path, text.as_bytes(), 0o600).map_err(failed("write"))?;
    }
    Ok(())
}

/// kubectl's lock; removed when dropped.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> std::io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        for _ in 0..20 {
            match File::create_new(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(error),
            }
        }
        Err(std::io::Error::other(format!("{} is there: another kubectl is writing, or one died doing so", lock.display())))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One that stays is named in the next error.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Mapping(entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
}

fn put(config: &mut Mapping, access: &Access) {
    let data = |pem: &str| Value::from(BASE64.encode(pem));
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        config.entry(key.into()).or_insert(value.into());
    }
    let cluster = map([("server", access.server.as_str().into()), ("certificate-authority-data", data(&access.ca))]);
    let user = map([("client-certificate-data", data(&access.certificate)), ("client-key-data", data(&access.key))]);
    let context = map([("cluster", NAME.into()), ("user", NAME.into())]);
    for (list, kind, value) in [("clusters", "cluster", cluster), ("users", "user", user), ("contexts", "context", context)] {
        let entry = map([("name", NAME.into()), (kind, value)]);
        let slot = config.entry(list.into()).or_insert(Value::Null);
        match slot.as_sequence_mut() {
            Some(entries) => match entries.iter_mut().find(|entry| is_ours(entry)) {
                Some(old) => *old = entry,
                None => entries.push(entry),
            },
            None => *slot = Value::Sequence(vec![entry]),
        }
    }
    config.insert("current-context".into(), NAME.into());
}

fn take(config: &mut Mapping, ca: &str) -> bool {
    if ours(config).is_none_or(|(_, found)| found != BASE64.encode(ca)) {
        return false;
    }
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config.get_mut(list).and_then(Value::as_sequence_mut) {
            entries.retain(|entry| !is_ours(entry));
        }
    }
    if config.get("current-context").and_then(Value::as_str) == Some(NAME) {
        config.insert("current-context".into(), "".into());
    }
    true
}

fn is_ours(entry: &Value) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(NAME)
}

/// Server and CA of the cluster `bramble` that is in it.
fn ours(config: &Mapping) -> Option<(String, String)> {
    let cluster = config.get("clusters")?.as_sequence()?.iter().find(|entry| is_ours(entry))?.get("cluster")?;
    let text = |key| cluster.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((text("server"), text("certificate-authority-data")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FOREIGN: &str = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\ncurrent-context: work\nclusters:\n- name: work\n  cluster: {server: 'https://work', extensions: [{name: x}]}\nusers:\n- name: me\n  user: {token: t}\ncontexts:\n- name: work\n  context: {cluster: work, user: me, namespace: n}\n";

    fn access(ca: &str) -> Access {
        Access { server: "https://127.0.0.1:1".into(), ca: ca.into(), certificate: "cert".into(), key: "key".into() }
    }

    fn edited(text: &str, change: impl FnOnce(&mut Mapping) -> bool) -> Result<Value, KubeconfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, text).unwrap();
        edit(&path, change)?;
        assert!(!dir.path().join("config.lock").exists());
        Ok(serde_yaml_ng::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())
    }

    fn put_in(ca: &'static str) -> impl FnOnce(&mut Mapping) -> bool {
        move |config| {
            put(config, &access(ca));
            true
        }
    }

    #[test]
    fn what_belongs_to_others_stays_and_comes_back_as_it_was() {
        let merged = edited(FOREIGN, put_in("ca")).unwrap();
        assert_eq!(merged["current-context"], Value::from("bramble"));
        assert_eq!(merged["clusters"].as_sequence().unwrap().len(), 2);
        assert_eq!(merged["clusters"][1]["cluster"]["server"], Value::from("https://127.0.0.1:1"));
        assert_eq!(merged["users"][1]["user"]["client-key-data"], Value::from("a2V5"));
        assert_eq!(merged["contexts"][1]["context"]["user"], Value::from("bramble"));
        let text = serde_yaml_ng::to_string(&merged).unwrap();
        let without = edited(&text, |config| take(config, "ca")).unwrap();
        let mut before: Value = serde_yaml_ng::from_str(FOREIGN).unwrap();
        before["current-context"] = "".into();
        assert_eq!(without, before);
    }

    #[test]
    fn merging_twice_changes_nothing_and_another_cluster_replaces() {
        let once = edited(FOREIGN, put_in("ca")).unwrap();
        let text = serde_yaml_ng::to_string(&once).unwrap();
        assert_eq!(edited(&text, put_in("ca")).unwrap(), once);
        let other = edited(&text, put_in("other")).unwrap();
        assert_eq!(other["clusters"].as_sequence().unwrap().len(), 2);
        let mut taken = true;
        let text = serde_yaml_ng::to_string(&other).unwrap();
        let still = edited(&text, |config| {
            taken = take(config, "ca");
            taken
        });
        assert!(!taken, "the context of another cluster is not ours to take out");
        assert_eq!(still.unwrap(), other);
    }

    #[test]
    fn empty_files_and_empty_lists_are_filled() {
        for text in ["", "clusters: null\nusers: []\n", "{}"] {
            let merged = edited(text, put_in("ca")).unwrap();
            assert_eq!(merged["kind"], Value::from("Config"));
            assert_eq!(merged["contexts"].as_sequence().unwrap().len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_strange_file_is_left_as_it_is() {
        for text in ["[1, 2]", "clusters: {a: b}", "a: b: c"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config");
            std::fs::write(&path, text).unwrap();
            assert!(matches!(edit(&path, put_in("ca")), Err(KubeconfigError::Strange { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config");
        edit(&path, put_in("ca")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(dir.path().join("new")).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["config"]);
    }
}
