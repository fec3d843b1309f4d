//! Pods in real Docker. Needs Docker at `/var/run/docker.sock` with its command line, `/bin/busybox` (Debian's
//! busybox-static) and, for one test, `docker-registry`; `BRAMBLE_SKIP=docker` leaves all of it out and says so.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test may die of what it did not expect

#[path = "docker/support.rs"]
mod support;

#[path = "docker/devices.rs"]
mod devices;
#[path = "docker/faults.rs"]
mod faults;
#[path = "docker/hooks.rs"]
mod hooks;
#[path = "docker/images.rs"]
mod images;
#[path = "docker/limits.rs"]
mod limits;
#[path = "docker/logs.rs"]
mod logs;
#[path = "docker/namespaces.rs"]
mod namespaces;
#[path = "docker/own_docker.rs"]
mod own_docker;
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
#[path = "docker/volumes.rs"]
mod volumes;

/// What runs in the sandboxes of these tests: this very program, started with this test's name.
#[test]
#[ignore = "the body of the sandbox, not a test"]
fn sandbox_process() {
    bramble::agent::runtime::exec::sandbox_main().unwrap();
}
