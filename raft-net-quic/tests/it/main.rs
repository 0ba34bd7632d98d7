//! The transport over real sockets on loopback, with certificates made for each test.

mod conformance;
mod fuzz;
mod hostile;
mod kit;
mod lives;
mod messages;
mod offers;
mod probe;
mod relay;
mod requests;
mod resumption;
mod security;
mod snapshots;
mod streams;
mod trust;
mod versions;
