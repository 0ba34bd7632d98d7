//! How a node compares its data with the other nodes'.

use super::values;
use clap::Args;
use raft_kv::service::IntegrityConfig;
use std::time::Duration;

/// How a node compares its data with the other nodes'.
#[derive(Args, Clone, Debug)]
pub struct Integrity {
    /// How often a node compares the hash of its state with the others'. One that differs from a
    /// majority does as --on-damage says.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub compare_every: Duration,
    /// How long a node takes to compare all its data with the others', a little at a time, and to
    /// read it back from the disk; then it begins anew.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = values::duration)]
    pub scrub_every: Duration,
}

impl Integrity {
    /// The same for the service.
    pub const fn config(&self) -> IntegrityConfig {
        let (compare_every, scrub_every) = (Some(self.compare_every), Some(self.scrub_every));
        IntegrityConfig { compare_every, scrub_every }
    }
}
