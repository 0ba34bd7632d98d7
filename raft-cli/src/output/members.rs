//! Who is in a cluster, printed.

use super::Table;
use raft_core::types::{Member, NodeId};
use raft_kv::api::{MemberRole, Members};
use serde::Serialize;

/// The members as JSON.
#[derive(Serialize)]
pub struct MembersJson {
    cluster: String,
    epoch: u64,
    leader: Option<u64>,
    voters: usize,
    quorum: usize,
    may_fail: usize,
    changing: bool,
    warning: Option<String>,
    members: Vec<MemberJson>,
}

#[derive(Serialize)]
struct MemberJson {
    id: u64,
    role: String,
    address: String,
    leader: bool,
    incarnation: Option<String>,
    priority: u8,
}

impl MembersJson {
    /// The JSON form.
    pub fn of(members: &Members) -> Self {
        let membership = &members.membership;
        let member = |(id, member): (&NodeId, &Member)| MemberJson {
            id: id.0,
            role: MemberRole::of(membership, *id).to_string(),
            address: member.address.clone(),
            leader: members.leader == Some(*id),
            incarnation: member.incarnation.map(|life| life.to_string()),
            priority: member.priority,
        };
        Self {
            cluster: members.cluster.to_string(),
            epoch: membership.epoch(),
            leader: members.leader.map(|id| id.0),
            voters: membership.voters().len(),
            quorum: membership.quorum_size(),
            may_fail: membership.tolerated_failures(),
            changing: membership.is_joint(),
            warning: members.warning(),
            members: membership.members().iter().map(member).collect(),
        }
    }
}

const HEADERS: [&str; 6] = ["NODE", "ROLE", "ADDRESS", "LEADER", "LIFE", ">PRIORITY"];

/// The members as a table, and how many of them may fail.
pub fn text(members: &Members) -> String {
    let mut table = Table::new(&HEADERS);
    for (id, member) in members.membership.members() {
        // Nothing was ever heard of a member that is not bound to a life.
        let life = member.incarnation.map_or_else(|| "unheard".into(), |life| life.to_string());
        table.row(vec![
            id.to_string(),
            MemberRole::of(&members.membership, *id).to_string(),
            member.address.clone(),
            if members.leader == Some(*id) { "yes" } else { "-" }.into(),
            life,
            member.priority.to_string(),
        ]);
    }
    format!("{}{}\n", table.render(), members.summary())
}

/// One line a member as `etcdctl member list` prints it: node, state, address, and whether it is a
/// learner.
pub fn simple(members: &Members) -> Vec<u8> {
    let line = |(id, member): (&NodeId, &Member)| {
        let role = MemberRole::of(&members.membership, *id);
        let state = if member.incarnation.is_some() { "started" } else { "unstarted" };
        let learner = matches!(role, MemberRole::Learner | MemberRole::Observer);
        format!("{id}, {state}, {}, {learner}\n", member.address)
    };
    members.membership.members().iter().map(line).collect::<String>().into_bytes()
}

/// `n1, n2 and n3`.
pub fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "nobody".into(),
    }
}
