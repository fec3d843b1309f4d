//! Which engine answers, and what of its API is not Docker's: every difference that we know has its place and its name here.
//!
//! In:       `/version`, and what an engine says when a start fails.
//! Out:      facts about the engine that is there, for the hands beside this file.
//! Never:    asks (`docker.rs` does, whenever it connects).
//! Source:   Podman's compat API, 4.3.1, seen by running every test of `tests/docker` on it; docs/engines.md lists it for people.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{SystemVersion, VolumeCreateRequest};
use serde_json::Value;

/// The name of Podman's part in `/version`.
const PODMAN: &str = "Podman Engine";

/// Whose API it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Docker's own.
    #[default]
    Docker,
    /// Podman's likeness of it.
    Podman,
}

/// The engine behind the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Engine {
    /// Whose.
    pub(super) kind: Kind,
    /// Its own version, not the API's.
    pub(super) version: String,
}

impl Engine {
    /// What `/version` says.
    pub(super) fn of(version: SystemVersion) -> Self {
        let part = version.components.unwrap_or_default().into_iter().find(|part| part.name == PODMAN);
        match part {
            Some(podman) => Self { kind: Kind::Podman, version: podman.version },
            None => Self { kind: Kind::Docker, version: version.version.unwrap_or_default() },
        }
    }

    /// Before `://` in a container's id and in the node's `containerRuntimeVersion`.
    pub(super) fn scheme(&self) -> &'static str {
        match self.kind {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        }
    }

    /// The events of a container that change what a pod is. Podman shows `die` and filters by its own word for it, and calls a
    /// removal by another name; it has no event for a process that was killed for its memory.
    pub(super) fn events(&self) -> Vec<String> {
        let words: &[&str] = match self.kind {
            Kind::Docker => &["create", "start", "die", "destroy", "oom"],
            Kind::Podman => &["create", "start", "died", "cleanup", "remove"],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// How often a container is looked at again whose state is none of Docker's (`stopped`, `initialized`).
    pub(super) fn odd_moments(&self) -> u32 {
        match self.kind {
            Kind::Docker => 0,
            Kind::Podman => 60,
        }
    }

    /// Whether there is an event for a process that was killed for its memory.
    pub(super) fn tells_oom(&self) -> bool {
        self.kind == Kind::Docker
    }

    /// A container's body as this engine understands it. With another one's network, Docker shares that one's name too, and an empty
    /// list of paths that are hidden is no list at all to Podman: it wants to be told of both.
    pub(super) fn body(&self, mut body: Value) -> Value {
        if self.kind == Kind::Podman
            && let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut)
            && let Some(joined) =
                host.get("NetworkMode").filter(|mode| mode.as_str().is_some_and(|mode| mode.starts_with("container:"))).cloned()
        {
            host.insert("UTSMode".to_owned(), joined);
        }
        if self.kind == Kind::Podman
            && let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut)
            && host.get("MaskedPaths").and_then(Value::as_array).is_some_and(Vec::is_empty)
            && let Some(options) = host.entry("SecurityOpt").or_insert_with(|| Value::Array(Vec::new())).as_array_mut()
        {
            options.push("unmask=ALL".into());
        }
        body
    }

    /// The volumes that have to be made before this container: Podman makes those that it finds in a body, but without their labels and
    /// without what they are made of. `page_bytes`: the kernel's.
    pub(super) fn volumes_first(&self, body: &Value, page_bytes: u64) -> Vec<VolumeCreateRequest> {
        let mounts = body.pointer("/HostConfig/Mounts").and_then(Value::as_array).filter(|_| self.kind == Kind::Podman);
        let named = mounts.into_iter().flatten().filter(|mount| mount.get("Type").is_some_and(|kind| kind == "volume"));
        named
            .map(|mount| VolumeCreateRequest {
                name: read(mount.get("Source")),
                labels: read(mount.pointer("/VolumeOptions/Labels")),
                driver: Some("local".to_owned()),
                driver_opts: read(mount.pointer("/VolumeOptions/DriverConfig/Options"))
                    .map(|options| in_pages(options, page_bytes)),
                ..VolumeCreateRequest::default()
            })
            .collect()
    }

    /// Whether the bridge of a network is there before the first container.
    pub(super) fn makes_bridges_at_once(&self) -> bool {
        self.kind == Kind::Docker
    }

    /// Whether it knows, or at least keeps without a warning, how a network's own addresses are reached from outside.
    pub(super) fn takes_gateway_mode(&self) -> bool {
        self.kind == Kind::Docker
    }

    /// Whether the start was refused because somebody else has that address. Docker says so in four words, which of a port begin with a
    /// small letter; Podman names it.
    pub(super) fn says_address_taken(&self, address: Ipv4Addr, words: &str) -> bool {
        match self.kind {
            Kind::Docker => words.contains("Address already in use"),
            Kind::Podman => words.contains(&format!("address {address} is not available")) || words.contains("already allocated"),
        }
    }

    /// Whether a create was refused because the name is taken: a 409 of Docker's, and of Podman a 500 with these words.
    pub(super) fn says_taken(&self, status: u16, words: &str) -> bool {
        match self.kind {
            Kind::Docker => status == 409,
            Kind::Podman => status == 409 || words.contains("is already in use"),
        }
    }

    /// Whether a name may be taken by something that no question finds: what a Podman that was killed in between left in its
    /// storage. A removal by force takes it away.
    pub(super) fn may_have_remains(&self) -> bool {
        self.kind == Kind::Podman
    }

    /// Who has joined the container whose removal was refused with these words; `None`: that was not why. Docker lets it go.
    pub(super) fn joined(&self, words: &str) -> Option<Vec<String>> {
        let (_, listed) = words.split_once("has dependent containers").filter(|_| self.kind == Kind::Podman)?;
        let ids = listed.split(|char: char| !char.is_ascii_hexdigit()).filter(|word| word.len() == 64);
        Some(ids.map(str::to_owned).collect())
    }

    /// How a seccomp profile is named to it: Docker takes the text, Podman a path that it reads itself.
    pub(super) fn seccomp(&self, path: &str, text: String) -> String {
        match self.kind {
            Kind::Docker => text,
            Kind::Podman => path.to_owned(),
        }
    }

    /// Whether a sandbox's `/etc/hosts` has its name in full; Podman knows the short one only.
    pub(super) fn writes_full_name(&self) -> bool {
        self.kind == Kind::Docker
    }

    /// Whether a fetch failed because a list of images has none for the platform that was asked for. Docker is asked for what there
    /// is before; Podman does not answer that question.
    pub(super) fn says_no_such_platform(&self, words: &str) -> bool {
        self.kind == Kind::Podman && words.contains("no image found in manifest list")
    }

    /// Whether it binds a path so that nothing there can be run. Docker refuses the word; of a volume that is mounted so, Podman forgets
    /// it with each container's own mount.
    pub(super) fn binds_without_exec(&self) -> bool {
        self.kind == Kind::Podman
    }

    /// Whether what is put into a container's volumes is there before its start. Podman keeps the modes for then.
    pub(super) fn opens_volumes_before_start(&self) -> bool {
        self.kind == Kind::Docker
    }

    /// Whether the end of a log that it is asked for can be more than that: Podman counts from the back of a file that its container
    /// begins anew meanwhile, and then gives all of it.
    pub(super) fn miscounts_tails(&self) -> bool {
        self.kind == Kind::Podman
    }

    /// Whether a failed start is kept in the container's own state. Podman answers the request and leaves the container as it was
    /// before; who asked must remember.
    pub(super) fn keeps_failed_starts(&self) -> bool {
        self.kind == Kind::Docker
    }
}

/// The size of a volume in memory, counted in pages: what is called `size` Podman takes for a disk's quota.
fn in_pages(mut options: HashMap<String, String>, page_bytes: u64) -> HashMap<String, String> {
    if let Some(words) = options.get_mut("o") {
        let one = |word: &str| match word.strip_prefix("size=").and_then(|bytes| bytes.parse::<u64>().ok()) {
            Some(bytes) => format!("nr_blocks={}", bytes.div_ceil(page_bytes.max(1)).max(1)),
            None => word.to_owned(),
        };
        *words = words.split(',').map(one).collect::<Vec<_>>().join(",");
    }
    options
}

/// A part of a body, in another shape.
fn read<T: serde::de::DeserializeOwned>(part: Option<&Value>) -> Option<T> {
    part.and_then(|part| serde_json::from_value(part.clone()).ok())
}

/// What a start that failed counts as having ended with. Source: Docker's `setExitCodeFromError`, for engines that do not say it.
pub(super) fn exit_code(words: &str) -> i64 {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["executable file not found", "no such file or directory", "system cannot find the file specified"]) {
        127
    } else if has(&["permission denied", "not a directory", "is a directory"]) {
        126
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_is_known_by_its_part_and_everything_else_is_docker() {
        let of = |value| Engine::of(serde_json::from_value(value).unwrap());
        let podman = of(serde_json::json!({"Version": "9", "Components": [
            {"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon", "Version": "2"}]}));
        assert_eq!((podman.scheme(), podman.version.as_str()), ("podman", "4.3.1"));
        let docker = of(serde_json::json!({"Version": "20.10.24", "Components": [{"Name": "Engine", "Version": "20.10.24"}]}));
        assert_eq!((docker.scheme(), docker.version.as_str()), ("docker", "20.10.24"));
        assert_eq!(of(serde_json::json!({})).kind, Kind::Docker);
    }

    #[test]
    fn podman_is_told_whose_name_is_shared_and_gets_its_volumes_first() {
        let podman = Engine { kind: Kind::Podman, ..Engine::default() };
        let body = serde_json::json!({"HostConfig": {"NetworkMode": "container:abc", "Mounts": [
            {"Type": "bind", "Source": "/a"},
            {"Type": "volume", "Source": "v", "VolumeOptions": {"Labels": {"a": "b"}, "DriverConfig": {"Options": {"type": "tmpfs", "o": "mode=777,size=4097"}}}}]}});
        assert_eq!(podman.body(body.clone())["HostConfig"]["UTSMode"], "container:abc");
        assert_eq!(Engine::default().body(body.clone()), body);
        let volumes = podman.volumes_first(&body, 4096);
        let [volume] = volumes.as_slice() else { panic!("{volumes:?}") };
        assert_eq!(volume.name.as_deref(), Some("v"));
        assert_eq!(volume.labels.as_ref().unwrap()["a"], "b");
        let options = volume.driver_opts.as_ref().unwrap();
        assert_eq!((options["type"].as_str(), options["o"].as_str()), ("tmpfs", "mode=777,nr_blocks=2"));
        assert_eq!(Engine::default().volumes_first(&body, 4096), []);
        let bare = serde_json::json!({"HostConfig": {"MaskedPaths": [], "ReadonlyPaths": []}});
        assert_eq!(podman.body(bare.clone())["HostConfig"]["SecurityOpt"][0], "unmask=ALL");
        assert_eq!(Engine::default().body(bare.clone()), bare);
        let host = serde_json::json!({"HostConfig": {"NetworkMode": "host"}});
        assert_eq!(podman.body(host.clone()), host);
    }

    #[test]
    fn what_podman_refuses_is_known_by_its_words() {
        let (docker, podman) = (Engine::default(), Engine { kind: Kind::Podman, ..Engine::default() });
        let taken = "creating container storage: the container name \"a\" is already in use by f7";
        assert!(podman.says_taken(500, taken) && docker.says_taken(409, "") && !docker.says_taken(500, taken));
        assert!(!podman.says_taken(500, "no such image"));
        let (one, two) = ("6b".repeat(32), "5d".repeat(32));
        let words =
            format!("container {one} has dependent containers which must be removed before it: {two}: container already exists");
        assert_eq!((podman.joined(&words), docker.joined(&words), podman.joined(taken)), (Some(vec![two]), None, None));
        assert_eq!(
            (docker.seccomp("/a", "{}".to_owned()), podman.seccomp("/a", "{}".to_owned())),
            ("{}".to_owned(), "/a".to_owned())
        );
    }

    #[test]
    fn a_start_that_failed_has_dockers_code() {
        for (words, code) in [
            (
                "runc: exec: \"/no/such\": stat /no/such: no such file or directory: OCI runtime attempted to invoke a command that was not found",
                127,
            ),
            ("exec: \"nope\": executable file not found in $PATH", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("cannot set up the network", 128),
        ] {
            assert_eq!(exit_code(words), code, "{words}");
        }
    }
}
