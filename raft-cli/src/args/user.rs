//! Arguments of `raft user`.

use super::auth::Plain;
use super::connection::Connection;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft user add alice --new-password-file alice.pw
  echo 'a secret' | raft user add bob             the password is read from stdin
  raft user add node-7 --no-password              comes with a certificate of that name
  raft user grant-role alice readers
  raft user get alice
  raft user passwd alice --new-password-file new.pw
  raft user delete bob

A password has 72 bytes at most. Who has logged in has to do so again once it is changed.";

/// Show or change users.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct User {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with users.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Make a user.
    Add(Add),
    /// Remove a user.
    Delete(One),
    /// Change a user's password.
    Passwd(Passwd),
    /// Show all users.
    List(Plain),
    /// Show a user's roles.
    Get(One),
    /// Give a user a role.
    GrantRole(Granted),
    /// Take a role from a user.
    RevokeRole(Granted),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Add(Add { connection, .. })
            | Self::Delete(One { connection, .. })
            | Self::Passwd(Passwd { connection, .. })
            | Self::List(Plain { connection })
            | Self::Get(One { connection, .. })
            | Self::GrantRole(Granted { connection, .. })
            | Self::RevokeRole(Granted { connection, .. }) => connection,
        }
    }
}

/// Make a user.
#[derive(Args, Clone, Debug)]
pub struct Add {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// File with its password; without one it is read from stdin.
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// It has no password, and comes with a certificate.
    #[arg(long, conflicts_with = "new_password_file")]
    pub no_password: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Change a password.
#[derive(Args, Clone, Debug)]
pub struct Passwd {
    /// Whose.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// File with the new password; without one it is read from stdin.
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// One user.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// A user and a role.
#[derive(Args, Clone, Debug)]
pub struct Granted {
    /// The user.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The role.
    #[arg(value_name = "ROLE")]
    pub role: String,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
