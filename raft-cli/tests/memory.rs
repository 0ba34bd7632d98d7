//! The fuzz targets of all crates under their limit on memory, in the short run that is the same
//! every time; see `fuzz/README.md`. The limit is the process's, so they have one of their own.

#[allow(dead_code, unreachable_pub, missing_docs, reason = "the fuzzer's programs use the rest")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
