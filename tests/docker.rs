//! Pods in real Docker, and with `BRAMBLE_TEST_ENGINE=podman` the same in a Podman of the tests' own. Needs Docker at
//! `/var/run/docker.sock` (or Debian's podman) with the `docker` command, `/bin/busybox` (Debian's busybox-static) and, for some,
//! `docker-registry`; `BRAMBLE_SKIP=docker` (or `podman`) leaves all of it out and says so.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test may die of what it did not expect

#[path = "docker/engine.rs"]
mod engine;
#[path = "support/left.rs"]
mod left;
#[path = "support/podman.rs"]
mod podman;
#[path = "docker/support.rs"]
mod support;

#[path = "docker/devices.rs"]
mod devices;
#[path = "docker/dual_stack.rs"]
mod dual_stack;
#[path = "docker/early.rs"]
mod early;
#[path = "docker/faults.rs"]
mod faults;
#[path = "docker/filters.rs"]
mod filters;
#[path = "docker/hooks.rs"]
mod hooks;
#[path = "docker/image_volumes.rs"]
mod image_volumes;
#[path = "docker/images.rs"]
mod images;
#[path = "docker/last_words.rs"]
mod last_words;
#[path = "docker/leaks.rs"]
mod leaks;
#[path = "docker/limits.rs"]
mod limits;
#[path = "docker/logs.rs"]
mod logs;
#[path = "docker/names.rs"]
mod names;
#[path = "docker/namespaces.rs"]
mod namespaces;
#[path = "docker/node_network.rs"]
mod node_network;
#[path = "docker/own_docker.rs"]
mod own_docker;
#[path = "docker/own_podman.rs"]
mod own_podman;
#[path = "docker/pods.rs"]
mod pods;
#[path = "docker/pressure.rs"]
mod pressure;
#[path = "docker/probes.rs"]
mod probes;
#[path = "docker/proxy.rs"]
mod proxy;
#[path = "docker/registry.rs"]
mod registry;
#[path = "docker/security.rs"]
mod security;
#[path = "docker/trial.rs"]
mod trial;
#[path = "docker/volumes.rs"]
mod volumes;

/// What runs in the sandboxes of these tests: this very program, started with this test's name.
#[test]
#[ignore = "the body of the sandbox, not a test"]
fn sandbox_process() {
    bramble::agent::runtime::exec::sandbox_main().unwrap();
}
