//! The state machine, through its public interface.

mod durability;
mod formats;
mod leases;
mod legacy;
mod limits;
mod model;
mod packed;
mod semantics;
mod sessions;
mod snapshots;
mod support;
