//! One pod, from what is wanted and what there is to the next command and to its status.
//!
//! ```text
//!  spec.rs      raw JSON → checked spec, with words for what this node cannot honour
//!  address.rs   its address: the last one, and whether it is lost
//!  admission.rs which pods the node does not take at all
//!  lasting.rs   what is wrong with it, told again while it lasts
//!  launch.rs    checked spec + config maps + addresses → what the runtime is asked for
//!  dir.rs       where the pod's own files lie on the node
//!  image.rs     the image of a container: looked for, fetched, waited for
//!  env.rs       environment variables: sources, fields, $(VAR)
//!  resource_field.rs  limits and requests as numbers that a container can read
//!  ports.rs     who has a port that another pod wants
//!  oom.rs       whom the kernel ends first
//!  lifecycle.rs Live → Ending → Finished → Terminating → Gone; only forward
//!  mount.rs     when its volumes are set up, written anew and measured
//!  restart.rs   whether and when a dead container is started again
//!  plan.rs      at most one command per pod: turn.rs starts, ending.rs stops, memory.rs is what is remembered
//!  status.rs    PodStatus, as the runtime's own times tell it; container.rs the status of one container
//! ```

pub mod address;
pub mod admission;
pub mod dir;
pub mod env;
pub mod image;
pub mod known;
pub mod lasting;
pub mod launch;
pub mod lifecycle;
pub mod mount;
pub mod need;
pub mod oom;
pub mod plan;
pub mod ports;
pub mod resource_field;
pub mod restart;
pub mod service_env;
pub mod spec;
pub mod status;

#[cfg(test)]
mod world;
