//! Tests of the binary `raft` and its library.

mod cert;
mod cluster;
