//! Tests of the core from outside.

mod codec;
mod mechanisms;
mod node;
mod paper;
mod partitions;
mod random;
mod scripts;
mod tidy;
