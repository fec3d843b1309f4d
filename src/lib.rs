//! Bramble: Kubernetes for a shoebox of Raspberry Pis.

pub mod api;
pub mod backoff;
pub mod clock;
pub mod error;
pub mod link;
pub mod rng;
pub mod step;
pub mod task;
pub mod tls;

pub mod config;
pub mod telemetry;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "master")]
pub mod apiserver;
pub mod board;
#[cfg(feature = "master")]
pub mod broker;
#[cfg(feature = "master")]
pub mod controller;
#[cfg(feature = "master")]
pub mod dispatcher;
#[cfg(feature = "master")]
pub mod local;
#[cfg(feature = "master")]
pub mod master;
#[cfg(feature = "master")]
pub mod scheduler;
#[cfg(feature = "master")]
pub mod store;

pub mod cli;
