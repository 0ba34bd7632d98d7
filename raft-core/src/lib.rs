//! raft-core
pub mod codec;
pub mod log_store;
#[cfg(feature = "tokio")]
pub mod node;
pub mod raft;
pub mod state_machine;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod types;
