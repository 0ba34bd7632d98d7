//! A client of ZooKeeper's protocol, as much of it as measuring needs: one session per connection,
//! and requests that are sent before earlier ones are answered.

mod load;
mod wire;

pub use load::{Load, Measured, Operation, fill, measure};
pub use wire::{NO_NODE, NODE_EXISTS, Request, Session, done};

#[cfg(test)]
mod tests;
