//! The command line: what every verb takes, and the examples its help teaches with. One file per
//! verb. Nothing here acts; it parses.

pub mod auth;
pub mod barrier;
pub mod bench;
pub mod broadcast;
pub mod cas;
pub mod cert;
pub mod check;
pub mod compact;
pub mod completion;
pub mod config;
pub mod connection;
pub mod del;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod get;
pub mod group;
pub mod health;
pub mod hold;
pub mod import;
pub mod inspect;
pub mod integrity;
pub mod lease;
pub mod member;
pub mod partition;
pub mod put;
pub mod queue;
pub mod recover;
pub mod role;
pub mod scrub;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod text;
pub mod transfer;
pub mod txn;
pub mod user;
pub mod values;
pub mod watch;

use crate::output::Format;
use crate::output::colour::When;
use clap::{Parser, Subcommand};
use connection::Connection;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Start here:
  raft demo --dir /tmp/trio                  three nodes on this machine, until Ctrl-C
  raft --dir /tmp/trio put greeting hello    in a second terminal
  raft --dir /tmp/trio get greeting
  raft --dir /tmp/trio status

Exit codes:
  0  done
  1  the answer is no: key not found, condition not met
  2  wrong command line or input
  3  refused by the cluster: certainly no effect; the same again will be refused again
  4  unavailable, no node or no quorum reached: certainly no effect; try again later
  5  outcome unknown: sent, but no answer came; it may have taken effect
  6  something on this machine: a file, a port, a certificate, a disk

Errors are one line on stderr; with `-o json`, one JSON object.";

/// A replicated key-value store on Raft.
#[derive(Parser, Clone, Debug)]
#[command(name = "raft", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// How to print results: tables for people, JSON for programs, plain lines as etcdctl's for
    /// shells.
    #[arg(short, long, value_name = "table|json|simple", global = true)]
    #[arg(value_enum, default_value_t, hide_possible_values = true)]
    pub output: Format,
    /// When to colour: on a terminal unless NO_COLOR is set, always, or never.
    #[arg(long, value_name = "auto|always|never", global = true)]
    #[arg(value_enum, default_value_t, hide_possible_values = true)]
    pub color: When,
    /// File with settings; see `raft help config` [env: RAFT_CONFIG].
    #[arg(id = "config-file", long = "config", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How to reach a cluster; may stand after the verb as well.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// Run a whole cluster on this machine.
    Demo(demo::Demo),
    /// Run one node.
    Serve(Box<serve::Serve>),
    /// Set a key.
    Put(put::Put),
    /// Read a key, a range or a prefix.
    Get(get::Get),
    /// Delete a key, a range or a prefix.
    Del(del::Del),
    /// Set a key if it is what you think it is.
    Cas(cas::Cas),
    /// Run a transaction: conditions, and operations for either answer.
    Txn(txn::Txn),
    /// Print changes of keys as they happen.
    Watch(watch::Watch),
    /// Forget old revisions.
    Compact(compact::Compact),
    /// Grant, keep alive and end leases.
    Lease(lease::Lease),
    /// Hold a lock, and run a command meanwhile.
    Lock(hold::Lock),
    /// Lead an election, and run a command meanwhile.
    Elect(hold::Elect),
    /// Be a member of a group, and see who is.
    Group(group::Group),
    /// Share work out among those who are there.
    Partition(partition::Partition),
    /// Hold others up, and wait for each other.
    Barrier(barrier::Barrier),
    /// Push, pop and list items of a queue.
    Queue(queue::Queue),
    /// Send a message to all subscribers of a topic.
    Broadcast(broadcast::Broadcast),
    /// Print the messages of a topic as they come.
    Subscribe(broadcast::Subscribe),
    /// Show all members: role, term, indexes, progress.
    Status(status::Status),
    /// Tell whether all members and the cluster are well.
    Health(health::Health),
    /// Have all members compare all their data now.
    Scrub(scrub::Scrub),
    /// Show or change the members.
    Member(member::Member),
    /// Have everybody log in, or nobody.
    Auth(auth::Auth),
    /// Show or change users.
    User(user::User),
    /// Show or change roles and what they permit.
    Role(Box<role::Role>),
    /// Hand leadership to another node.
    Transfer(transfer::Transfer),
    /// Load keys and values from JSON lines or TSV.
    Import(import::Import),
    /// Write keys and values as JSON lines or TSV.
    Export(export::Export),
    /// Measure throughput and latency.
    Bench(bench::Bench),
    /// Check the election timeout against the network and the disk.
    Doctor(doctor::Doctor),
    /// Check that what clients see is what a cluster promises.
    Check(check::Check),
    /// Make certificates for a cluster.
    Cert(cert::Cert),
    /// Look into a node's data directory.
    Inspect(inspect::Inspect),
    /// Make a new cluster of what survived the loss of a quorum.
    Recover(recover::Recover),
    /// Save, check and restore backups.
    Snapshot(snapshot::Snapshot),
    /// Show where settings come from, and check them.
    Config(Box<config::Config>),
    /// Print a shell's completion script.
    Completion(completion::Completion),
}
