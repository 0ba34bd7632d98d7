//! The crate's integration tests.

mod client;
mod fake;
mod store;
mod wire;
