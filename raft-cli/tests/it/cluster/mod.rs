//! Three real processes on loopback, killed, stopped, restarted and fed wrong input.

mod alike;
mod config;
mod crash;
mod damage;
mod demo;
mod docs;
mod handover;
mod holding;
mod integrity;
mod quorum;
mod recover;
mod snapshot;
pub(crate) mod support;
mod wrong;
