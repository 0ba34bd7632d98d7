//! The crate's integration tests.

mod client;
mod cluster;
mod fake;
mod store;
mod wire;
