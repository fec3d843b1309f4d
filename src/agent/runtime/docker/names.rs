//! Hands: the pod's `resolv.conf`, written before its sandbox is made and mounted into each of its containers.
//!
//! The sandbox asks for no names and has none. Docker and Podman both take the mount in place of the file that they would make, also in a
//! container that joins another one's network.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::host::read;
use super::{QUICK, Shared};
use crate::agent::dns::resolv_conf::{ResolvConf, for_pod};
use crate::agent::dns::{DEFAULT_DOMAIN, NameServer};
use crate::agent::pods::dir;
use crate::agent::runtime::{ContainerPlan, Dns, DnsPolicy, Failure, MountPlan, MountSource, Note, SandboxPlan};
use crate::agent::volumes::disk;

/// Where programs look for it.
const PATH: &str = "/etc/resolv.conf";

/// The plan with the names that this cluster's domain gives: a pod's spec alone does not tell it.
pub(super) fn in_domain<'a>(plan: &'a SandboxPlan, server: Option<&NameServer>) -> Cow<'a, SandboxPlan> {
    let domain = match server {
        Some(NameServer::Here { domain, .. }) if domain != DEFAULT_DOMAIN => domain,
        _ => return Cow::Borrowed(plan),
    };
    let usual = format!(".svc.{DEFAULT_DOMAIN}");
    let other = |name: &str| name.strip_suffix(usual.as_str()).map(|rest| format!("{rest}.svc.{domain}"));
    let mut plan = Cow::Borrowed(plan);
    if let Some(domain) = other(&plan.domain) {
        plan.to_mut().domain = domain;
    }
    // Where the pod's host name is its full name.
    if let Some(hostname) = other(&plan.hostname) {
        plan.to_mut().hostname = hostname;
    }
    plan
}

impl Shared {
    /// Writes the file; what a person should know of it.
    pub(super) async fn write_resolv_conf(&self, plan: &SandboxPlan, server: Option<NameServer>) -> Result<Vec<Note>, Failure> {
        // Where nobody can say whether the node answers names, nobody misses it.
        let policy = match (&server, plan.dns.policy) {
            (None, DnsPolicy::Cluster) => DnsPolicy::Host,
            (_, policy) => policy,
        };
        let asked = Dns { policy, ..plan.dns.clone() };
        let host = if policy == DnsPolicy::Own { String::new() } else { self.host_resolv_conf().await? };
        let file = for_pod(&asked, &plan.pod.namespace, &server.unwrap_or_default(), &host);
        let pods = dir::pods(&self.settings.run_dir);
        let (folder, path) =
            (dir::pod(&self.settings.run_dir, &plan.pod.uid), dir::resolv_conf(&self.settings.run_dir, &plan.pod.uid));
        self.on_disk(move || {
            let Some(text) = file.text else {
                return match std::fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            };
            disk::make(&folder)?;
            match write(&path, &text) {
                // A full disk stops no pod whose neighbours have the same file.
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    if share(&pods, &path, &text) {
                        Ok(())
                    } else {
                        Err(error)
                    }
                }
                done => done,
            }
        })
        .await?;
        Ok(file.warnings)
    }

    /// Where the file is to appear, if there is one. What the pod itself mounts there is its own.
    pub(super) async fn resolv_conf_mount(&self, plan: &ContainerPlan) -> Result<Option<MountPlan>, Failure> {
        if plan.mounts.iter().any(|mount| mount.path == PATH) {
            return Ok(None);
        }
        let file = dir::resolv_conf(&self.settings.run_dir, &plan.pod.uid);
        let path = file.to_string_lossy().into_owned();
        let there = self.on_disk(move || file.try_exists()).await?;
        let source = MountSource::Host { path, make: false };
        // As the kubelet mounts it.
        let read_only = plan.security.read_only_root;
        Ok(there.then(|| MountPlan { path: PATH.to_owned(), source, read_only, ..MountPlan::default() }))
    }

    /// Whom this node's pods ask, once that is known.
    pub(super) async fn name_server(&self) -> Option<NameServer> {
        let mut receiver = self.settings.name_server.clone()?;
        // It is decided within seconds; the time-out is for one who died.
        let decided = self.within(QUICK, receiver.wait_for(|server| *server != NameServer::NotYet)).await;
        Some(decided.ok().and_then(Result::ok).map_or(NameServer::Host, |server| server.clone()))
    }

    /// The host's file.
    async fn host_resolv_conf(&self) -> Result<String, Failure> {
        let mut text = String::new();
        for path in &self.settings.resolv_conf {
            text = match read(path.clone()).await {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::Failed(format!("cannot read {}: {error}", path.display()))),
            };
            if !ResolvConf::read(&text).within_reach().servers.is_empty() {
                break;
            }
        }
        Ok(text)
    }
}

/// Writes it beside and renames it: the one that was there may be another pod's as well.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o644).open(&beside)?;
        // Our umask took something off.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        // What is half is of no use, and takes room that there is not.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Takes another pod's file with the same text, if there is one: a link takes no room. Whether it is done.
fn share(pods: &Path, path: &Path, text: &str) -> bool {
    let Some(name) = path.file_name() else { return false };
    let others = std::fs::read_dir(pods).into_iter().flatten().flatten().map(|pod| pod.path().join(name));
    let mut same = others.filter(|other| other != path && std::fs::read_to_string(other).is_ok_and(|there| there == text));
    let beside = path.with_extension("new");
    same.any(|other| std::fs::hard_link(other, &beside).and_then(|()| std::fs::rename(&beside, path)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_a_neighbour_has_is_shared_and_one_that_is_written_anew_is_not_theirs() {
        let run = tempfile::tempdir().unwrap();
        let at = |pod: &str| run.path().join(pod).join("resolv.conf");
        for pod in ["a", "b", "c"] {
            std::fs::create_dir(run.path().join(pod)).unwrap();
        }
        write(&at("a"), "nameserver 10.244.1.1\n").unwrap();
        assert!(!share(run.path(), &at("b"), "nameserver 9.9.9.9\n"), "nobody has that");
        assert!(share(run.path(), &at("b"), "nameserver 10.244.1.1\n"));
        write(&at("b"), "other\n").unwrap();
        let read = |pod: &str| std::fs::read_to_string(at(pod)).unwrap();
        assert_eq!((read("a").as_str(), read("b").as_str()), ("nameserver 10.244.1.1\n", "other\n"));
        assert_eq!(std::fs::read_dir(run.path().join("b")).unwrap().count(), 1, "nothing half is left");
    }

    #[test]
    fn a_pod_is_called_by_its_clusters_domain() {
        let plan = |hostname: &str, domain: &str| SandboxPlan {
            hostname: hostname.into(),
            domain: domain.into(),
            ..SandboxPlan::default()
        };
        let here = |domain: &str| NameServer::Here { address: [10, 244, 1, 1].into(), domain: domain.into() };
        for (server, hostname, domain, expected) in [
            (Some(here("shed.example")), "web", "s.default.svc.cluster.local", ("web", "s.default.svc.shed.example")),
            (Some(here("shed.example")), "web.s.default.svc.cluster.local", "", ("web.s.default.svc.shed.example", "")),
            (Some(here("shed.example")), "web", "", ("web", "")),
            (Some(here("cluster.local")), "web", "s.default.svc.cluster.local", ("web", "s.default.svc.cluster.local")),
            (Some(NameServer::Host), "web", "s.default.svc.cluster.local", ("web", "s.default.svc.cluster.local")),
            (None, "web", "s.default.svc.cluster.local", ("web", "s.default.svc.cluster.local")),
        ] {
            let plan = plan(hostname, domain);
            let made = in_domain(&plan, server.as_ref());
            assert_eq!((made.hostname.as_str(), made.domain.as_str()), expected);
        }
    }
}
