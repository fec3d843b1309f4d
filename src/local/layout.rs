//! Where everything of a local cluster is.

use std::path::{Path, PathBuf};

use crate::error::Report;
use crate::terminal::quoted;

/// The data directory of one local cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The cluster in `chosen`, or in `~/.local/share/bramble`.
    ///
    /// # Errors
    /// When there is no home to look in.
    pub fn find(chosen: Option<PathBuf>) -> Result<Self, Report> {
        let root = match chosen {
            Some(root) => root,
            None => home()?.join(".local/share/bramble"),
        };
        // Daemons are given it, and they work elsewhere.
        let root = std::path::absolute(&root)
            .map_err(|error| Report::usage(format!("cannot use {} as data directory", root.display())).because(error))?;
        Ok(Self { root })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was chosen.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// The master's configuration.
    #[must_use]
    pub fn master_config(&self) -> PathBuf {
        self.root.join("master.toml")
    }

    /// The certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// The kubeconfig of this cluster alone.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// A node's folder.
    #[must_use]
    pub fn node(&self, name: &str) -> PathBuf {
        self.root.join("nodes").join(name)
    }

    /// A node's configuration.
    #[must_use]
    pub fn node_config(&self, name: &str) -> PathBuf {
        self.node(name).join("agent.toml")
    }

    /// A process' log.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.root.join("logs").join(format!("{process}.log"))
    }

    /// ` --data-dir DIR` for commands that are told to the user, when they need it.
    #[must_use]
    pub fn flag(&self) -> String {
        match home() {
            Ok(home) if home.join(".local/share/bramble") == self.root => String::new(),
            _ => format!(" --data-dir {}", quoted(&self.root.display().to_string())),
        }
    }

    /// Nothing, when a cluster was made here.
    ///
    /// # Errors
    /// When there is none.
    pub fn expect_cluster(&self) -> Result<(), Report> {
        if self.state().exists() {
            return Ok(());
        }
        Err(Report::failed(format!("there is no cluster in {}", self.root.display()))
            .fix(format!("make one with `bramble start{}`", self.flag())))
    }
}

fn home() -> Result<PathBuf, Report> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).ok_or_else(|| {
        Report::usage("there is no home directory to keep the cluster in: HOME is not set").fix("choose one with --data-dir DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_directory_is_made_absolute_because_daemons_work_elsewhere() {
        assert!(Layout::find(Some("x/y".into())).unwrap().root().is_absolute());
    }
}
