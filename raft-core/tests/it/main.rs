//! Tests of the core from outside.

mod catch_up;
mod checked;
mod codec;
mod conformance;
mod fuzz;
mod linear;
mod mechanisms;
mod model;
mod mutants;
mod node;
mod outputs;
mod paper;
mod partitions;
mod protocol;
mod random;
mod references;
mod restarts;
mod scripts;
mod simulation;
mod spec;
mod stores;
mod streams;
mod tidy;
mod votes;
