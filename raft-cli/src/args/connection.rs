//! How to reach a cluster: flags before or after the verb, the environment, a directory made by
//! `raft demo`; in that order of precedence.

use super::values;
use crate::failure::{Failure, Kind};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in a cluster's directory that tells clients how to reach it.
pub const CLIENT_FILE: &str = "client.json";
/// Asked when nothing else is said.
pub const ENDPOINT_DEFAULT: &str = "127.0.0.1:2380";
/// How long an operation may take when nothing else is said.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// Flags of every verb that talks to a cluster.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Directory of a cluster made by `raft demo --dir`: its client.json stands for the flags
    /// below [env: RAFT_DIR].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Nodes to ask, in this order; any node of the cluster will do [env: RAFT_ENDPOINTS]
    /// [default: 127.0.0.1:2380].
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    #[arg(value_parser = values::address)]
    pub endpoints: Vec<String>,
    /// Certificate (PEM) of the authority that certified the nodes [env: RAFT_CA].
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This client's certificate (PEM), where nodes demand one [env: RAFT_CERT].
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The private key of --cert (PEM) [env: RAFT_KEY].
    #[arg(id = "key-file", long = "key", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How long one operation may take, retries included [default: 5s; import: 1m].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub deadline: Option<Duration>,
}

/// The contents of [`CLIENT_FILE`]; paths are relative to its directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClientFile {
    /// Nodes, `host:port` each.
    pub endpoints: Vec<String>,
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl ClientFile {
    /// Reads the file in `dir`; the paths come back joined to `dir`.
    ///
    /// # Errors
    /// Of kind `Local` if it cannot be read, `Usage` if it is not what it should be.
    pub fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(CLIENT_FILE);
        let text = std::fs::read(&path).map_err(|error| {
            Failure::local(format!("cannot read {}", path.display()), &error)
                .advice("give the directory of a cluster that `raft demo --dir` made")
        })?;
        let file: Self = serde_json::from_slice(&text)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let join = |name: PathBuf| dir.join(name);
        Ok(Self { ca: join(file.ca), cert: join(file.cert), key: join(file.key), ..file })
    }
}

/// What [`Connection`] comes to: everything a client needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Nodes, `host:port` each; at least one.
    pub endpoints: Vec<String>,
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// The client's certificate and its private key, if it has one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The deadline asked for, if any.
    pub deadline: Option<Duration>,
}

impl Connection {
    /// Decides from the flags after the verb (`self`), those before it, the environment and the
    /// defaults.
    ///
    /// # Errors
    /// Of kind `Usage` if something needed is missing or malformed, `Local` if a file cannot be
    /// read.
    pub fn resolve(
        self,
        before: Self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Target, Failure> {
        let path = |name: &str| environment(name).map(PathBuf::from);
        let dir = self.dir.or(before.dir).or_else(|| path("RAFT_DIR"));
        let file = dir.as_deref().map(ClientFile::read).transpose()?;

        let mut endpoints = self.endpoints;
        if endpoints.is_empty() {
            endpoints = before.endpoints;
        }
        if endpoints.is_empty() {
            endpoints = match (&file, environment("RAFT_ENDPOINTS")) {
                (Some(file), _) => file.endpoints.clone(),
                (None, Some(list)) => parse_endpoints(&list)?,
                (None, None) => vec![ENDPOINT_DEFAULT.into()],
            };
        }
        let ca = self.ca.or(before.ca).or_else(|| file.as_ref().map(|file| file.ca.clone()));
        let ca = ca.or_else(|| path("RAFT_CA")).ok_or_else(|| missing("--ca"))?;
        let cert = self.cert.or(before.cert);
        let cert = cert
            .or_else(|| file.as_ref().map(|file| file.cert.clone()))
            .or_else(|| path("RAFT_CERT"));
        let key = self.key.or(before.key);
        let key =
            key.or_else(|| file.as_ref().map(|file| file.key.clone())).or_else(|| path("RAFT_KEY"));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(missing("--key")),
            (None, Some(_)) => return Err(missing("--cert")),
        };
        let deadline = self.deadline.or(before.deadline);
        Ok(Target { endpoints, ca, identity, deadline })
    }
}

fn parse_endpoints(list: &str) -> Result<Vec<String>, Failure> {
    let parse = |text: &str| values::address(text.trim());
    list.split(',')
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::usage(format!("RAFT_ENDPOINTS={list}: {error}")))
}

fn missing(flag: &str) -> Failure {
    Failure::new(Kind::Usage, format!("no {flag} given"))
        .advice("give --dir DIR of a `raft demo` cluster, or --ca, --cert and --key")
}
