//! Tests of the core from outside.

mod node;
mod random;
mod scripts;
