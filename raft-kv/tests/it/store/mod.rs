//! The state machine, through its public interface.

mod compaction;
mod durability;
mod formats;
mod leases;
mod legacy;
mod limits;
mod model;
mod naive;
mod packed;
mod ranges;
mod semantics;
mod sessions;
mod snapshots;
mod support;
mod transactions;
