//! The state machine, through its public interface.

mod check;
mod durability;
mod formats;
mod limits;
mod model;
mod packed;
mod semantics;
mod sessions;
mod snapshots;
mod support;
