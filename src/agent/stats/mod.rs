//! What the node and its containers use: read only when somebody asks.

pub mod run;
