//! Tests of the core from outside.

mod codec;
mod mechanisms;
mod node;
mod paper;
mod random;
mod scripts;
mod tidy;
