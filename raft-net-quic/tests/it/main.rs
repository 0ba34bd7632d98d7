//! The transport over real sockets on loopback, with certificates made for each test.

mod hostile;
mod kit;
mod lives;
mod messages;
mod requests;
mod security;
mod snapshots;
mod versions;
