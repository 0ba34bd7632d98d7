//! raft-core
pub mod codec;
pub mod log_store;
pub mod raft;
pub mod state_machine;
pub mod transport;
pub mod types;
