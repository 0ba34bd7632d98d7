//! What the arguments of `raft serve` amount to: checked values, and the reason when they make no
//! sense. Touches neither disk nor network.

use super::waiting::Way;
use crate::args::serve::{OnDamage, Serve};
use crate::failure::Failure;
use raft_core::raft::Config;
use raft_core::types::{ClusterId, Member, NodeId};
use std::collections::BTreeMap;
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
    /// Where others reach this node.
    pub advertised: String,
    /// Whether it is the only initial member.
    pub single: bool,
    /// Whether damaged data is moved aside, to get it back from others.
    pub rejoin: bool,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Applied bytes between checkpoints.
    pub checkpoint_bytes: usize,
}

impl Plan {
    /// Checks the arguments against each other.
    ///
    /// # Errors
    /// Of kind `Usage`: the first that makes no sense.
    pub fn of(args: &Serve) -> Result<Self, Failure> {
        let members = members(args)?;
        let advertised = advertised(args, &members)?;
        let listen = args.listen.clone().unwrap_or_else(|| advertised.clone());
        if port(&listen) == Some(0) {
            return usage("port 0 cannot be reached by others; choose one for --listen");
        }
        let cluster = args.cluster_id.unwrap_or_else(|| cluster_id(&args.cluster_token, &members));
        let election_ticks = ticks("--election-timeout", args.election_timeout)?;
        let initial = members.into_iter().map(|(id, address)| (id, Member::new(address)));
        let raft = Config {
            id: args.id,
            initial: initial.collect(),
            heartbeat_ticks: ticks("--heartbeat-interval", args.heartbeat_interval)?,
            election_ticks_min: election_ticks,
            election_ticks_max: election_ticks.saturating_mul(2),
            lease_reads: args.lease_reads,
            ..Config::default()
        };
        if raft.election_ticks_min / 5 < raft.heartbeat_ticks {
            return usage("--election-timeout must be at least five times --heartbeat-interval");
        }
        raft.validate().map_err(Failure::usage)?;
        Ok(Self {
            raft,
            cluster,
            listen,
            advertised,
            single: args.single,
            rejoin: args.on_damage == OnDamage::Rejoin && !args.single,
            data_dir: args.data_dir.clone(),
            checkpoint_bytes: usize::try_from(args.checkpoint_bytes).unwrap_or(usize::MAX),
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

/// Where others reach this node.
fn advertised(args: &Serve, members: &BTreeMap<NodeId, String>) -> Result<String, Failure> {
    if let Some(address) = members.get(&args.id) {
        return Ok(address.clone());
    }
    match args.advertise.as_ref().or(args.listen.as_ref()) {
        Some(address) => Ok(address.clone()),
        None => usage("--join needs --listen or --advertise"),
    }
}

/// The initial members, this node among them under its advertised address; none for a node that
/// joins.
fn members(args: &Serve) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut members = BTreeMap::new();
    if args.join {
        return Ok(members);
    }
    if args.single {
        let Some(address) = args.advertise.as_ref().or(args.listen.as_ref()) else {
            return usage("--single needs --listen or --advertise");
        };
        members.insert(args.id, address.clone());
        return Ok(members);
    }
    for (id, address) in &args.cluster {
        if port(address) == Some(0) {
            return usage(format!("--cluster: {id}={address}: port 0 cannot be reached"));
        }
        if members.insert(*id, address.clone()).is_some() {
            return usage(format!("--cluster names {id} twice"));
        }
    }
    let Some(own) = members.get(&args.id) else {
        return usage(format!("--cluster does not name this node, {}", args.id));
    };
    match &args.advertise {
        Some(advertised) if advertised != own => {
            usage(format!("--advertise is {advertised}, but --cluster says {}={own}", args.id))
        }
        _ => Ok(members),
    }
}

/// The id of a cluster that was given none: the same on every node that is given the same token and
/// members, whatever their order. Must never change: data directories are bound to it.
fn cluster_id(token: &str, members: &BTreeMap<NodeId, String>) -> ClusterId {
    let mut text = format!("{token}\n");
    for (id, address) in members {
        text.push_str(&format!("{id}={address}\n"));
    }
    ClusterId(xxh3_64(text.as_bytes()))
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

fn usage<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::usage(text.into()))
}
