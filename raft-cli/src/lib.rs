//! The binary `raft` as a library, so that its parts can be tested without starting processes.

pub mod args;
pub mod cert;
pub mod demo;
pub mod failure;
pub mod inspect;
pub mod logging;
pub mod output;
pub mod records;
pub mod serve;
pub mod transaction;
