//! `bramble flash`: a node put into a Raspberry Pi OS card, or an image of one, before its first boot.
//!
//! In:       an image, a card, or a mounted boot partition; what the node is to be.
//! Out:      files on the boot partition, and a first boot that puts them into place.
//! Never:    needs root for an image, mounts anything, or touches another partition than the FAT one.
//!
//! ```text
//! what was typed ─▶ settings ─┐
//! partition ─▶ volume ─▶ contents ─▶ plan ─▶ volume (geometry, overlay) ─▶ card
//!                             └─▶ cloud_init | firstrun: texts of the first boot
//! disk: files, devices, what is in use; the only one here that touches this machine
//! ```
//!
//! The Pi finds the agent, its unit, its configuration and its certificate in the folder `bramble`; `first_boot/install.sh` takes them from there,
//! started by cloud-init or by `first_boot/firstrun.sh`, and removes what is secret.

pub mod cloud_init;
pub mod device;
pub mod disk;
pub mod firstrun;
pub mod geometry;
pub mod overlay;
pub mod partition;
pub mod plan;
pub mod program;
pub mod settings;
pub mod volume;

#[cfg(test)]
mod tests;
