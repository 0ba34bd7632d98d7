//! Tests of the core from outside.

mod random;
mod scripts;
