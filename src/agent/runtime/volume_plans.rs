//! What the runtime is asked for about volumes: to make what they need, and to show them in containers.

use std::collections::BTreeMap;

use crate::agent::pods::spec::HostPathType;

/// What a pod's volumes need on the node before a container of it starts, and again whenever the share changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumesPlan {
    /// Content that has to be there.
    pub contents: Vec<ContentPlan>,
    /// Paths of the host that have to be there.
    pub host_paths: Vec<HostPathPlan>,
}

impl VolumesPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.host_paths.is_empty()
    }

    /// The first half of SHA-256 over all of it: another one is to be made so again.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        for content in &self.contents {
            part(format!("{} {:?} {} {:?}", content.volume, content.group, content.files.len(), content.points).as_bytes());
            for (path, file) in &content.files {
                part(path.as_bytes());
                part(&file.mode.to_le_bytes());
                part(&file.content);
            }
        }
        part(format!("{:?}", self.host_paths).as_bytes());
        let mut half = [0; 16];
        half.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        half
    }
}

/// A path of the host that has to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPathPlan {
    /// The volume's name in the pod.
    pub volume: String,
    /// Absolute.
    pub path: String,
    /// What has to be there.
    pub kind: HostPathType,
    /// `fsGroup`, if it is a persistent volume that may be written: whose group all in there is.
    pub group: Option<u32>,
}

/// The whole content of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentPlan {
    /// The volume's name in the pod.
    pub volume: String,
    /// By path: relative, without `..`.
    pub files: BTreeMap<String, ContentFile>,
    /// `fsGroup`: whose group it all is.
    pub group: Option<u32>,
    /// Where something else is mounted in it, and as what: nobody can make that place in a read-only mount.
    pub points: BTreeMap<String, Point>,
}

/// What another mount needs to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A directory.
    Folder,
    /// A file.
    File,
}

/// A file in a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentFile {
    /// Permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A volume of a pod that the runtime keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumePlan {
    /// Its name in the pod.
    pub name: String,
    /// What it is.
    pub kind: VolumeKind,
    /// `fsGroup`: the group of its root, and of what is made in there.
    pub group: Option<u32>,
}

/// What a volume that the runtime keeps is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VolumeKind {
    /// On disk.
    #[default]
    Disk,
    /// In memory, at most so many bytes when a number is given.
    Memory(Option<u64>),
    /// An image's files, unpacked on this node: the engine binds them so that nobody can write or run them.
    Unpacked {
        /// Which image: its id without what stands before the digits.
        image: String,
        /// Absolute; a directory.
        path: String,
    },
    /// A directory of another machine.
    Nfs {
        /// Host name or address.
        server: String,
        /// Absolute path on the server.
        path: String,
        /// For `mount.nfs`, as a person wrote them.
        options: Vec<String>,
    },
}

/// A volume in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPlan {
    /// Path in the container.
    pub path: String,
    /// Where from.
    pub source: MountSource,
    /// Which part of it, relative and without `..`; empty: all.
    pub sub_path: String,
    /// Whether it cannot write.
    pub read_only: bool,
    /// Whether what is mounted below is read-only too.
    pub recursive_read_only: Recursive,
    /// Whether mounts that are made later cross.
    pub propagation: Propagation,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A volume of the pod that the runtime keeps, by name.
    Volume(String),
    /// A volume of the pod whose content is a directory of the agent, by name.
    Content(String),
    /// A path of the host.
    Host {
        /// Absolute.
        path: String,
        /// Whether the runtime makes a directory where there is nothing.
        make: bool,
    },
    /// A path of an image's files, unpacked on this node, on an engine that binds it so that nobody can write or run what is there.
    Unpacked(String),
    /// The files of an image.
    Image {
        /// The volume's name in the pod.
        volume: String,
        /// The image's name.
        reference: String,
    },
}

impl Default for MountSource {
    fn default() -> Self {
        MountSource::Volume(String::new())
    }
}

/// `recursiveReadOnly`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursive {
    /// What is mounted below stays as it is.
    #[default]
    Disabled,
    /// All of it, where kernel and runtime can.
    IfPossible,
    /// All of it, or the container does not start.
    Enabled,
}

/// `mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Mounts do not cross.
    #[default]
    None,
    /// What the host mounts later shows in the container.
    HostToContainer,
    /// And the other way round.
    Bidirectional,
}
