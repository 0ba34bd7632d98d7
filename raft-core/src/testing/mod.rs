//! Tools for those who implement the traits or test on the core.
//!
//! [`Cluster`] is a whole cluster in one thread without clock, network or disk: whoever drives it
//! decides what happens next. [`Checker`] watches every step of it; [`Script`] drives it by plain
//! text, [`Simulation`] by chance, with the user's own state machine and clients; [`Model`] tries
//! out every order of a few events. [`linear`] judges what clients saw, [`Spec`] what servers do.
//!
//! [`log_store`], [`state_machine`] and [`transport`] are conformance kits: one call says whether
//! an implementation of the trait keeps to its contract, or which [`Breach`] of it there is.
//! Nothing in here knows the driver `node`.

mod breach;
mod checker;
mod cluster;
pub mod linear;
pub mod log_store;
mod machine;
mod model;
mod random;
mod replica;
mod script;
mod server;
mod simulation;
mod spec;
pub mod state_machine;
mod store;
pub mod transport;

pub use breach::Breach;
pub use checker::Checker;
pub use cluster::Cluster;
pub use machine::{Digest, Machine};
pub use model::{Bounds, Model, Report, Sight, Violation};
pub use random::{Random, StableHasher};
pub use replica::{Applied, Machines, Replica};
pub use script::{Argument, Script};
pub use server::Server;
pub use simulation::{
    Ask, CellClients, Cells, Event, Failure, Outcome, Recovery, Simulation, SimulationConfig, Step,
    Sweep, Workload, examine, seeds, sweep,
};
pub use spec::Spec;
pub use store::Stores;
