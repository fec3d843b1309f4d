//! What a pod has on the node's own disk: its directory, and the content of its volumes in there.
//!
//! ```text
//!  content.rs   spec + share → the files of each content volume, or what it waits for
//!  layout.rs    how they lie on disk, so that all change at once
//!  image.rs     image volumes where the engine mounts none: names, what goes, room
//!  disk.rs      hands: makes it so; hostPath checks; sub-paths that cannot lead out; how much is used
//! ```

pub mod content;
pub mod discard;
pub mod disk;
pub mod image;
pub mod layout;
mod points;
