//! Arguments of `raft cert`.

use super::values;
use clap::{Args, Subcommand};
use raft_core::types::NodeId;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft cert ca certs
  raft cert node certs --id 1 --host 10.0.0.1,n1.example.org
  raft cert client certs --name backup

Files made in DIR: ca.pem, ca-key.pem; n1.pem, n1-key.pem; backup.pem, backup-key.pem. Keys are
ECDSA P-256, readable by their owner only. An authority is valid for ten years, the others for one.
Keep ca-key.pem away from the nodes: who has it can join the cluster.";

/// Make certificates for a cluster.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Cert {
    /// What to make.
    #[command(subcommand)]
    pub kind: CertKind,
}

/// What `raft cert` makes.
#[derive(Subcommand, Clone, Debug)]
pub enum CertKind {
    /// Make a certificate authority: DIR/ca.pem and DIR/ca-key.pem.
    Ca(CertCa),
    /// Make a node's certificate, signed by the authority in DIR.
    Node(CertNode),
    /// Make a client's certificate, signed by the authority in DIR.
    Client(CertClient),
}

/// Arguments of `raft cert ca`.
#[derive(Args, Clone, Debug)]
pub struct CertCa {
    /// Where to write; made if missing.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Replace the files that are there. What an earlier authority signed is then worth nothing.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `raft cert node`.
#[derive(Args, Clone, Debug)]
pub struct CertNode {
    /// The directory with ca.pem and ca-key.pem.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The node's id.
    #[arg(long, value_name = "N", value_parser = values::node)]
    pub id: NodeId,
    /// Names and addresses clients reach the node at; may be repeated.
    #[arg(long = "host", value_name = "NAME|IP,...", default_value = "127.0.0.1")]
    #[arg(value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Replace the files that are there.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `raft cert client`.
#[derive(Args, Clone, Debug)]
pub struct CertClient {
    /// The directory with ca.pem and ca-key.pem.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The client's name; also that of its files.
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub name: String,
    /// Replace the files that are there.
    #[arg(long)]
    pub force: bool,
}
