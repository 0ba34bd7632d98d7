//! Integration tests of the durable log.

mod conformance;
mod crash;
mod damage;
mod disk;
mod files;
mod fixtures;
mod fuzz;
mod inspect;
mod packed;
mod purge;
mod rot;
mod round_trip;
mod support;
mod tail;
mod versions;
