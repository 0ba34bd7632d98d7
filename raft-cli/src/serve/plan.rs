//! What the arguments of `raft serve` amount to: checked values, and the reason when they make no
//! sense. Touches neither disk nor network.

use super::door::DoorPlan;
use super::etcd_flags::identity::Known;
use super::etcd_flags::map::{Mapped, map};
use super::waiting::Way;
use crate::args::serve::{OnDamage, Serve};
use crate::config::variable;
use crate::failure::Failure;
use raft_core::raft::Config;
use raft_core::types::{ClusterId, Member, NodeId};
use raft_kv::service::{Compaction, PASSWORD_COST, TOKEN_LIFE};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Length of a tick. Timeouts are whole numbers of ticks; shorter ones cost wake-ups and buy
/// nothing, as a disk's flush takes about as long.
pub const TICK: Duration = Duration::from_millis(10);

/// A node as it is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The core's configuration, with the initial members.
    pub raft: Config,
    /// The cluster.
    pub cluster: ClusterId,
    /// Where to listen.
    pub listen: String,
    /// The door for clients of the etcd v3 API, if there is one.
    pub door: Option<DoorPlan>,
    /// Where others reach this node.
    pub advertised: String,
    /// Where this node reaches others that it does not reach where they say.
    pub peer_addresses: BTreeMap<NodeId, String>,
    /// Whether it is the only initial member.
    pub single: bool,
    /// Whether damaged data is moved aside, to get it back from others.
    pub rejoin: bool,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// What the node proves itself with.
    pub credentials: CredentialSource,
    /// Whether it was told by name who it is: then that is noted in its directory.
    pub named: bool,
    /// Applied bytes between checkpoints.
    pub checkpoint_bytes: usize,
    /// Bytes of the store from which on growth is refused.
    pub quota_bytes: u64,
    /// What is compacted without being asked for.
    pub compaction: Compaction,
    /// How often a watch on which nothing happens is told how far it has come.
    pub watch_progress_interval: Duration,
    /// What the hash of a password costs.
    pub password_cost: u32,
    /// How long a token is valid after its last use.
    pub token_life: Duration,
}

/// How nodes prove to each other who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Proof {
    /// By the names in certificates of their authority.
    #[default]
    Names,
    /// By any certificate of their authority.
    Authority,
    /// Not at all.
    Nothing,
}

/// Where a node's credentials are from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CredentialSource {
    /// Files; with names in them, or without.
    Files(CredentialFiles, Proof),
    /// Made in its own directory, to encrypt with; they prove nothing.
    MadeHere,
}

/// The files, PEM each, that tell a node and the others who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialFiles {
    /// Certificate of the authority that certifies every node.
    pub ca: PathBuf,
    /// The node's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What a node that has applied so many bytes writes a checkpoint of.
const CHECKPOINT_BYTES: RangeInclusive<u64> = 4096..=1 << 40;

/// What the function that hashes passwords takes.
pub(super) const PASSWORD_COSTS: RangeInclusive<u32> = 4..=31;

/// The least quota: a full store must still take what makes room.
const QUOTA_BYTES_MIN: u64 = 1024 * 1024;

/// How many heartbeats there are in the shortest election timeout, at least.
const HEARTBEATS: u32 = 4;

impl Plan {
    /// What has to be said and is not.
    pub(crate) fn missing(args: &Serve) -> Vec<Failure> {
        let bare = args.proof == Proof::Nothing;
        let needed = [
            ("--id", args.id.is_some()),
            ("--data-dir", args.data_dir.is_some()),
            ("--ca", bare || args.ca.is_some()),
            ("--cert", bare || args.cert.is_some()),
            ("--key", bare || args.key.is_some()),
        ];
        let absent = needed.into_iter().filter(|(_, said)| !said);
        absent.map(|(flag, _)| missing(flag)).collect()
    }

    /// What is wrong with the arguments, in whichever flags; nothing is found out for that.
    pub(crate) fn wrong(args: &Serve) -> Vec<Failure> {
        /// Stands for what only the other nodes know.
        const ANYBODY: Known = Known { id: NodeId(1), cluster: ClusterId(1) };
        let mapped = map(args, None).and_then(|mapped| match mapped.search {
            Some(_) => map(args, Some(ANYBODY)),
            None => Ok(mapped),
        });
        match mapped {
            Err(failure) => vec![failure],
            Ok(Mapped { serve, .. }) => {
                let missing = Self::missing(&serve);
                let contradicts = || Self::of(&serve).err().into_iter().collect();
                if missing.is_empty() { contradicts() } else { missing }
            }
        }
    }

    /// Checks the arguments against each other. What etcd's flags say is [mapped](map) before.
    ///
    /// # Errors
    /// Of kind `Usage`: the first that makes no sense.
    pub fn of(args: &Serve) -> Result<Self, Failure> {
        let id = args.id.ok_or_else(|| missing("--id"))?;
        let data_dir = args.data_dir.clone().ok_or_else(|| missing("--data-dir"))?;
        let credentials = credentials(args)?;
        if !CHECKPOINT_BYTES.contains(&args.checkpoint_bytes) {
            return usage("--checkpoint-bytes must be from 4KiB to 1TiB");
        }
        if args.quota < QUOTA_BYTES_MIN {
            return usage("--quota must be at least 1MiB: a single value may be so large");
        }
        let members = members(id, args)?;
        let advertised = advertised(id, args, &members)?;
        let listen = args.listen.clone().unwrap_or_else(|| advertised.clone());
        if port(&listen) == Some(0) {
            return usage("port 0 cannot be reached by others; choose one for --listen");
        }
        let cluster = args.cluster_id.unwrap_or_else(|| cluster_id(&args.cluster_token, &members));
        let (heartbeat_ticks, election_ticks) = timing(args)?;
        let initial = members.into_iter().map(|(id, address)| (id, Member::new(address)));
        let raft = Config {
            id,
            initial: initial.collect(),
            heartbeat_ticks,
            election_ticks_min: election_ticks,
            election_ticks_max: election_ticks.saturating_mul(2),
            lease_reads: args.lease_reads,
            ..Config::default()
        };
        raft.validate().map_err(Failure::usage)?;
        Ok(Self {
            raft,
            cluster,
            listen,
            door: DoorPlan::of(args)?,
            advertised,
            peer_addresses: peer_addresses(id, args)?,
            single: args.single,
            rejoin: args.on_damage == OnDamage::Rejoin && !args.single,
            data_dir,
            credentials,
            named: !args.told.has("id"),
            checkpoint_bytes: usize::try_from(args.checkpoint_bytes).unwrap_or(usize::MAX),
            quota_bytes: args.quota,
            compaction: args.auto_compaction,
            watch_progress_interval: args.watch_progress_interval,
            password_cost: args
                .etcd
                .bcrypt_cost
                .filter(|cost| PASSWORD_COSTS.contains(cost))
                .unwrap_or(PASSWORD_COST),
            token_life: args
                .etcd
                .auth_token_ttl
                .map_or(TOKEN_LIFE, |seconds| Duration::from_secs(seconds.into())),
        })
    }

    /// How this node comes to a cluster if its directory is blank.
    pub(super) fn way(&self, moved_aside: bool) -> Way {
        if moved_aside {
            Way::Return
        } else if self.raft.initial.is_empty() {
            Way::Join(self.advertised.clone())
        } else {
            Way::Form
        }
    }

    /// How long an election takes at most, if nothing goes wrong.
    pub fn election_timeout_max(&self) -> Duration {
        TICK.saturating_mul(self.raft.election_ticks_max)
    }
}

/// Where the node's credentials are from.
///
/// # Errors
/// If one of the files is not named.
pub(super) fn credentials(args: &Serve) -> Result<CredentialSource, Failure> {
    if args.proof == Proof::Nothing {
        return Ok(CredentialSource::MadeHere);
    }
    let file = |name, file: &Option<PathBuf>| file.clone().ok_or_else(|| missing(name));
    let files = CredentialFiles {
        ca: file("--ca", &args.ca)?,
        cert: file("--cert", &args.cert)?,
        key: file("--key", &args.key)?,
    };
    Ok(CredentialSource::Files(files, args.proof))
}

/// Where others reach this node.
fn advertised(
    id: NodeId,
    args: &Serve,
    members: &BTreeMap<NodeId, String>,
) -> Result<String, Failure> {
    if let Some(address) = members.get(&id) {
        return Ok(address.clone());
    }
    match args.advertise.as_ref().or(args.listen.as_ref()) {
        Some(address) => Ok(address.clone()),
        None => usage("--join needs --listen or --advertise"),
    }
}

/// Where this node reaches others that it does not reach where they say.
fn peer_addresses(id: NodeId, args: &Serve) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut addresses = BTreeMap::new();
    for (peer, address) in &args.peer_address {
        if *peer == id {
            return usage(format!("--peer-address names this node, {id}; it is for the others"));
        }
        if port(address) == Some(0) {
            return usage(format!("--peer-address: {peer}={address}: port 0 cannot be reached"));
        }
        if addresses.insert(*peer, address.clone()).is_some() {
            return usage(format!("--peer-address names {peer} twice"));
        }
    }
    Ok(addresses)
}

/// The initial members, this node among them under its advertised address; none for a node that
/// joins.
fn members(id: NodeId, args: &Serve) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut members = BTreeMap::new();
    if args.join && args.cluster_id.is_none() {
        return usage("--join needs --cluster-id, which `raft status -o json` tells");
    }
    if args.join {
        return Ok(members);
    }
    if args.single {
        let Some(address) = args.advertise.as_ref().or(args.listen.as_ref()) else {
            return usage("--single needs --listen or --advertise");
        };
        members.insert(id, address.clone());
        return Ok(members);
    }
    if args.cluster.is_empty() {
        return Err(missing("--cluster").advice(
            "--cluster, --single or --join is required: `raft help serve` shows when to use which",
        ));
    }
    for (id, address) in &args.cluster {
        if port(address) == Some(0) {
            return usage(format!("--cluster: {id}={address}: port 0 cannot be reached"));
        }
        if members.insert(*id, address.clone()).is_some() {
            return usage(format!("--cluster names {id} twice"));
        }
    }
    let Some(own) = members.get(&id) else {
        return usage(format!("--cluster does not name this node, {id}"));
    };
    match &args.advertise {
        Some(advertised) if advertised != own => {
            usage(format!("--advertise is {advertised}, but --cluster says {id}={own}"))
        }
        _ => Ok(members),
    }
}

/// The id of a cluster that was given none: the same on every node that is given the same token and
/// members, whatever their order. Must never change: data directories are bound to it.
pub(super) fn cluster_id(token: &str, members: &BTreeMap<NodeId, String>) -> ClusterId {
    let mut text = format!("{token}\n");
    for (id, address) in members {
        text.push_str(&format!("{id}={address}\n"));
    }
    ClusterId(xxh3_64(text.as_bytes()))
}

/// Ticks between heartbeats, and of the shortest election timeout. Who says one of them and nothing
/// of the other gets one that fits.
fn timing(args: &Serve) -> Result<(u32, u32), Failure> {
    let mut heartbeat = ticks("--heartbeat-interval", args.heartbeat_interval)?;
    let mut election = ticks("--election-timeout", args.election_timeout)?;
    if !args.told.has("heartbeat-interval") {
        heartbeat = heartbeat.min(election / HEARTBEATS).max(1);
    } else if !args.told.has("election-timeout") {
        election = election.max(heartbeat.saturating_mul(HEARTBEATS));
    }
    if election / HEARTBEATS < heartbeat {
        return usage("--election-timeout must be at least four times --heartbeat-interval");
    }
    Ok((heartbeat, election))
}

/// The heartbeat interval and the election timeout that are in force where nothing is said of them.
pub fn timing_in_force(args: &Serve) -> Option<(Duration, Duration)> {
    let (heartbeat, election) = timing(args).ok()?;
    Some((TICK * heartbeat, TICK * election))
}

fn ticks(option: &str, duration: Duration) -> Result<u32, Failure> {
    let (tick, wanted) = (TICK.as_nanos(), duration.as_nanos());
    match u32::try_from(wanted / tick) {
        Ok(ticks) if wanted.is_multiple_of(tick) && ticks > 0 && ticks <= 360_000 => Ok(ticks),
        _ => usage(format!("{option} must be a multiple of 10ms and at most 1h")),
    }
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// That a setting has no value.
fn missing(flag: &str) -> Failure {
    let key = flag.trim_start_matches('-');
    Failure::usage(format!("no {flag} given")).advice(format!(
        "give it, or {key} under [serve] in the file of --config, or {}",
        variable(key)
    ))
}

fn usage<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::usage(text.into()))
}
