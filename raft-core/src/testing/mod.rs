//! Tools for those who implement the traits or test on the core.
//!
//! [`Cluster`] is a whole cluster in one thread without clock, network or disk: whoever drives it
//! decides what happens next. [`Checker`] watches every step of it; [`Script`] drives it by plain
//! text. [`linear`] judges what clients saw. Nothing in here knows the driver `node`.

mod checker;
mod cluster;
pub mod linear;
mod script;
mod server;

pub use checker::Checker;
pub use cluster::Cluster;
pub use script::{Argument, Script};
pub use server::{Machine, Server};
