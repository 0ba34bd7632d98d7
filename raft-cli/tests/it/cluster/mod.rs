//! Three real processes on loopback, killed, stopped, restarted and fed wrong input.

mod crash;
mod demo;
mod handover;
mod quorum;
mod support;
mod wrong;
