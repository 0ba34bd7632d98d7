//! Arguments of `raft bench`.

use super::connection::Connection;
use super::values;
use crate::failure::Failure;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft bench put --clients 1,64,256,1024
  raft bench get --clients 64 --all-modes
  raft bench put --rate 5000 --clients 256 --html put.html
  raft bench put --api etcd --endpoints 127.0.0.1:2379 --clients 64,256 \\
      --compare 127.0.0.1:12379,127.0.0.1:22379 --pids 11,12,13 --compare-pids 21,22,23

Closed loop: each client sends its next request when it has the answer to the last, so clients
divided by the average latency is the throughput. With --rate, requests begin when they are due,
and what has to wait for a client counts as latency. Keys are bench/0000000000 and so on; remove
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
    /// What all workloads take.
    pub const fn load(&self) -> &Load {
        match &self.workload {
            Workload::Put(load) | Workload::Txn(load) => load,
            Workload::Get(get) => &get.load,
            Workload::Mixed(mixed) => &mixed.load,
            Workload::Watch(watch) => &watch.load,
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
    /// Linearizable reads, and now and then a write.
    #[command(after_help = EXAMPLES)]
    Mixed(MixedLoad),
    /// Compare-and-swap: each client writes a key of its own, if nobody else has.
    #[command(after_help = EXAMPLES)]
    Txn(Load),
    /// Writes that watchers are told of; counted and timed is what they are told.
    #[command(after_help = EXAMPLES)]
    Watch(WatchLoad),
}

/// How requests are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Api {
    /// By this project's protocol, over QUIC.
    Native,
    /// By etcd's API, over gRPC.
    Etcd,
}

/// Arguments of all workloads.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Clients at once; a list measures one after the other.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub clients: Vec<u32>,
    /// Open loop: so many requests begin in a second, all clients together, whatever becomes of
    /// the earlier ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
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
    /// How often each measurement is made; a table shows the median. Default 3 with --compare.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Connections, shared by the clients; spread over the nodes. One per endpoint if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: Option<u16>,
    /// How requests are made; for etcd's API, --endpoints are by default 127.0.0.1:2379.
    #[arg(long, value_enum, default_value_t = Api::Native)]
    pub api: Api,
    /// Processes whose processor time is counted: the servers, if they run on this machine.
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Endpoints of another cluster, which is measured in turn.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    #[arg(value_parser = values::address)]
    pub compare: Vec<String>,
    /// How requests to the other cluster are made.
    #[arg(long, value_enum, default_value_t = Api::Etcd, requires = "compare")]
    pub compare_api: Api,
    /// Processes of the other cluster.
    #[arg(long, value_name = "PID,...", value_delimiter = ',', requires = "compare")]
    pub compare_pids: Vec<u32>,
    /// Write a page with plots of the latencies.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print JSON; the same as `-o json`.
    #[arg(long)]
    pub json: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

impl Load {
    /// How the cluster is reached. Over etcd's API nobody proves anything unless --ca says so.
    pub fn connection(&self) -> Connection {
        let native = self.api == Api::Native
            || (!self.compare.is_empty() && self.compare_api == Api::Native);
        let insecure = self.connection.insecure || (!native && self.connection.ca.is_none());
        Connection { insecure, ..self.connection.clone() }
    }

    /// How often each measurement is made.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.compare.is_empty() { 1 } else { 3 })
    }
}

/// Arguments of `raft bench get`.
#[derive(Args, Clone, Debug)]
pub struct GetLoad {
    /// What all workloads take.
    #[command(flatten)]
    pub load: Load,
    /// Answer from what the asked node has, without asking the others.
    #[arg(long, conflicts_with_all = ["causal", "all_modes"])]
    pub serializable: bool,
    /// Answer from what the asked node has, once that is what the client has seen before, or later.
    #[arg(long, conflicts_with = "all_modes")]
    pub causal: bool,
    /// Measure linearizable, causal and serializable reads, one after the other.
    #[arg(long)]
    pub all_modes: bool,
}

impl GetLoad {
    /// That etcd's API can ask for what is to be measured.
    ///
    /// # Errors
    /// Of kind `Usage`.
    pub fn check(&self) -> Result<(), Failure> {
        let etcd = self.load.api == Api::Etcd
            || (!self.load.compare.is_empty() && self.load.compare_api == Api::Etcd);
        match etcd && (self.causal || self.all_modes) {
            true => Err(Failure::usage("etcd's API knows no causal reads")
                .advice("measure linearizable ones, or those with --serializable")),
            false => Ok(()),
        }
    }
}

/// Arguments of `raft bench mixed`.
#[derive(Args, Clone, Debug)]
pub struct MixedLoad {
    /// What all workloads take.
    #[command(flatten)]
    pub load: Load,
    /// How many of a hundred requests are reads.
    #[arg(long, value_name = "PERCENT", default_value_t = 90)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reads: u8,
}

/// Arguments of `raft bench watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchLoad {
    /// What all workloads take; the clients are those who write.
    #[command(flatten)]
    pub load: Load,
    /// Watchers, each of all keys that are written.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub watchers: u32,
}
