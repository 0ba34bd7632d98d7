//! Tools for those who implement the traits or test on the core.
//!
//! [`Cluster`] is a whole cluster in one thread without clock, network or disk: whoever drives it
//! decides what happens next. [`Checker`] watches every step of it; [`Script`] drives it by plain
//! text. [`Model`] tries out every order of a few events. Nothing in here knows the driver `node`.

mod checker;
mod cluster;
mod model;
mod script;
mod server;
mod spec;

pub use checker::Checker;
pub use cluster::Cluster;
pub use model::{Bounds, Model, Report, Sight, Violation};
pub use script::{Argument, Script};
pub use server::{Machine, Server};
pub use spec::Spec;
