//! The sandbox process, and the reading of this program for its image.
//!
//! In a pod the sandbox does nothing but be there: it holds the namespaces, reaps what is left to it (when the pod shares
//! its processes), and leaves on TERM or INT.

use std::path::{Path, PathBuf};

use super::sandbox::{self, Part};

/// Why this program cannot be made an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file that the program consists of cannot be read.
    #[error("cannot read {path} for the sandbox image")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// This program and what it is linked to, as an image archive with its tag. Costs the program's size in memory while it lasts.
///
/// # Errors
/// When a part cannot be read.
pub fn own_image() -> Result<(String, Vec<u8>), ImageError> {
    let program = read(Path::new("/proc/self/exe"))?;
    let mut parts = Vec::new();
    if let Some(interpreter) = sandbox::interpreter(&program) {
        let own_path = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        let maps = read(Path::new("/proc/self/maps"))?;
        let maps = String::from_utf8_lossy(&maps).into_owned();
        for path in sandbox::mapped_files(&maps, &own_path.to_string_lossy()) {
            parts.push(Part { content: read(Path::new(&path))?, path });
        }
        // The kernel looks for the interpreter where the program says, which is often a link to where it is mapped from.
        if !parts.iter().any(|part| part.path == interpreter) {
            parts.push(Part { content: read(Path::new(&interpreter))?, path: interpreter });
        }
    }
    let archive = sandbox::archive(&program, &parts);
    Ok((sandbox::tag(&archive), archive))
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })
}

/// The body of `bramble sandbox`: waits, reaps, leaves on TERM or INT.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn sandbox_main() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // One thread and no timer: the safe way to hear signals, and it costs some tens of kilobytes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut child = signal(SignalKind::child())?;
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                _ = child.recv() => reap(),
            }
        }
    })
}

/// Takes the exit codes of all children that have ended.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}
