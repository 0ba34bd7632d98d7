//! Arguments of `raft cert`.

use super::values;
use clap::{Args, Subcommand};
use raft_core::types::NodeId;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft cert ca certs
  raft cert node certs --id 1 --host 10.0.0.1 --host n1.example.org
  raft cert client certs --name backup

Files made in DIR: ca.pem, ca-key.pem; n1.pem, n1-key.pem; backup.pem, backup-key.pem.
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
    /// Where to write; made if missing. Nothing there is overwritten.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// How long it is valid, in days.
    #[arg(long, value_name = "N", default_value_t = 3650)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
}

/// Arguments of `raft cert node`.
#[derive(Args, Clone, Debug)]
pub struct CertNode {
    /// The directory with ca.pem and ca-key.pem; nothing there is overwritten.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The node's id.
    #[arg(long, value_name = "N", value_parser = values::node)]
    pub id: NodeId,
    /// A name or address clients reach the node at; may be repeated.
    #[arg(long = "host", value_name = "NAME|IP", default_value = "127.0.0.1")]
    pub hosts: Vec<String>,
    /// How long it is valid, in days.
    #[arg(long, value_name = "N", default_value_t = 825)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
}

/// Arguments of `raft cert client`.
#[derive(Args, Clone, Debug)]
pub struct CertClient {
    /// The directory with ca.pem and ca-key.pem; nothing there is overwritten.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The client's name; also that of its files.
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub name: String,
    /// How long it is valid, in days.
    #[arg(long, value_name = "N", default_value_t = 825)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
}
