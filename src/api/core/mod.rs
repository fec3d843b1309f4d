//! `core/v1`: lenses with the questions that are asked in more than one place.

pub mod address_pool;
pub mod condition;
pub mod event;
pub mod join;
pub mod node;
pub mod pod;
pub mod priority;
pub mod resources;
pub mod service;
pub mod volume;
