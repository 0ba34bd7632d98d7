//! How to run a node.

use crate::raft::Config;
use crate::types::{ClusterId, GroupId, Incarnation};
use std::time::Duration;

/// How to run a node. `Default` gives every value but the raft id, the cluster, the incarnation
/// and the seed. The members that a new cluster is formed of are in [`Config::initial`].
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The core's own configuration, with the node's id and the initial members.
    pub raft: Config,
    /// The group. Default 0.
    pub group: GroupId,
    /// The cluster this node belongs to; a log of another cluster is refused.
    pub cluster: ClusterId,
    /// The life to bind a blank log to; a random number. Ignored if the log has one.
    pub incarnation: Incarnation,
    /// Seed of the election timeouts and read nonces; a random number.
    pub seed: u64,
    /// Length of a tick. Default 10 ms.
    pub tick: Duration,
    /// Most requests waiting for an answer. Default 16 384.
    pub requests_max: usize,
    /// Bytes of applied entries after which the state machine is checkpointed. Default 32 MiB.
    pub checkpoint_bytes: usize,
    /// Applied entries after which it is checkpointed, however small they are. Default 1 000 000.
    pub checkpoint_entries: usize,
    /// Most snapshots being made or sent at once; further peers wait their turn. At least 1.
    /// Default 2.
    pub snapshots_max: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            raft: Config::default(),
            group: GroupId(0),
            cluster: ClusterId(0),
            incarnation: Incarnation(0),
            seed: 0,
            tick: Duration::from_millis(10),
            requests_max: 16 * 1024,
            checkpoint_bytes: 32 * 1024 * 1024,
            checkpoint_entries: 1_000_000,
            snapshots_max: 2,
        }
    }
}
