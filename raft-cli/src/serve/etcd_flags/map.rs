//! From etcd's flags to our own. Touches neither disk nor network: what has to be found out there
//! is given (`known`) or asked for ([`Mapped::search`]).

use super::identity::Known;
use super::{CompactionMode, EtcdFlags, FOREIGN, Scheme, State, Url};
use crate::args::serve::Serve;
use crate::args::values;
use crate::failure::Failure;
use crate::serve::plan::{PASSWORD_COSTS, Proof, TICK, cluster_id};
use raft_core::types::NodeId;
use raft_kv::api::{REQUEST_BYTES_MAX, TXN_OPS_MAX};
use raft_kv::etcd::TlsLimits;
use raft_kv::service::{Compaction, PASSWORD_COST};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of ours that tell a node who it is: with one of them, nothing is as in etcd.
const OWN: [&str; 5] = ["id", "cluster", "single", "join", "cluster-id"];

/// Flags of etcd that do the same.
const FORMATION: [&str; 12] = [
    "listen-peer-urls",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-client-cert-auth",
    "peer-auto-tls",
    "discovery",
    "discovery-srv",
];

/// Flags of ours that have another name among etcd's.
const COUNTERPARTS: [(&str, &str); 9] = [
    ("listen", "listen-peer-urls"),
    ("advertise", "initial-advertise-peer-urls"),
    ("cluster-token", "initial-cluster-token"),
    ("ca", "peer-trusted-ca-file"),
    ("cert", "peer-cert-file"),
    ("key", "peer-key-file"),
    ("etcd-listen", "listen-client-urls"),
    ("quota", "quota-backend-bytes"),
    ("auto-compaction", "auto-compaction-retention"),
];

/// What etcd takes where nothing is said.
const NAME: &str = "default";
const TOKEN: &str = "etcd-cluster";
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What etcd's flags come to.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// The same in our own flags.
    pub serve: Serve,
    /// What is to be said of it, a line each.
    pub notes: Vec<String>,
    /// How the node finds out who it is, if only others know.
    pub search: Option<Search>,
}

/// Where a node that was added to a cluster asks who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// Its own address.
    pub own: String,
    /// Those of the others.
    pub others: Vec<String>,
}

/// Whether a node is told in etcd's flags who it is.
pub fn is_etcd(args: &Serve) -> bool {
    let told = &args.told;
    let known = super::words::known();
    let shared = |flag: &str| super::SHARED.contains(&flag);
    let said = |flag: &str| !shared(flag) && known.iter().any(|known| known == flag);
    !OWN.iter().any(|flag| told.has(flag)) && told.flags().any(said)
}

/// Puts etcd's flags into our own; what says nothing in etcd's flags stays as it is. `known` is who
/// the node is if its directory says so.
///
/// # Errors
/// Of kind `Usage`: the first that makes no sense or cannot be had.
pub fn map(args: &Serve, known: Option<Known>) -> Result<Mapped, Failure> {
    let notes = [foreign(args)?, cut(&args.etcd)].concat();
    let mut mapped = Mapped { serve: args.clone(), notes, search: None };
    if !is_etcd(args) {
        let both = FORMATION.iter().find(|flag| args.told.has(flag));
        return match both {
            Some(flag) => usage(format!("--{flag} is for nodes without --id: see docs/etcd.md")),
            None => Ok(mapped),
        };
    }
    for (own, theirs) in COUNTERPARTS {
        let also = own == "quota" || own == "auto-compaction";
        if args.told.has(own) && (!also || args.told.has(theirs)) {
            return usage(format!("--{own} does not go with etcd's flags: give --{theirs}"));
        }
    }
    mapped.clients()?;
    mapped.peers()?;
    mapped.formation(known)?;
    mapped.door();
    mapped.limits()?;
    mapped.timing();
    if let Some("panic" | "fatal" | "dpanic") = mapped.serve.log_level.as_deref() {
        mapped.serve.log_level = Some("error".into());
    }
    Ok(mapped)
}

/// What is to be said of flags that mean nothing here.
fn foreign(args: &Serve) -> Result<Vec<String>, Failure> {
    let said = |flag: &super::Foreign| args.told.value(flag.flag).map(|value| (*flag, value));
    let judged = FOREIGN.iter().filter_map(said).map(|(flag, value)| flag.judge(value));
    let judged: Result<Vec<_>, String> = judged.collect();
    Ok(judged.map_err(Failure::usage)?.into_iter().flatten().collect())
}

/// What is to be said of values that hold only up to a bound.
fn cut(flags: &EtcdFlags) -> Vec<String> {
    let most = TXN_OPS_MAX as u32;
    let ops = flags.max_txn_ops.filter(|ops| *ops > most);
    let ops = ops.map(|_| format!("--max-txn-ops is taken as {most}: no transaction has more"));
    let most = REQUEST_BYTES_MAX as u64;
    let bytes = flags.max_request_bytes.filter(|bytes| *bytes > most);
    let bytes =
        bytes.map(|_| format!("--max-request-bytes is taken as {most}: no request has more"));
    let known: Vec<&str> = TlsLimits::known_suites().collect();
    let unknown = flags.cipher_suites.iter().filter(|suite| {
        // Those of TLS 1.3 are there whatever is said.
        let older = format!("{suite}_SHA256");
        !suite.starts_with("TLS_AES_")
            && !suite.starts_with("TLS_CHACHA20_")
            && !known.contains(&&***suite)
            && !known.contains(&&*older)
    });
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    let suites = (!unknown.is_empty())
        .then(|| format!("--cipher-suites: there is no {} here", unknown.join(", ")));
    let cost = flags.bcrypt_cost.filter(|cost| !PASSWORD_COSTS.contains(cost));
    let cost = cost.map(|_| format!("--bcrypt-cost is taken as {PASSWORD_COST}, as in etcd"));
    [ops, bytes, suites, cost].into_iter().flatten().collect()
}

impl Mapped {
    fn flags(&self) -> &EtcdFlags {
        &self.serve.etcd
    }

    fn name(&self) -> String {
        self.flags().name.clone().unwrap_or_else(|| NAME.to_owned())
    }

    /// Whether clients have to show certificates.
    fn clients(&mut self) -> Result<(), Failure> {
        let asked = self.serve.told.value("client-cert-auth") == Some("true");
        if asked && self.flags().trusted_ca_file.is_none() {
            return usage("--client-cert-auth needs --trusted-ca-file");
        }
        // At the port of the peers they are asked as these are.
        self.serve.client_cert_auth = true;
        Ok(())
    }

    /// How nodes prove to each other who they are.
    fn peers(&mut self) -> Result<(), Failure> {
        let flags = &self.serve.etcd;
        let urls = flags.listen_peer_urls.iter().chain(&flags.initial_advertise_peer_urls);
        let https = urls.into_iter().any(|url| url.scheme == Scheme::Https);
        let files = [&flags.peer_cert_file, &flags.peer_key_file, &flags.peer_trusted_ca_file];
        let proof = match files {
            [Some(cert), Some(key), Some(ca)] => {
                let (cert, key, ca) = (cert.clone(), key.clone(), ca.clone());
                (self.serve.cert, self.serve.key, self.serve.ca) =
                    (Some(cert), Some(key), Some(ca));
                Proof::Authority
            }
            [None, None, None] if https && flags.peer_auto_tls != Some(true) => {
                return usage(
                    "https:// for peers needs --peer-cert-file, --peer-key-file and \
                     --peer-trusted-ca-file, or --peer-auto-tls",
                );
            }
            [None, None, None] => {
                self.notes.push(
                    "peers encrypt what they say with certificates made on the spot, and do not \
                     authenticate each other: whoever reaches the peer port may be a node; give \
                     --peer-cert-file, --peer-key-file and --peer-trusted-ca-file to change that"
                        .to_owned(),
                );
                Proof::Nothing
            }
            _ => {
                return usage(
                    "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file go together",
                );
            }
        };
        self.serve.proof = proof;
        Ok(())
    }

    /// Who the node is, and with whom it begins.
    fn formation(&mut self, known: Option<Known>) -> Result<(), Failure> {
        let name = self.name();
        let listed = self.flags().initial_cluster.clone();
        let address = self.address(&name, &listed)?;
        let members = members(&name, &address, &listed)?;
        let listen = self.listen()?;
        let token = self.flags().initial_cluster_token.clone();
        let token = token.unwrap_or_else(|| TOKEN.to_owned());
        let state = self.flags().initial_cluster_state.unwrap_or(State::New);
        let position = members.keys().position(|member| *member == name);
        let derived = position.filter(|_| state == State::New).map(|position| {
            let numbered = (1..).map(NodeId).zip(members.values().cloned());
            let numbered: BTreeMap<NodeId, String> = numbered.collect();
            let cluster = cluster_id(&token, &numbered);
            (Known { id: NodeId(position as u64 + 1), cluster }, numbered)
        });
        let serve = &mut self.serve;
        if serve.data_dir.is_none() {
            serve.data_dir = Some(PathBuf::from(format!("{name}.etcd")));
        }
        serve.etcd.name = Some(name.clone());
        serve.listen = Some(listen);
        match (known, derived) {
            (Some(known), Some((derived, _))) if known != derived => self.join(known, address),
            (_, Some((derived, members))) => {
                serve.id = Some(derived.id);
                serve.cluster_token = token;
                serve.single = members.len() == 1;
                serve.advertise = Some(address);
                if !serve.single {
                    serve.cluster = members.into_iter().collect();
                }
            }
            (Some(known), None) => self.join(known, address),
            (None, None) => {
                let others = members.into_iter().filter(|(member, _)| *member != name);
                let others: Vec<String> = others.map(|(_, address)| address).collect();
                if others.is_empty() {
                    return usage(
                        "--initial-cluster-state existing: --initial-cluster names nobody \
                                  else to ask",
                    );
                }
                self.search = Some(Search { own: address, others });
            }
        }
        Ok(())
    }

    /// It is this node of this cluster, which has formed.
    fn join(&mut self, known: Known, address: String) {
        self.serve.id = Some(known.id);
        self.serve.cluster_id = Some(known.cluster);
        self.serve.join = true;
        self.serve.advertise = Some(address);
    }

    /// Where the others reach this node.
    fn address(&self, name: &str, listed: &[(String, Url)]) -> Result<String, Failure> {
        let advertised = &self.flags().initial_advertise_peer_urls;
        let of_list = listed.iter().filter(|(member, _)| member == name).map(|(_, url)| url);
        let of_list: Vec<&Url> = of_list.collect();
        if !listed.is_empty() && of_list.is_empty() {
            return usage(format!("--initial-cluster does not name this node, {name:?} (--name)"));
        }
        let all = |urls: &[&Url]| {
            let mut addresses: Vec<String> = urls.iter().map(|url| url.address()).collect();
            addresses.sort_unstable();
            addresses
        };
        if advertised.is_empty() {
            let default = Url::http("localhost", PEER_PORT);
            return Ok(all(&of_list).into_iter().next().unwrap_or_else(|| default.address()));
        }
        let advertised = all(&advertised.iter().collect::<Vec<_>>());
        if !of_list.is_empty() && all(&of_list) != advertised {
            return usage(format!(
                "--initial-advertise-peer-urls is {}, but --initial-cluster says {}",
                advertised.join(","),
                all(&of_list).join(",")
            ));
        }
        Ok(advertised.into_iter().next().expect("it is not empty"))
    }

    /// Where it listens for the others.
    fn listen(&self) -> Result<String, Failure> {
        match &*self.flags().listen_peer_urls {
            [] => Ok(Url::http("localhost", PEER_PORT).address()),
            [one] => Ok(one.address()),
            _ => usage(
                "--listen-peer-urls: nodes listen at one address; for all that the machine \
                        has, give http://0.0.0.0:PORT",
            ),
        }
    }

    /// Where clients of the etcd v3 API come in.
    fn door(&mut self) {
        let flags = &mut self.serve.etcd;
        if flags.listen_client_urls.is_empty() {
            flags.listen_client_urls = vec![Url::http("localhost", CLIENT_PORT)];
        }
        let https = |url: &Url| url.scheme == Scheme::Https;
        if flags.cert_file.is_some() && !flags.listen_client_urls.iter().any(https) {
            let note = "--cert-file is for https:// in --listen-client-urls, where there is none";
            self.notes.push(note.to_owned());
        }
    }

    fn limits(&mut self) -> Result<(), Failure> {
        match self.flags().quota_backend_bytes {
            None | Some(0) => {}
            Some(bytes) => self.serve.quota = u64::try_from(bytes).unwrap_or(u64::MAX),
        }
        if !self.serve.told.has("auto-compaction") {
            let flags = self.flags();
            let mode = flags.auto_compaction_mode.unwrap_or_default();
            let retention = flags.auto_compaction_retention.as_deref().unwrap_or("0");
            self.serve.auto_compaction = compaction(mode, retention)?;
        }
        if let Some(interval) = self.flags().experimental_watch_progress_notify_interval {
            self.serve.watch_progress_interval = interval;
        }
        Ok(())
    }

    /// Times are whole ticks here.
    fn timing(&mut self) {
        let serve = &mut self.serve;
        let tick = TICK.as_millis();
        let mut round = |flag: &str, time: &mut Duration, ticks: u128| {
            let rounded = u64::try_from(ticks.max(1) * tick).map_or(*time, Duration::from_millis);
            if rounded != *time {
                self.notes.push(format!("--{flag} is taken as {} ms", rounded.as_millis()));
                *time = rounded;
            }
        };
        let heartbeats = serve.heartbeat_interval.as_millis() / tick;
        round("heartbeat-interval", &mut serve.heartbeat_interval, heartbeats);
        let elections = serve.election_timeout.as_millis().div_ceil(tick);
        round("election-timeout", &mut serve.election_timeout, elections);
    }
}

/// Addresses of the initial members by name; of several of one member, the first in order.
fn members(
    name: &str,
    address: &str,
    listed: &[(String, Url)],
) -> Result<BTreeMap<String, String>, Failure> {
    let mut members = BTreeMap::from([(name.to_owned(), address.to_owned())]);
    let mut seen = BTreeMap::new();
    for (member, url) in listed {
        let address = url.address();
        if url.port == 0 {
            return usage(format!("--initial-cluster: {member}={url}: port 0 cannot be reached"));
        }
        if let Some(other) = seen.insert(address.clone(), member) {
            return usage(format!("--initial-cluster: {other} and {member} are both at {url}"));
        }
        let of_member = members.entry(member.clone()).or_insert_with(|| address.clone());
        if *of_member > address {
            *of_member = address;
        }
    }
    Ok(members)
}

/// What etcd's two flags say of compaction.
fn compaction(mode: CompactionMode, retention: &str) -> Result<Compaction, Failure> {
    let wrong = |what: &str| usage(format!("--auto-compaction-retention {retention}: {what}"));
    match (mode, retention.parse::<u64>()) {
        (_, Ok(0)) => Ok(Compaction::Off),
        (CompactionMode::Revision, Ok(kept)) => Ok(Compaction::Revisions(kept)),
        (CompactionMode::Revision, Err(_)) => wrong("a number of revisions is asked for"),
        (CompactionMode::Periodic, Ok(hours)) => match hours.checked_mul(3600) {
            Some(seconds) => Ok(Compaction::Periodic(Duration::from_secs(seconds))),
            None => wrong("too long"),
        },
        (CompactionMode::Periodic, Err(_)) => match values::duration(retention) {
            Ok(period) => Ok(Compaction::Periodic(period)),
            // Zero of some unit.
            Err(_) if retention.starts_with('0') => Ok(Compaction::Off),
            Err(error) => wrong(&error),
        },
    }
}

fn usage<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::usage(text.into()))
}
