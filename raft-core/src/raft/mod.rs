//! The pure core.
mod config;
mod io;
mod message;

pub use config::{Config, ConfigError};
pub use io::{Apply, GroupOp, Input, Loaded, LogGap, LogOp, Output, Write};
pub use message::{AppendEntries, AppendOutcome, Envelope, Message, ReadRequestId};

/// placeholder
pub struct Raft;
