//! raft-kv
pub mod api;
