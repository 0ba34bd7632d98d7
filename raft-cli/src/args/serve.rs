//! Arguments of `raft serve`.

use super::integrity::Integrity;
use super::values;
use crate::serve::etcd_flags::{EtcdFlags, Told};
use crate::serve::plan::Proof;
use clap::{ArgAction, ArgGroup, Args, ValueEnum};
use raft_core::types::{ClusterId, NodeId};
use raft_kv::service::Compaction;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  The first of three nodes; start the other two alike with their own --id and files:
    raft serve --id 1 --data-dir n1 --ca ca.pem --cert n1.pem --key n1-key.pem \\
      --cluster n1=10.0.0.1:2380,n2=10.0.0.2:2380,n3=10.0.0.3:2380

  A cluster of one:
    raft serve --id 1 --data-dir n1 --ca ca.pem --cert n1.pem --key n1-key.pem --single

  With etcd's flags, as etcd itself (docs/etcd.md):
    raft serve --name a --initial-advertise-peer-urls http://10.0.0.1:2380 \\
      --listen-peer-urls http://10.0.0.1:2380 --listen-client-urls http://10.0.0.1:2379 \\
      --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380

  A fourth node for a running cluster, whose id `raft status -o json` tells; it waits until
  `raft member add n4=10.0.0.4:2380` adds it:
    raft serve --id 4 --data-dir n4 --ca ca.pem --cert n4.pem --key n4-key.pem \\
      --join --cluster-id 8ab93df4556da4fe --listen 10.0.0.4:2380

Every option can also stand in a file (--config FILE, RAFT_CONFIG) or in the environment: --data-dir
is data-dir under [serve] in the file, and RAFT_DATA_DIR. `raft config example` prints such a file,
`raft config check` says what holds and where it came from.

The same command starts a node the first time and every other time, also after its directory was
lost or moved aside because it was damaged: the other nodes know that it is another life of it, and
take it back once they have not heard of the earlier one for an election timeout. As long as there
is a folder damaged-N in its directory, a node never helps to form a new cluster. The newest two of
these folders are kept; one that is renamed to something else stays.

When it serves, it prints one line on stdout: `n1 listening on 10.0.0.1:2380`. What it waits for, it
logs. SIGTERM and Ctrl-C stop it cleanly; a leader hands leadership over first.

Exit codes: 0 stopped as asked; 2 the command line, the certificates or the identity of the data are
wrong; 6 the data is damaged (with --on-damage stop or --single) or in use, the port is in use, or
the disk failed.";

/// What to do with damaged data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum OnDamage {
    /// Move it aside and come back blank, as a new life that the other nodes take back.
    #[default]
    Rejoin,
    /// Stop and touch nothing.
    Stop,
}

/// Run one node.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, args_override_self = true)]
#[command(group = ArgGroup::new("formation").args(["cluster", "single", "join"]))]
pub struct Serve {
    /// Which of all flags were said. It stands first: what is parsed takes its values away.
    #[command(flatten)]
    pub told: Told,
    /// The node's directory: log, checkpoint and identity; made if missing.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The node's id within the cluster, from 1.
    #[arg(long, value_name = "N", value_parser = values::node)]
    pub id: Option<NodeId>,
    /// Where to listen (UDP), for peers and clients; the advertised address if left out.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::address)]
    pub listen: Option<String>,
    /// Where to listen (TCP) for clients of the etcd v3 API, over gRPC and in JSON; nowhere if left
    /// out. Without encryption: --listen-client-urls has it.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::address)]
    pub etcd_listen: Option<String>,
    /// The address others reach this node at; the one in --cluster if left out.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::address)]
    pub advertise: Option<String>,
    /// Where this node reaches another one, if not at the address that one advertises: for proxies,
    /// tunnels and address translation. Only what nodes say to each other goes there.
    #[arg(long, value_name = "nN=HOST:PORT,...", value_delimiter = ',')]
    #[arg(value_parser = values::member)]
    pub peer_address: Vec<(NodeId, String)>,
    /// The members the cluster starts with, this node included; the same on all of them.
    #[arg(long, value_name = "nN=HOST:PORT,...", value_delimiter = ',')]
    #[arg(value_parser = values::member)]
    pub cluster: Vec<(NodeId, String)>,
    /// This node alone is the cluster.
    #[arg(long)]
    pub single: bool,
    /// Wait to be added to the running cluster of --cluster-id, by `raft member add`.
    #[arg(long)]
    pub join: bool,
    /// The cluster's id, hexadecimal; derived from --cluster and --cluster-token if left out.
    /// Nodes of different clusters refuse each other.
    #[arg(long, value_name = "HEX", value_parser = values::cluster)]
    pub cluster_id: Option<ClusterId>,
    /// Any text; tells clusters apart that have, or once had, the same members.
    #[arg(long, value_name = "TEXT", default_value = "raft", conflicts_with = "cluster_id")]
    pub cluster_token: String,
    /// What to do if the data is damaged, part of it is gone, or, at any time, it differs from that
    /// of a majority: move all of it into a folder damaged-N beside and get it back from the other
    /// nodes, or stop. A cluster of one stops.
    #[arg(long, value_name = "rejoin|stop", value_enum, default_value_t)]
    #[arg(hide_possible_values = true)]
    pub on_damage: OnDamage,
    /// Certificate (PEM) of the authority that every node must be certified by.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This node's certificate (PEM).
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The private key of --cert (PEM).
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Whether clients must show a certificate of the authority, too.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    pub client_cert_auth: bool,
    /// How often a leader tells its followers that it lives; a multiple of 10ms. A bare number is
    /// one of milliseconds. If left out, a quarter of an --election-timeout below 400ms.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = values::interval)]
    pub heartbeat_interval: Duration,
    /// Silence of a leader after which a follower stands for election: at least this long, at
    /// most twice as long. Four heartbeats or more, so 40ms at least; if left out, that many of a
    /// --heartbeat-interval above 100ms. A leader whose process has ended, on a machine that runs,
    /// is replaced without waiting for it.
    #[arg(long, value_name = "TIME", default_value = "400ms", value_parser = values::interval)]
    pub election_timeout: Duration,
    /// Answer linearizable reads on the leader without asking a quorum, as long as it holds a
    /// lease: faster, but only as right as clocks are; they may differ in speed by a fifth.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub lease_reads: bool,
    /// Bytes of applied entries after which the state is written to the checkpoint and the log
    /// shortened; 4KiB to 1TiB.
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = values::size)]
    pub checkpoint_bytes: u64,
    /// Bytes of all versions of all keys from which on growth is refused while this node leads;
    /// deletes and compactions are still taken, and make room.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = values::size)]
    pub quota: u64,
    /// What a leader forgets by itself: nothing (`off`), all but the last so many revisions
    /// (`revisions:N`), or what is older than so long (`periodic:TIME`).
    #[arg(long, value_name = "off|revisions:N|periodic:TIME", default_value = "revisions:250000")]
    #[arg(value_parser = values::compaction)]
    pub auto_compaction: Compaction,
    /// How often a watch that wants to know is told how far it has come when nothing happens.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = values::duration)]
    pub watch_progress_interval: Duration,
    /// How its data is compared with the others'.
    #[command(flatten)]
    pub integrity: Integrity,
    /// What to log to stderr, as in `info` or `raft_core=debug,info`; RUST_LOG if left out, and
    /// `info` without that.
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// Stop as on SIGTERM when standard input ends: a child that must not outlive its parent.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
    /// The same in etcd's flags, and the door for clients of its API.
    #[command(flatten)]
    pub etcd: EtcdFlags,
    /// How nodes prove to each other who they are: not a flag, but what several come to.
    #[arg(skip)]
    pub proof: Proof,
}
