//! What a pod has on the node's own disk: its directory, and the content of its volumes in there.

pub mod discard;
pub mod disk;
