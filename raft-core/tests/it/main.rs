//! Tests of the core from outside.

mod codec;
mod node;
mod random;
mod scripts;
mod tidy;
