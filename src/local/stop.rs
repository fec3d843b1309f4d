//! `bramble stop` and `bramble delete`.
//!
//! After `stop` nothing of the cluster runs: daemons first, or the agents would start again what is ended, then the containers.
//! `delete` removes what is in Docker before the data directory, because only that says what is the cluster's: cut off half
//! way, it can be run again.

use super::containers;
use super::daemon::{self, Seat, list};
use super::docker::{self, Answer};
use super::kubeconfig;
use super::layout::Layout;
use super::progress::Progress;
use super::state::{Cluster, Runtime};
use crate::config::Claim;
use crate::error::{Chain, Report};

/// Ends every process and container of the cluster; keeps its data.
///
/// # Errors
/// When something could not be ended.
pub fn stop(layout: &Layout) -> Result<(), Report> {
    let progress = Progress::default();
    if !layout.state().exists() {
        progress.say(&format!("there is no cluster in {}: nothing to stop", layout.root().display()));
        return Ok(());
    }
    let _claim = Claim::take(layout.root(), "start")?;
    let Some(cluster) = Cluster::load(&layout.state())? else { return Ok(()) };
    end_daemons(&progress, layout, &cluster)?;
    if let (Runtime::Docker, Some(socket)) = (cluster.runtime, &cluster.docker_socket) {
        progress.step("stopping containers", |step| {
            // No engine, no containers that run.
            if matches!(docker::ask(socket), Answer::Absent | Answer::NobodyListens) {
                step.say("Docker is not running, so no container is");
                return Ok(());
            }
            let count = containers::stop(socket, &cluster.uid)?;
            step.say(format!("stopped in Docker: {count}"));
            Ok(())
        })?;
    }
    progress.say(&format!("stopped; the data stays in {}", layout.root().display()));
    progress.say(&format!("`bramble start{}` brings everything back", layout.flag()));
    Ok(())
}

/// Ends the cluster and removes all that is its.
///
/// # Errors
/// When something could not be ended or removed; run again, it goes on.
pub fn delete(layout: &Layout) -> Result<(), Report> {
    let progress = Progress::default();
    if !layout.state().exists() {
        progress.say(&format!("there is no cluster in {}: nothing to delete", layout.root().display()));
        return Ok(());
    }
    let _claim = Claim::take(layout.root(), "start")?;
    let Some(cluster) = Cluster::load(&layout.state())? else { return Ok(()) };
    end_daemons(&progress, layout, &cluster)?;
    if let (Runtime::Docker, Some(socket)) = (cluster.runtime, &cluster.docker_socket) {
        progress.step("removing what is in Docker", |step| {
            // Docker was removed from this machine: its data is not ours to look for.
            if matches!(docker::ask(socket), Answer::Absent) {
                step.say(format!("{} does not exist any more: what was in that Docker is left", socket.display()));
                return Ok(());
            }
            let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
            let count = containers::remove(socket, &cluster.uid, &nodes)?;
            step.say(format!("removed from Docker: {count}"));
            Ok(())
        })?;
    }
    forget(&progress, layout);
    progress.step("removing the data", |step| {
        step.say(format!("removed {}", layout.root().display()));
        // The state last: while it is there, `delete` can be run again.
        remove(layout).map_err(|error| {
            Report::failed(format!("cannot remove {}", layout.root().display()))
                .because(error)
                .fix("make it writable for this user and run the command again")
        })
    })
}

fn remove(layout: &Layout) -> std::io::Result<()> {
    for entry in std::fs::read_dir(layout.root())?.flatten() {
        if entry.path() == layout.state() {
            continue;
        }
        if entry.file_type()?.is_dir() { std::fs::remove_dir_all(entry.path())? } else { std::fs::remove_file(entry.path())? }
    }
    std::fs::remove_dir_all(layout.root())
}

fn end_daemons(progress: &Progress, layout: &Layout, cluster: &Cluster) -> Result<(), Report> {
    let mut seats = vec![Seat::master(layout)];
    seats.extend(cluster.nodes.iter().map(|node| Seat::node(layout, &node.name)));
    progress.step("stopping master and nodes", |step| {
        let ended = daemon::end(&seats, daemon::GRACE)?;
        step.say(match (ended.asked.len(), ended.killed.as_slice()) {
            (0, []) => "no process of the cluster was running".to_owned(),
            (asked, []) => format!("stopped {asked} process{}", if asked == 1 { "" } else { "es" }),
            (asked, killed) => format!("stopped {asked}, and killed pid {}, which did not end when asked to", list(killed)),
        });
        Ok(())
    })
}

/// The context goes out of the user's kubeconfig; that it cannot is no reason to keep a cluster.
fn forget(progress: &Progress, layout: &Layout) {
    let taken = match std::fs::read_to_string(layout.pki().join("ca.crt")) {
        Ok(ca) => kubeconfig::take_out(&ca),
        Err(_) => Ok(None),
    };
    match taken {
        Ok(Some(path)) => progress.say(&format!("✓ took context {} out of {}", kubeconfig::NAME, path.display())),
        Ok(None) => {}
        Err(error) => progress.say(&format!("! the context {} stays in your kubeconfig: {}", kubeconfig::NAME, Chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Ports;
    use super::*;

    #[test]
    fn where_no_cluster_is_nothing_is_made_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().join("none"))).unwrap();
        stop(&layout).unwrap();
        delete(&layout).unwrap();
        assert!(!layout.root().exists());
        let foreign = Layout::find(Some(dir.path().to_path_buf())).unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years").unwrap();
        delete(&foreign).unwrap();
        assert!(dir.path().join("thesis.txt").exists());
    }

    #[test]
    fn a_cluster_that_runs_no_more_is_stopped_and_deleted_without_a_word_of_protest() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().join("c"))).unwrap();
        std::fs::create_dir_all(layout.node("bramble-1")).unwrap();
        let mut cluster = Cluster::new("u".into(), String::new(), Runtime::Simulated, None, Ports { api: 1, mqtts: 2, mqtt: 3 });
        cluster.grow(1, None, None);
        cluster.save(&layout.state()).unwrap();
        stop(&layout).unwrap();
        assert!(layout.state().exists());
        delete(&layout).unwrap();
        assert!(!layout.root().exists());
    }
}
