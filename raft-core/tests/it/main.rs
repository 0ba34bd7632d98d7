//! Tests of the core from outside.

mod catch_up;
mod codec;
mod mechanisms;
mod model;
mod node;
mod paper;
mod partitions;
mod protocol;
mod random;
mod references;
mod scripts;
mod spec;
mod tidy;
mod votes;
