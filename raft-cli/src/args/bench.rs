//! Arguments of `raft bench`.

use super::connection::Connection;
use super::values;
use clap::{Args, Subcommand};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft bench put --clients 1,64,256,1024
  raft bench get --clients 64 --serializable
  raft -o json bench put --duration 30s

Closed loop: each client sends its next request when it has the answer to the last, so clients
divided by the average latency is the throughput. Keys are bench/0000000000 and so on; remove
them with `raft del --prefix bench/`.";

/// Measure throughput and latency.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub workload: Workload,
}

impl Bench {
    /// What both workloads take.
    pub const fn load(&self) -> &Load {
        match &self.workload {
            Workload::Put(load) => load,
            Workload::Get(get) => &get.load,
        }
    }
}

/// What `raft bench` measures.
#[derive(Subcommand, Clone, Debug)]
pub enum Workload {
    /// Writes, each durable on a quorum before it is answered.
    #[command(after_help = EXAMPLES)]
    Put(Load),
    /// Reads of keys that are there; those missing are written first.
    #[command(after_help = EXAMPLES)]
    Get(GetLoad),
}

/// Arguments of both workloads.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Clients at once; a list measures one after the other.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub clients: Vec<u32>,
    /// Bytes of each value.
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub value_size: u32,
    /// Different keys, chosen at random.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub keys: u64,
    /// How long each measurement takes.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub duration: Duration,
    /// How long to run before measuring.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    pub warmup: Duration,
    /// Connections, shared by the clients; spread over the nodes. One per endpoint if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: Option<u16>,
    /// Print JSON; the same as `-o json`.
    #[arg(long)]
    pub json: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `raft bench get`.
#[derive(Args, Clone, Debug)]
pub struct GetLoad {
    /// What both workloads take.
    #[command(flatten)]
    pub load: Load,
    /// Answer from what the asked node has, without asking the others.
    #[arg(long)]
    pub serializable: bool,
}
