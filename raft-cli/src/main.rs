//! The binary `raft`.
fn main() {}
