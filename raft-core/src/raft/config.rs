//! The core's configuration: all durations in ticks, all limits in bytes or counts.

use crate::types::{Entry, Member, NodeId, Version};
use std::collections::BTreeMap;

/// Largest `message_bytes_max`: what 64 Ki of the smallest entries count, and no message has more.
const MESSAGE_BYTES_MOST: usize = 64 * 1024 * Entry::OVERHEAD;

/// Configuration of [`Raft`](super::Raft). `Default` gives every value but `id`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node. No default: 0 is refused.
    pub id: NodeId,
    /// The members to form a cluster of, this node among them, should the log be blank: the same
    /// on all of them. Empty, the default, for a node that waits to be added to a cluster. Ignored
    /// once the log has a membership, and by a blank node that has heard of a term.
    ///
    /// It is for the first start. A node that lost its directory later and names others is told by
    /// them of the cluster there is. One that names itself alone founds another cluster, unless it
    /// is reached before its first tick: once others have joined, start it without initial members.
    pub initial: BTreeMap<NodeId, Member>,
    /// The newest version this node speaks. Default, and at most, [`Version::CURRENT`]; an older
    /// one makes it behave like a node of that version.
    pub version: Version,
    /// Whether a member that comes back as another life - its directory was wiped, or its log
    /// corrupt - is taken back: as a learner, promoted once it has caught up. Default true; to be
    /// false where nodes do not authenticate each other.
    pub readmit: bool,
    /// Shortest election timeout, in ticks. A follower that hears nothing for a random time between
    /// this and `election_ticks_max` campaigns; it also refuses other candidates for this long
    /// after it heard its leader (thesis §4.2.3), unless it is told that nobody listens there any
    /// more. Default 40: 400 ms of 10 ms ticks, well above broadcast time and below what users
    /// notice (§5.6). Above `heartbeat_ticks`, better four times as much or more.
    pub election_ticks_min: u32,
    /// Longest election timeout, in ticks; above `election_ticks_min`. Default 80.
    pub election_ticks_max: u32,
    /// Ticks between heartbeats of an idle leader; a quarter of `election_ticks_min` or less is
    /// wise. Default 10, a quarter of the default there; it does not follow another
    /// `election_ticks_min`, so whoever sets that below 40 does well to set this lower, too: a
    /// follower may else campaign when a heartbeat or two are lost. On followers it also says when
    /// a heartbeat is late: see [`Output::probe`](super::Output::probe).
    pub heartbeat_ticks: u32,
    /// Most bytes of entries in one append message; one entry always fits. At most 4 MiB, default
    /// 256 KiB.
    pub message_bytes_max: usize,
    /// Most bytes of one command; a larger one is refused. Default 2 MiB.
    pub command_bytes_max: usize,
    /// Most append messages sent to a follower and not yet acknowledged. Default 4: under load
    /// few large messages are cheaper than many small ones, and 4 of the largest are a mebibyte on
    /// its way. Where a message costs next to nothing more are better: what has to wait goes as
    /// one message, into which entries are copied.
    pub in_flight_max: usize,
    /// Most bytes of entries sent to a follower and not yet acknowledged; one message always may.
    /// Default 4 MiB.
    pub in_flight_bytes_max: usize,
    /// Most bytes of entries the log may hold in memory. Beyond it a leader refuses proposals and a
    /// follower drops appends, until the state machine is flushed and the log compacted. Default
    /// 256 MiB.
    pub log_bytes_max: usize,
    /// Bytes of entries kept behind a compaction for followers that are a little slow; they would
    /// need a snapshot otherwise. Default 32 MiB.
    pub log_trailing_bytes: usize,
    /// Most entries kept behind a compaction, however small they are. Default 262 144.
    pub log_trailing_entries: usize,
    /// Most bytes of entries a leader holds uncommitted. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Ticks for which a write may be under way before the disk counts as stalled. A leader with a
    /// stalled disk hands leadership over if the disks of a quorum of the others work; nobody
    /// campaigns while its disk is stalled. At least `heartbeat_ticks`. Default 50.
    pub disk_stall_ticks: u32,
    /// Whether leaders hold leases, so that reads may do without a quorum (thesis §6.4.1). Off by
    /// default: they are as right as the clocks are. Each node may decide for itself; but all need
    /// the same `election_ticks_min`, for a lease lasts as the leader's says, and is kept as those
    /// of the others say.
    pub lease_reads: bool,
    /// By how much the clocks of two nodes may differ in speed, in percent: a leader believes in
    /// its lease for so much less than the followers do (thesis §6.4.1). Only lease reads rely on
    /// it. At most 90, default 20.
    pub clock_drift_percent: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: NodeId(0),
            initial: BTreeMap::new(),
            version: Version::CURRENT,
            readmit: true,
            election_ticks_min: 40,
            election_ticks_max: 80,
            heartbeat_ticks: 10,
            message_bytes_max: 256 * 1024,
            command_bytes_max: 2 * 1024 * 1024,
            in_flight_max: 4,
            in_flight_bytes_max: 4 * 1024 * 1024,
            log_bytes_max: 256 * 1024 * 1024,
            log_trailing_bytes: 32 * 1024 * 1024,
            log_trailing_entries: 256 * 1024,
            uncommitted_bytes_max: 64 * 1024 * 1024,
            disk_stall_ticks: 50,
            lease_reads: false,
            clock_drift_percent: 20,
        }
    }
}

impl Config {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// The first value that makes no sense, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |what| Err(ConfigError(what));
        if self.id == NodeId(0) {
            return refuse("id must not be 0");
        }
        if self.heartbeat_ticks == 0 {
            return refuse("heartbeat_ticks must be at least 1");
        }
        if self.election_ticks_min <= self.heartbeat_ticks {
            return refuse("election_ticks_min must exceed heartbeat_ticks");
        }
        if self.election_ticks_max <= self.election_ticks_min {
            return refuse("election_ticks_max must exceed election_ticks_min");
        }
        if !self.initial.is_empty() && !self.initial.contains_key(&self.id) {
            return refuse("initial must name this node, or nobody");
        }
        if self.initial.contains_key(&NodeId(0)) {
            return refuse("initial must not name node 0");
        }
        if self.version < Version::OLDEST || self.version > Version::CURRENT {
            return refuse("version is none that this crate speaks");
        }
        if self.disk_stall_ticks < self.heartbeat_ticks {
            return refuse("disk_stall_ticks must be at least heartbeat_ticks");
        }
        if self.clock_drift_percent > 90 {
            return refuse("clock_drift_percent must be at most 90");
        }
        if self.in_flight_max == 0 || self.message_bytes_max == 0 {
            return refuse("in_flight_max and message_bytes_max must be at least 1");
        }
        if self.message_bytes_max > MESSAGE_BYTES_MOST {
            return refuse("message_bytes_max must be at most 4 MiB");
        }
        let largest = self.command_bytes_max.saturating_add(Entry::OVERHEAD);
        if self.uncommitted_bytes_max < largest {
            return refuse("uncommitted_bytes_max must have room for the largest command");
        }
        if self.log_bytes_max.saturating_sub(self.log_trailing_bytes) < largest {
            return refuse("log_bytes_max must exceed log_trailing_bytes by the largest command");
        }
        Ok(())
    }
}

/// A value of [`Config`] that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(pub &'static str);
