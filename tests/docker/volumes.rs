//! volumes of every kind, and their live updates, on real Docker.

use std::time::Duration;

use bramble::agent::pods::dir;
use bramble::agent::volumes::disk;
use bramble::api::Uid;
use bramble::link::share::Share;

use crate::support::{Agent, Cluster, skipped};

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_a_pod_that_nobody_knows_is_removed_once_the_share_is_known() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let uid = Uid::from("uid-forgotten");
    disk::make(&dir::container(cluster.run.path(), &uid, "app", 0)).unwrap();
    let agent = Agent::start(&cluster);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(disk::has_pod(cluster.run.path(), &uid), "it may be in the share that is not here yet");
    agent.want(Share::default()).await;
    wait_until("it is gone", || !disk::has_pod(cluster.run.path(), &uid)).await;
}
