//! Three real processes on loopback, killed, stopped, restarted and fed wrong input.

mod config;
mod crash;
mod damage;
mod demo;
mod docs;
mod handover;
mod holding;
mod quorum;
mod recover;
mod support;
mod wrong;
