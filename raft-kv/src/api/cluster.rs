//! What nodes say of the cluster itself: who is in it, how that is changed, what is wrong with it.
//!
//! Only values and what follows from them; who asks whom is for service and client.

use crate::api::{Integrity, KvError, MemberAlarm};
use raft_core::types::{Change, ClusterId, Index, Member, Membership, NodeId, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest address of a member, in bytes: a host name and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;
/// Most changes of members in one request.
pub const CHANGES_MAX: usize = 64;

/// Who is in the cluster, as a node knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Members {
    /// The cluster.
    pub cluster: ClusterId,
    /// The leader that the answering node knows.
    pub leader: Option<NodeId>,
    /// Voters, outgoing voters and learners, each with its address, its priority, whether it is to
    /// be promoted, and the life it is bound to. It tells the size of a quorum too.
    pub membership: Membership,
}

/// What a node says of itself to clients of other interfaces than this crate's own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Published {
    /// A name for people.
    pub name: String,
    /// Where those clients reach it.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub client_urls: Vec<String>,
}

/// What a member is to the configuration in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberRole {
    /// It votes.
    Voter,
    /// It votes until the change of the voters that is under way is complete.
    Outgoing,
    /// It does not vote; it will when it has caught up.
    Learner,
    /// It does not vote, and is not to.
    Observer,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Voter => "voter",
            Self::Outgoing => "outgoing",
            Self::Learner => "learner",
            Self::Observer => "observer",
        })
    }
}

impl MemberRole {
    /// What `node` is in `membership`; of a stranger, an observer.
    pub fn of(membership: &Membership, node: NodeId) -> Self {
        let promote = |member: &Member| member.promote;
        match membership.members().get(&node) {
            _ if membership.voters().binary_search(&node).is_ok() => Self::Voter,
            _ if membership.outgoing().binary_search(&node).is_ok() => Self::Outgoing,
            Some(member) if promote(member) => Self::Learner,
            _ => Self::Observer,
        }
    }
}

impl Members {
    /// What is wrong with the number of voters; nothing if it is odd. An even number bears no more
    /// failures than the odd one below it, and has one node more that can fail.
    pub fn warning(&self) -> Option<String> {
        let voters = self.membership.voters().len();
        let even = voters > 0 && voters.is_multiple_of(2);
        even.then(|| format!("as with {}; add or remove one", voters - 1))
    }

    /// In one line how many failures it bears, and the warning if there is one:
    /// `4 voters: a quorum is 3, 1 may fail - as with 3; add or remove one`.
    pub fn summary(&self) -> String {
        let membership = &self.membership;
        if membership.is_empty() {
            return "no members: the cluster is not formed yet".into();
        }
        let voters = membership.voters().len();
        let plural = if voters == 1 { "" } else { "s" };
        if membership.is_joint() {
            let before = membership.outgoing().len();
            let bears = bears(membership.tolerated_failures());
            return format!(
                "changing from {before} to {voters} voter{plural}: it takes a quorum of both, \
                 {bears}"
            );
        }
        let (quorum, bears) = (membership.quorum_size(), bears(membership.tolerated_failures()));
        let warning = self.warning().map_or_else(String::new, |warning| format!(" - {warning}"));
        format!("{voters} voter{plural}: a quorum is {quorum}, {bears}{warning}")
    }

    /// Whether everything is as `changes` want it, whoever did it.
    pub fn fulfil(&self, changes: &[Change]) -> bool {
        let membership = &self.membership;
        let member = |node: &NodeId| membership.members().get(node);
        let votes = |node: &NodeId| membership.voters().binary_search(node).is_ok();
        let done = |change: &Change| match change {
            Change::Add { node, address, promote } => member(node).is_some_and(|member| {
                member.address == *address && (member.promote == *promote || votes(node))
            }),
            Change::Promote { node } => votes(node),
            Change::Demote { node } => member(node).is_some() && !membership.is_voter(*node),
            Change::Remove { node } => member(node).is_none(),
            Change::Readdress { node, address } => {
                member(node).is_some_and(|member| member.address == *address)
            }
            Change::Prioritize { node, priority } => {
                member(node).is_some_and(|member| member.priority == *priority)
            }
        };
        !membership.is_joint() && changes.iter().all(done)
    }
}

fn bears(failures: usize) -> String {
    if failures == 0 { "none may fail".into() } else { format!("{failures} may fail") }
}

/// What no cluster could make sense of, whoever leads it.
///
/// # Errors
/// The first such thing.
pub fn validate_changes(changes: &[Change]) -> Result<(), KvError> {
    let refuse = |reason: &str| Err(KvError::Malformed(reason.into()));
    if changes.is_empty() {
        return refuse("no change of members is asked for");
    }
    if changes.len() > CHANGES_MAX {
        let (count, limit) = (changes.len() as u64, CHANGES_MAX as u64);
        return Err(KvError::TooManyOps { count, limit });
    }
    for change in changes {
        let (Change::Add { address, .. } | Change::Readdress { address, .. }) = change else {
            continue;
        };
        if address.is_empty() {
            return refuse("the address of a member is empty");
        }
        if address.len() > ADDRESS_BYTES_MAX {
            let (size, limit) = (address.len() as u64, ADDRESS_BYTES_MAX as u64);
            return Err(KvError::TooLarge { what: "address".into(), size, limit });
        }
    }
    Ok(())
}

/// A node's own view of what may be wrong with it or the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// The members it knows; none if it belongs to no cluster yet.
    pub members: Members,
    /// Whether the members know this life of it, so that it may vote and lead. False of a node that
    /// waits to be added, and of one whose directory was lost.
    pub bound: bool,
    /// Highest entry durable on it.
    pub persisted_index: Index,
    /// For how many milliseconds its disk has completed nothing although it owes something.
    pub waiting_ms: u64,
    /// To whom it is handing leadership over.
    pub transfer: Option<NodeId>,
    /// What is wrong with its election timeout, in one line.
    pub timing: Option<String>,
    /// Why there is no quorum, as far as it can tell.
    pub no_quorum: Option<NoQuorum>,
    /// The others, by id.
    pub peers: Vec<PeerHealth>,
    /// How full the store is.
    pub space: Space,
    /// What is known of its data.
    pub integrity: Integrity,
    /// The alarms that are raised, as far as it has applied; [`ALARMS_MAX`](super::ALARMS_MAX) at
    /// most.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub alarms: Vec<MemberAlarm>,
}

/// How full a store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Space {
    /// Bytes of all versions of all keys, as quotas count them.
    pub bytes: u64,
    /// The quota, in bytes: from there on growth is refused.
    pub quota: u64,
}

impl Space {
    /// From 80 % of the quota on, that and what to do.
    pub fn warning(&self) -> Option<String> {
        let Self { bytes, quota } = *self;
        if bytes < quota / 5 * 4 {
            return None;
        }
        let full = if bytes < quota { "nearly full" } else { "full: it takes no more" };
        Some(format!(
            "the store is {full}, {bytes} bytes of {quota}: delete keys and compact, or let it \
             have a larger quota"
        ))
    }
}

/// Another node as a node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerHealth {
    /// The node.
    pub id: NodeId,
    /// The newest version it understands; the oldest if nothing was heard of it.
    pub version: Version,
    /// For how many milliseconds its disk had owed it a write when it last said so.
    pub stalled_ms: u64,
    /// Whether another life of it was heard of than the one that is a member.
    pub other_life: bool,
}

/// Why there is no quorum, as one node sees it. `Display` is one line:
/// `no quorum 1/3: n2 unreachable 4.1 s, n3 disk stalled 2.0 s`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoQuorum {
    /// How many voters are there and work, the answering node included.
    pub reachable: u64,
    /// How many it takes; in a joint configuration, of its larger half.
    pub needed: u64,
    /// How many voters there are; 0 as long as there is no cluster.
    pub voters: u64,
    /// What is wrong with each of the others, by id.
    pub absent: Vec<Absent>,
    /// All of that for people.
    pub text: String,
}

/// A voter that does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Absent {
    /// The voter.
    pub node: NodeId,
    /// What is wrong with it.
    pub why: Absence,
    /// For how many milliseconds; 0 where that is not known.
    pub for_ms: u64,
}

/// Why a voter does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Absence {
    /// Before there is a cluster: it is to be formed with this node, which has not answered.
    NotThereYet,
    /// Nothing was heard of it since the answering node started.
    NeverHeard,
    /// Nothing was heard of it for a while.
    Unreachable,
    /// Its disk has completed nothing for a while.
    DiskStalled,
    /// It has come back as another life, without what it had promised.
    OtherLife,
    /// Something that only the text tells.
    Other,
}

impl fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// [`Change`] in bytes, and lists of it.
pub(crate) mod changes {
    use super::{Change, NodeId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "Change")]
    enum ChangeForm {
        Add { node: NodeId, address: String, promote: bool },
        Promote { node: NodeId },
        Demote { node: NodeId },
        Remove { node: NodeId },
        Readdress { node: NodeId, address: String },
        Prioritize { node: NodeId, priority: u8 },
    }

    #[derive(Serialize)]
    struct Borrowed<'a>(#[serde(with = "ChangeForm")] &'a Change);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "ChangeForm")] Change);

    pub(crate) fn serialize<S: Serializer>(
        changes: &[Change],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(changes.iter().map(Borrowed))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Change>, D::Error> {
        let changes = crate::codec::bounded(deserializer)?;
        Ok(changes.into_iter().map(|Owned(change)| change).collect())
    }
}
