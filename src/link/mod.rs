//! What master and node say to each other, over MQTT (DESIGN §7). (skeleton)

pub mod bus;
pub mod call;
pub mod share;
