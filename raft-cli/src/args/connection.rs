//! How to reach a cluster: flags after the verb, those before it, the environment, the file, in
//! this order of precedence. In each of them a directory made by `raft demo` stands for what is not
//! said beside it.

use super::values;
use crate::config::{Config, Layer, Origin};
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
    /// Trust whoever answers: for nodes that prove nothing, as those started with etcd's flags and
    /// no certificates. Anybody between can read and change everything [env: RAFT_INSECURE].
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// This client's certificate (PEM), where nodes demand one [env: RAFT_CERT].
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The private key of --cert (PEM) [env: RAFT_KEY].
    #[arg(id = "key-file", long = "key", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The user to log in as, where everybody has to; the password better stands elsewhere
    /// [env: RAFT_USER].
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    pub user: Option<String>,
    /// File with the password of --user; without one it is taken from RAFT_PASSWORD
    /// [env: RAFT_PASSWORD_FILE].
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// How long one operation may take, retries included [env: RAFT_DEADLINE]
    /// [default: 5s; import: 1m].
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
    /// Certificate of the authority; without one, whoever answers is trusted.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its private key, if it has one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who to log in as, if anybody: `NAME` or `NAME:PASSWORD`.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// The deadline asked for, if any.
    pub deadline: Option<Duration>,
}

impl Target {
    /// Who to log in as, and with what password.
    ///
    /// # Errors
    /// Of kind `Usage` if there is no password, `Local` if its file cannot be read.
    pub fn credentials(&self) -> Result<Option<(String, String)>, Failure> {
        let Some(user) = &self.user else { return Ok(None) };
        if let Some((name, password)) = user.split_once(':') {
            return Ok(Some((name.into(), password.into())));
        }
        let password = match (&self.password_file, std::env::var(PASSWORD_VARIABLE)) {
            (Some(file), _) => crate::verbs::auth::password_in(file)?,
            (None, Ok(password)) => password,
            (None, Err(_)) => {
                return Err(Failure::usage(format!("no password of {user} given"))
                    .advice(format!("give --password-file, or set {PASSWORD_VARIABLE}")));
            }
        };
        Ok(Some((user.clone(), password)))
    }
}

/// The variable that may hold a password.
pub const PASSWORD_VARIABLE: &str = "RAFT_PASSWORD";

impl Connection {
    /// Decides from the flags after the verb (`self`), those before it, the environment, the file
    /// and the defaults.
    ///
    /// # Errors
    /// Of kind `Usage` if something needed is missing, `Local` if a file cannot be read.
    pub fn resolve(self, before: Self, config: &Config) -> Result<Target, Failure> {
        let [environment, file] = config.connections();
        settle(&[Layer::flags(self), Layer::flags(before), environment, file])?.target()
    }
}

/// What holds, and where each part of it was said; `None` where nothing was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "each is the flag of its name")]
pub struct Settled {
    pub dir: Option<(PathBuf, Origin)>,
    pub endpoints: Option<(Vec<String>, Origin)>,
    pub ca: Option<(PathBuf, Origin)>,
    pub insecure: Option<Origin>,
    pub cert: Option<(PathBuf, Origin)>,
    pub key: Option<(PathBuf, Origin)>,
    pub user: Option<(String, Origin)>,
    pub password_file: Option<(PathBuf, Origin)>,
    pub deadline: Option<(Duration, Origin)>,
}

/// Decides from what several places say, the strongest first.
///
/// # Errors
/// If a directory holds no [`CLIENT_FILE`] that can be read, and is needed.
pub fn settle(layers: &[Layer]) -> Result<Settled, Failure> {
    let mut settled = Settled::default();
    for layer in layers {
        let said = &layer.connection;
        let path =
            |key: &str, path: &Option<PathBuf>| path.clone().map(|path| (path, layer.origin(key)));
        if !said.endpoints.is_empty() && settled.endpoints.is_none() {
            settled.endpoints = Some((said.endpoints.clone(), layer.origin("endpoints")));
        }
        // Whichever of the two is said first holds.
        if settled.ca.is_none() && settled.insecure.is_none() {
            settled.ca = path("ca", &said.ca);
            settled.insecure = said.insecure.then(|| layer.origin("insecure"));
        }
        settled.cert = settled.cert.or_else(|| path("cert", &said.cert));
        settled.key = settled.key.or_else(|| path("key", &said.key));
        let user = said.user.clone().map(|user| (user, layer.origin("user")));
        settled.user = settled.user.or(user);
        let file = path("password-file", &said.password_file);
        settled.password_file = settled.password_file.or(file);
        let deadline = said.deadline.map(|time| (time, layer.origin("deadline")));
        settled.deadline = settled.deadline.or(deadline);
        if settled.dir.is_none() {
            settled.dir = path("dir", &said.dir);
            settled.take_directory()?;
        }
    }
    Ok(settled)
}

impl Settled {
    /// What the directory says where nothing stronger did.
    fn take_directory(&mut self) -> Result<(), Failure> {
        let trusts = self.ca.is_some() || self.insecure.is_some();
        let complete = self.endpoints.is_some() && trusts;
        let complete = complete && self.cert.is_some() && self.key.is_some();
        let Some((dir, _)) = self.dir.as_ref().filter(|_| !complete) else { return Ok(()) };
        let file = ClientFile::read(dir)?;
        let origin = Origin::Directory(dir.join(CLIENT_FILE));
        let from_it = |value| Some((value, origin.clone()));
        let endpoints = file.endpoints;
        self.endpoints = self.endpoints.take().or_else(|| Some((endpoints, origin.clone())));
        if !trusts {
            self.ca = from_it(file.ca);
        }
        self.cert = self.cert.take().or_else(|| from_it(file.cert));
        self.key = self.key.take().or_else(|| from_it(file.key));
        Ok(())
    }

    /// What a client needs, with the defaults.
    ///
    /// # Errors
    /// Of kind `Usage` if something is missing.
    pub fn target(self) -> Result<Target, Failure> {
        let value = |said: Option<(PathBuf, Origin)>| said.map(|(path, _)| path);
        let default = || vec![ENDPOINT_DEFAULT.to_owned()];
        let endpoints = self.endpoints.map_or_else(default, |(list, _)| list);
        let ca = match (value(self.ca), self.insecure) {
            (None, None) => return Err(missing("--ca")),
            (ca, _) => ca,
        };
        let identity = match (value(self.cert), value(self.key)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(missing("--key")),
            (None, Some(_)) => return Err(missing("--cert")),
        };
        let user = self.user.map(|(user, _)| user);
        let (password_file, deadline) =
            (value(self.password_file), self.deadline.map(|(time, _)| time));
        Ok(Target { endpoints, ca, identity, user, password_file, deadline })
    }
}

fn missing(flag: &str) -> Failure {
    Failure::new(Kind::Usage, format!("no {flag} given"))
        .advice("give --dir DIR of a `raft demo` cluster, or --ca, --cert and --key")
}
