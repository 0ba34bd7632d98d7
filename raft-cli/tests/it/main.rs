//! Tests of the command line, with a cluster of one in memory where one is needed.

mod arguments;
mod bench;
mod failures;
mod fake;
mod import;
mod printing;
mod records;
mod resume;
mod verbs;
