//! Three real processes on loopback, killed, stopped, restarted and fed wrong input.

mod config;
mod crash;
mod damage;
mod demo;
mod handover;
mod quorum;
mod recover;
mod support;
mod wrong;
