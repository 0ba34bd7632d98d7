//! The crate's integration tests.

// The examples have it, too, each for itself.
#[allow(clippy::duplicate_mod)]
#[path = "../../examples/support/alike.rs"]
mod alike;
mod auth;
mod catch_up;
mod client;
mod clocks;
mod cluster;
mod conformance;
mod counters;
#[cfg(feature = "etcd")]
mod etcd;
mod examples;
mod fake;
mod fuzz;
mod integrity;
mod lease_guard;
mod leases;
mod members;
mod pages;
mod recipes;
mod reference;
mod refused;
mod simulation;
mod space;
mod store;
mod watch;
mod wire;
