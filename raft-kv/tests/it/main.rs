//! The crate's integration tests.

mod catch_up;
mod client;
mod cluster;
mod fake;
mod integrity;
mod leases;
mod members;
mod store;
mod watch;
mod wire;
