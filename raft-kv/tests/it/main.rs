//! The crate's integration tests.

mod catch_up;
mod client;
mod clocks;
mod cluster;
mod examples;
mod fake;
mod lease_guard;
mod members;
mod pages;
mod recipes;
mod store;
mod wire;
