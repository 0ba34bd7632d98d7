//! Integration tests of the durable log.

mod crash;
mod damage;
mod disk;
mod files;
mod inspect;
mod model;
mod purge;
mod round_trip;
mod support;
