//! Tests of the core from outside.

mod codec;
mod random;
mod scripts;
mod tidy;
