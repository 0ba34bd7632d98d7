//! The state machine, through its public interface.

mod alarms;
mod auth;
mod check;
mod compaction;
mod durability;
mod epochs;
mod formats;
mod leases;
mod legacy;
mod limits;
mod model;
mod naive;
mod packed;
mod power_loss;
mod quick;
mod ranges;
mod scan;
mod semantics;
mod sessions;
mod snapshots;
mod support;
mod transactions;
mod watched;
