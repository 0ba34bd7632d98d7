//! raft-kv
pub mod api;
pub mod codec;
pub mod store;
