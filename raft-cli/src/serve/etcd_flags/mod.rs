//! etcd's flags on `raft serve`: what they are called there, and what they come to here.
//!
//! A node is told in one of two vocabularies who it is. Ours names ids (`--id`, `--cluster`), that
//! of etcd names and URLs (`--name`, `--initial-cluster`). What etcd's say is put into ours
//! ([`map`], a pure function), so that there is one plan of a node and one way to start it. Flags
//! that both have (`--data-dir`, `--heartbeat-interval`, ...) are one flag each.
//!
//! # Ids
//!
//! The initial members are numbered from 1 in the order of their names in `--initial-cluster`. etcd
//! hashes URLs and token into 64 bits; numbers are chosen because they are what everything else
//! here calls nodes (`n1`, certificates, logs, `raft status`), because `etcdctl member add` hands
//! out the number after the highest one, and because no client loses digits of them. All members
//! must be given the same `--initial-cluster`, as in etcd: the id of the cluster is derived from
//! it, and nodes of different clusters refuse each other. So a list that differs starts no second
//! cluster with clashing numbers.
//!
//! With `--initial-cluster-state existing` nothing is derived: the node asks the others who is a
//! member, and is the one at its own peer URL. Once it knows who it is, it notes that in its
//! directory ([`identity`]), and from then on the list is not looked at any more, as in etcd: it
//! tells how the cluster began, and members come and go.

mod file;
mod foreign;
pub mod identity;
pub mod map;
mod urls;
pub mod words;

pub use file::read;
#[doc(hidden)]
pub use file::read_text;
pub use foreign::{FOREIGN, Foreign, Told, Verdict};
pub use urls::{Scheme, Url};

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The heading of these flags in the help.
pub const HEADING: &str = "Flags of etcd";

/// Flags that etcd and `raft serve` both have, and that mean the same.
pub const SHARED: [&str; 5] =
    ["data-dir", "log-level", "client-cert-auth", "heartbeat-interval", "election-timeout"];

/// Whether to begin with the others or to come to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum State {
    /// The members of the list form the cluster.
    New,
    /// The cluster is there, and this node was added to it.
    Existing,
}

/// By what auto-compaction goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum CompactionMode {
    /// By time.
    #[default]
    Periodic,
    /// By revisions.
    Revision,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum TlsVersion {
    /// 1.2.
    #[value(name = "TLS1.2")]
    Tls12,
    /// 1.3.
    #[value(name = "TLS1.3")]
    Tls13,
}

/// etcd's flags that mean something here; each stands in the environment as well, under etcd's
/// name: ETCD_NAME and so on.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
pub struct EtcdFlags {
    /// This node's name, in --initial-cluster and for people [default: default].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where to listen (TCP) for clients of the etcd v3 API [default: http://localhost:2379].
    #[arg(long, value_name = "URL,...", value_delimiter = ',', value_parser = Url::parse)]
    pub listen_client_urls: Vec<Url>,
    /// Where those clients reach this node [default: where it listens].
    #[arg(long, value_name = "URL,...", value_delimiter = ',', value_parser = Url::parse)]
    pub advertise_client_urls: Vec<Url>,
    /// Where to listen (UDP) for the other nodes [default: http://localhost:2380].
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = Url::parse)]
    pub listen_peer_urls: Vec<Url>,
    /// Where the other nodes reach this one [default: as --initial-cluster says].
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = Url::parse)]
    pub initial_advertise_peer_urls: Vec<Url>,
    /// The members the cluster starts with; the same on all of them [default: this node alone].
    #[arg(long, value_name = "NAME=URL,...", value_delimiter = ',', value_parser = urls::member)]
    pub initial_cluster: Vec<(String, Url)>,
    /// Whether the members of --initial-cluster form a cluster, or this node was added to theirs by
    /// `etcdctl member add` [default: new].
    #[arg(long, value_name = "new|existing", value_enum, hide_possible_values = true)]
    pub initial_cluster_state: Option<State>,
    /// Any text; tells clusters apart that have the same members [default: etcd-cluster].
    #[arg(long, value_name = "TEXT")]
    pub initial_cluster_token: Option<String>,
    /// Bytes of the store from which on growth is refused; 0 is 2 GiB, below it there is no limit.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub quota_backend_bytes: Option<i64>,
    /// By what --auto-compaction-retention goes [default: periodic].
    #[arg(long, value_name = "periodic|revision", value_enum, hide_possible_values = true)]
    pub auto_compaction_mode: Option<CompactionMode>,
    /// How long, in hours without a unit, or how many revisions are kept; 0 is all.
    #[arg(long, value_name = "TIME|N")]
    pub auto_compaction_retention: Option<String>,
    /// How often a watch is told how far it has come when nothing happens.
    #[arg(long, value_name = "TIME", value_parser = crate::args::values::duration)]
    pub experimental_watch_progress_notify_interval: Option<std::time::Duration>,
    /// Operations that one list of a transaction may have, of clients of the etcd v3 API; 1024 at
    /// most [default: 128].
    #[arg(long, value_name = "N")]
    pub max_txn_ops: Option<u32>,
    /// Bytes of the longest request that writes, of clients of the etcd v3 API; 1.5 MiB at most
    /// [default: 1572864].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_request_bytes: Option<u64>,
    /// What requests over HTTP that are not encrypted may call this server; * is anything [default:
    /// *].
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    pub host_whitelist: Vec<String>,
    /// The least version of TLS at https:// URLs [default: TLS1.2].
    #[arg(long, value_name = "TLS1.2|TLS1.3", value_enum, hide_possible_values = true)]
    pub tls_min_version: Option<TlsVersion>,
    /// The highest version of TLS there [default: TLS1.3].
    #[arg(long, value_name = "TLS1.2|TLS1.3", value_enum, hide_possible_values = true)]
    pub tls_max_version: Option<TlsVersion>,
    /// The suites of TLS 1.2 there, by name [default: all that there are, which are safe].
    #[arg(long, value_name = "SUITE,...", value_delimiter = ',')]
    pub cipher_suites: Vec<String>,
    /// What the hash of a password costs, 4 to 31: each one more takes twice as long [default: 10].
    #[arg(long, value_name = "N")]
    pub bcrypt_cost: Option<u32>,
    /// How long a token is valid after its last use, in seconds [default: 300].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub auth_token_ttl: Option<u32>,
    /// Certificate (PEM) of the server for clients at https:// URLs. It is read anew when it
    /// changes, as are the two below.
    #[arg(long, value_name = "FILE")]
    pub cert_file: Option<PathBuf>,
    /// The private key of --cert-file (PEM).
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Authority (PEM) that must have certified clients at https:// URLs.
    #[arg(long, value_name = "FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Serve https:// URLs with a certificate made here.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub auto_tls: Option<bool>,
    /// Certificate (PEM) of this node for the others; any that --peer-trusted-ca-file signed is
    /// taken for a node's.
    #[arg(long, value_name = "FILE")]
    pub peer_cert_file: Option<PathBuf>,
    /// The private key of --peer-cert-file (PEM).
    #[arg(long, value_name = "FILE")]
    pub peer_key_file: Option<PathBuf>,
    /// Authority (PEM) that must have certified the other nodes.
    #[arg(long, value_name = "FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Encrypt what nodes say to each other with a certificate made here, which proves nothing;
    /// done without --peer-cert-file in any case.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub peer_auto_tls: Option<bool>,
    /// Where to tell metrics and health, beside the URLs for clients.
    #[arg(long, value_name = "URL,...", value_delimiter = ',', value_parser = Url::parse)]
    pub listen_metrics_urls: Vec<Url>,
    /// etcd's file of the same settings, YAML or JSON; its environment is not looked at then.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
}

/// The name of a flag's variable in etcd's environment.
pub fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// A value of `flag` as it is written here: Go has more ways to write a boolean.
pub fn boolean_of(flag: &str, value: &str) -> String {
    const SWITCHES: [&str; 3] = ["auto-tls", "peer-auto-tls", "client-cert-auth"];
    let foreign = || FOREIGN.iter().any(|foreign| foreign.switch && foreign.flag == flag);
    let boolean = match value {
        "1" | "t" | "T" | "TRUE" | "True" => "true",
        "0" | "f" | "F" | "FALSE" | "False" => "false",
        _ => return value.to_owned(),
    };
    let switch = SWITCHES.contains(&flag) || foreign();
    if switch { boolean.to_owned() } else { value.to_owned() }
}
