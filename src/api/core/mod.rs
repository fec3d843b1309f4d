//! `core/v1`: lenses with the questions that are asked in more than one place.

pub mod condition;
pub mod event;
pub mod node;
pub mod pod;
pub mod priority;
pub mod resources;
pub mod volume;
