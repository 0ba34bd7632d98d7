//! Three real processes on loopback, killed, stopped, restarted and fed wrong input.

mod crash;
mod damage;
mod demo;
mod handover;
mod integrity;
mod quorum;
mod recover;
mod snapshot;
mod support;
mod wrong;
