//! How a cluster comes to be: once, when all its initial members are there and blank.
//!
//! Every blank node says hello to the others it is to form a cluster with. The one with the lowest
//! id, the founder, waits until each of the others has answered its hello; then its first entry is
//! the membership, with the life of every member. Nobody campaigns before it holds that entry, so
//! nobody else can lead meanwhile. Term, vote and entry are one write, and nothing of them is told
//! before that is durable: a founder that crashes has founded, or is blank still.
//!
//! A blank node that has heard of a term founds nothing, for there is a cluster. Else the founder
//! of a cluster of one that has grown, once its directory is lost, would found another while the
//! others take it back. It does so if nobody reaches it before its first tick: no node alone can
//! know.

use super::message::Message;
use super::state::State;
use crate::types::{Incarnation, LogId, Membership, NodeId, Sender, Term};
use std::collections::BTreeMap;

/// The hellos of the initial members, newest each.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Hellos(BTreeMap<NodeId, Hello>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Hello {
    sender: Sender,
    at: u64,
    /// Whether it names the same members, and answers a hello of this life of ours.
    agrees: bool,
}

impl State {
    /// Whether this node belongs to a cluster: its log has a membership.
    pub(super) fn is_formed(&self) -> bool {
        !self.log.membership().is_empty()
    }

    /// A tick of a node without a cluster; whether it is to found one.
    pub(super) fn greet(&mut self) -> bool {
        if self.now.is_multiple_of(u64::from(self.config.heartbeat_ticks)) {
            self.say_hello();
        }
        self.to_found().is_some()
    }

    /// Tells the other initial members that this node is here, and blank.
    fn say_hello(&mut self) {
        let members: Vec<NodeId> = self.config.initial.keys().copied().collect();
        let own = self.id();
        for node in members.iter().filter(|node| **node != own) {
            let seen = self.hellos.0.get(node).map(|hello| hello.sender.incarnation);
            self.send(*node, Message::Hello { members: members.clone(), seen });
        }
    }

    pub(super) fn on_hello(
        &mut self,
        from: NodeId,
        sender: Sender,
        members: &[NodeId],
        seen: Option<Incarnation>,
    ) {
        if self.is_formed() || !self.config.initial.contains_key(&from) {
            return;
        }
        let same = members.iter().eq(self.config.initial.keys());
        let agrees = same && seen == Some(self.sender.incarnation);
        self.hellos.0.insert(from, Hello { sender, at: self.now, agrees });
    }

    /// The membership to found the cluster with, if this is the founder and all others are there.
    pub(super) fn to_found(&self) -> Option<Membership> {
        let founder = self.config.initial.keys().next() == Some(&self.id());
        let unaware = self.term() == Term(0) && self.restoring.is_none();
        let blank = self.log.last() == LogId::ZERO && unaware;
        if self.is_formed() || !founder || !blank {
            return None;
        }
        let mut version = self.sender.version;
        let mut members = self.config.initial.clone();
        for (node, member) in &mut members {
            let sender = if *node == self.id() { self.sender } else { self.present(*node)? };
            member.incarnation = Some(sender.incarnation);
            version = version.min(sender.version);
        }
        Some(Membership::of_voters(members).upgraded(version))
    }

    /// Whether this blank node has heard from another life of `from` since: then what `sender` says
    /// comes late, from one that may have founded the cluster before it was lost.
    pub(super) fn has_greeted_another_life(&self, from: NodeId, sender: Sender) -> bool {
        let greeted = self.hellos.0.get(&from).map(|hello| hello.sender.incarnation);
        !self.is_formed() && greeted.is_some_and(|life| life != sender.incarnation)
    }

    fn present(&self, node: NodeId) -> Option<Sender> {
        let hello = self.hellos.0.get(&node)?;
        let recent = self.now <= hello.at + u64::from(self.config.election_ticks_min);
        (hello.agrees && recent).then_some(hello.sender)
    }

    /// The initial members that this node waits for, as long as there is no cluster.
    pub(super) fn missing_members(&self) -> Vec<NodeId> {
        if self.is_formed() {
            return Vec::new();
        }
        let others = self.config.initial.keys().copied().filter(|node| *node != self.id());
        others.filter(|node| self.present(*node).is_none()).collect()
    }
}
