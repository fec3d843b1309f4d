//! Hands: the unpacked images of a node: which pod uses which, and the removal of those that none uses.
//!
//! In:       `image_dir`, `run_dir`; names and decisions come from `volumes/image.rs`.
//! Out:      a folder for an image, complete or not there at all.
//! Never:    removes what a pod's file names: [`Images::claim`] and [`Images::sweep`] take turns.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{gone, make, pods};
use crate::agent::pods::dir;
use crate::agent::volumes::image;
use crate::api::Uid;

/// Where they lie.
#[derive(Debug)]
pub struct Images {
    image_dir: PathBuf,
    run_dir: PathBuf,
    /// Held while a claim is written, and while it is looked for what has none.
    turns: Mutex<()>,
}

/// No two of one process have the same name; a process that is gone left what it left.
static COUNT: AtomicU64 = AtomicU64::new(0);

impl Images {
    /// Nothing is made before it is needed.
    #[must_use]
    pub fn new(image_dir: &Path, run_dir: &Path) -> Self {
        Self { image_dir: image_dir.to_owned(), run_dir: run_dir.to_owned(), turns: Mutex::new(()) }
    }

    /// Where they lie.
    #[must_use]
    pub fn image_dir(&self) -> &Path {
        &self.image_dir
    }

    /// The image that a pod's volume is, if that was said.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn claimed(&self, uid: &Uid, volume: &str) -> io::Result<Option<String>> {
        match std::fs::read_to_string(dir::image_volume(&self.run_dir, uid, volume)) {
            Ok(id) => Ok(image::id(id.trim()).map(str::to_owned)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says that a pod's volume is this image, for the pod's life. Whether its files are there already.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn claim(&self, uid: &Uid, volume: &str, id: &str) -> io::Result<bool> {
        let _turn = self.turn();
        let path = dir::image_volume(&self.run_dir, uid, volume);
        make(&dir::image_volumes(&self.run_dir, uid))?;
        let mut fresh = path.clone().into_os_string();
        fresh.push(".new");
        std::fs::write(&fresh, id)?;
        std::fs::rename(fresh, path)?;
        Ok(self.is_here(id))
    }

    /// Whether an image's files are here, all of them.
    #[must_use]
    pub fn is_here(&self, id: &str) -> bool {
        image::folder(&self.image_dir, id).is_dir()
    }

    /// A folder to unpack an image into.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(&self, id: &str) -> io::Result<PathBuf> {
        // Nobody of this machine but root gets to an image's programs with their rights.
        make(&self.image_dir)?;
        let path = self.image_dir.join(fresh(image::NEW, id));
        make(&path)?;
        Ok(path)
    }

    /// It is complete: it becomes the image's folder, once it is safe on the disk. A power cut would else leave empty files in it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn complete(&self, fresh: &Path, id: &str) -> io::Result<()> {
        rustix::fs::syncfs(std::fs::File::open(fresh)?)?;
        std::fs::rename(fresh, image::folder(&self.image_dir, id))
    }

    /// What is free of the disk that they lie on, in bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn free_bytes(&self) -> io::Result<u64> {
        make(&self.image_dir)?;
        let disk = rustix::fs::statvfs(&self.image_dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Removes the images that no pod claims and no volume of `in_volumes` shows, and what a crash left. `busy`: something is being
    /// unpacked. Which ones went.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sweep(&self, in_volumes: &BTreeSet<String>, busy: bool) -> io::Result<Vec<String>> {
        let mut removed: Vec<(String, PathBuf)> = Vec::new();
        {
            let _turn = self.turn();
            let there = names(&self.image_dir)?;
            if there.is_empty() {
                return Ok(Vec::new());
            }
            let mut used = in_volumes.clone();
            for uid in pods(&self.run_dir)? {
                for claim in names(&dir::image_volumes(&self.run_dir, &uid))? {
                    let id = match std::fs::read_to_string(dir::image_volumes(&self.run_dir, &uid).join(claim)) {
                        // The pod went meanwhile, and its claim with it; or the claim was just given its name.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        id => id?,
                    };
                    used.extend(image::id(id.trim()).map(str::to_owned));
                }
            }
            for name in image::unused(&there, &used, busy) {
                let mut path = self.image_dir.join(name);
                if image::id(name).is_some() {
                    // From here on nobody takes it for the image.
                    let away = self.image_dir.join(fresh(image::GONE, name));
                    std::fs::rename(&path, &away)?;
                    path = away;
                }
                removed.push((name.to_owned(), path));
            }
        }
        for (_, path) in &removed {
            gone(std::fs::remove_dir_all(path))?;
        }
        Ok(removed.into_iter().map(|(name, _)| name).collect())
    }

    /// Removes all of them.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_all(&self) -> io::Result<()> {
        gone(std::fs::remove_dir_all(&self.image_dir))
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn fresh(before: &str, id: &str) -> String {
    format!("{before}{id}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stays_while_a_pod_or_a_volume_has_it_and_leftovers_go() {
        let (data, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let images = Images::new(&data.path().join("images"), run.path());
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(images.sweep(&BTreeSet::new(), false).unwrap(), Vec::<String>::new(), "there is no folder");
        let (one, two) = (Uid::from("u-1"), Uid::from("u-2"));
        assert_eq!(images.claimed(&one, "m").unwrap(), None);
        assert!(!images.claim(&one, "m", &a).unwrap() && !images.claim(&two, "m", &a).unwrap());
        for id in [&a, &b] {
            let fresh = images.begin(id).unwrap();
            std::fs::write(fresh.join("file"), b"x").unwrap();
            assert!(!images.is_here(id), "not before it is complete");
            images.complete(&fresh, id).unwrap();
        }
        let half = images.begin(&a).unwrap();
        assert!(images.claim(&one, "n", &a).unwrap());
        assert_eq!(images.claimed(&one, "n").unwrap().as_ref(), Some(&a));
        let in_volumes = BTreeSet::from([b.clone()]);
        assert_eq!(images.sweep(&in_volumes, true).unwrap(), Vec::<String>::new());
        assert_eq!(images.sweep(&BTreeSet::new(), true).unwrap(), std::slice::from_ref(&b));
        assert!(half.exists(), "somebody unpacks");
        super::super::remove_pod(run.path(), &one).unwrap();
        images.sweep(&BTreeSet::new(), false).unwrap();
        assert!(!half.exists() && images.is_here(&a), "the other pod has it");
        // A claim that is gone between the listing and the reading: no such file, as behind a link to nothing.
        let going = dir::image_volume(run.path(), &Uid::from("u-3"), "m");
        std::fs::create_dir_all(going.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("nowhere", going).unwrap();
        super::super::remove_pod(run.path(), &two).unwrap();
        assert_eq!(images.sweep(&BTreeSet::new(), false).unwrap(), std::slice::from_ref(&a));
        assert_eq!(names(images.image_dir()).unwrap(), Vec::<String>::new());
        images.remove_all().unwrap();
        images.remove_all().unwrap();
    }
}
