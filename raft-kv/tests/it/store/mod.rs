//! The state machine, through its public interface.

mod durability;
mod limits;
mod model;
mod semantics;
mod sessions;
mod snapshots;
mod support;
