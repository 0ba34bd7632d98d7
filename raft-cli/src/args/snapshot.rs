//! Arguments of `raft snapshot`.

use super::connection::Connection;
use super::values;
use clap::{Args, Subcommand};
use raft_core::types::{ClusterId, NodeId};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft --dir /tmp/trio snapshot save backup.snap
  raft snapshot status backup.snap

  A new cluster of one, then of three, made of a backup:
    raft snapshot restore backup.snap --to n1 --members n1=10.0.0.1:2380
    raft snapshot restore backup.snap --to new \\
      --members n1=10.0.0.1:2380,n2=10.0.0.2:2380,n3=10.0.0.3:2380

`save` writes everything that was acknowledged before it began, from whichever endpoint answers
first, while the cluster goes on; the file gets its name once it is complete, checked and on the
disk. `restore` talks to nobody: it writes data directories, with several members one below DIR for
each, and says how to start them. The new cluster has a new id and a new history: its revision leaps
by 1,000,000,000 and everything before counts as compacted, so that whoever watched or read the old
one is told. Leases have their full time again, sessions are gone.

Exit codes: 2 wrong arguments; 4 no node was reached or makes a backup now; 6 the file is damaged,
cannot be read or written.";

/// Save, check and restore backups.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Snapshot {
    /// What to do.
    #[command(subcommand)]
    pub action: SnapshotAction,
}

/// What `raft snapshot` does.
#[derive(Subcommand, Clone, Debug)]
pub enum SnapshotAction {
    /// Write a backup of everything to a file.
    Save(SnapshotSave),
    /// Check a backup, and show what is in it.
    Status(SnapshotStatus),
    /// Make the data directories of a new cluster of a backup.
    Restore(SnapshotRestore),
}

/// Arguments of `raft snapshot save`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotSave {
    /// The file to write.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the node has applied, even if it has no quorum.
    #[arg(long)]
    pub local: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `raft snapshot status`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotStatus {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `raft snapshot restore`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotRestore {
    /// The backup; it is only read.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The new data directory, or, with several members, what theirs will lie in; absent or empty.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The members of the new cluster, with the addresses others will reach them at.
    #[arg(long, value_name = "nN=HOST:PORT,...", value_delimiter = ',', required = true)]
    #[arg(value_parser = values::member)]
    pub members: Vec<(NodeId, String)>,
    /// The new cluster's id, hexadecimal; drawn at random if left out.
    #[arg(long, value_name = "HEX", value_parser = values::cluster)]
    pub cluster_id: Option<ClusterId>,
}
