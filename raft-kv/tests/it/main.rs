//! The crate's integration tests.

mod catch_up;
mod client;
mod cluster;
mod fake;
mod members;
mod reference;
mod simulation;
mod store;
mod wire;
