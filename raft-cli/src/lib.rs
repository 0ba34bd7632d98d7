//! The binary `raft` as a library, so that its parts can be tested without starting processes.

pub mod args;
pub mod failure;
pub mod output;
pub mod records;
pub mod transaction;
