//! raft-kv
pub mod api;
#[cfg(any(feature = "client", feature = "service"))]
mod check;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
#[cfg(feature = "service")]
pub mod service;
pub mod store;
pub mod wire;

#[cfg(feature = "client")]
pub use client::Client;
