//! What was heard of the other nodes: when, of which life of theirs, in which version.
//!
//! Only of members, so that strangers cost no memory.

use super::by_node::ByNode;
use crate::types::{Incarnation, Membership, NodeId, Sender, Version};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Contacts {
    nodes: ByNode<Contact>,
    /// Whether any disk was said to stall, so that it costs nothing as long as none does.
    stalled: bool,
}

/// What was heard of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Contact {
    /// When the life that the member is bound to was last heard of; before it is bound, any.
    pub(super) heard_at: Option<u64>,
    /// When that life last answered this node as its leader: what it sends besides does not show
    /// that it hears anything.
    pub(super) answered_at: Option<u64>,
    /// The life that last answered, as long as it is the one that counts.
    pub(super) life: Option<Incarnation>,
    /// The newest version that life understands.
    pub(super) version: Version,
    /// How long its disk had owed it a write when it last said so, in ticks.
    pub(super) stalled_ticks: u32,
    /// Another life of the node that has answered, and when it last did. One that cannot be
    /// reached is not to take anybody's place.
    pub(super) other_life: Option<(Incarnation, u64)>,
    /// Another life of the node that was heard of in any way. Only shown.
    pub(super) caller: Option<Incarnation>,
}

impl Contacts {
    /// Notes a message of `sender`, a life of `from`, and whether it `answers` this node as its
    /// leader. Returns whether it is the life that the member is bound to, or the member is not
    /// bound yet.
    pub(super) fn note(
        &mut self,
        membership: &Membership,
        from: NodeId,
        sender: Sender,
        answers: bool,
        now: u64,
    ) -> bool {
        let Some(member) = membership.members().get(&from) else { return false };
        let admitted = member.incarnation.is_none_or(|bound| bound == sender.incarnation);
        let contact = self.nodes.get_or_insert_with(from, Contact::default);
        if admitted {
            contact.heard_at = Some(now);
            contact.version = sender.version;
            if answers {
                contact.answered_at = Some(now);
                contact.life = Some(sender.incarnation);
            }
        } else {
            contact.caller = Some(sender.incarnation);
            if answers {
                contact.other_life = Some((sender.incarnation, now));
            }
        }
        admitted
    }

    /// Notes that `sender`, a life of `from`, calls, which says nothing of whether it hears.
    pub(super) fn note_caller(&mut self, membership: &Membership, from: NodeId, sender: Sender) {
        if membership.contains(from) && !membership.admits(from, sender.incarnation) {
            let contact = self.nodes.get_or_insert_with(from, Contact::default);
            contact.caller = Some(sender.incarnation);
        }
    }

    pub(super) fn of(&self, node: NodeId) -> Contact {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    pub(super) fn note_stall(&mut self, node: NodeId, ticks: u32) {
        if !self.stalled && ticks == 0 {
            return;
        }
        if let Some(contact) = self.nodes.get_mut(node) {
            contact.stalled_ticks = ticks;
        }
        self.stalled = self.nodes.values().any(|contact| contact.stalled_ticks > 0);
    }

    /// Keeps what a leader will ask for: who has answered it lately, and as which life; of others
    /// only the life of a member that is not bound yet. See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self, membership: &Membership, leads: bool, now: u64, recent: u64) {
        let now_new = super::rebase::NOW;
        self.nodes.retain(|node, contact| {
            let member = membership.members().get(&node);
            let bound = member.is_none_or(|member| member.incarnation.is_some());
            let answered = contact.answered_at.is_some_and(|at| leads && now < at + recent);
            contact.answered_at = answered.then_some(now_new);
            contact.heard_at = None;
            contact.caller = None;
            contact.other_life = contact.other_life.map(|(life, _)| (life, now_new));
            if bound {
                contact.version = Version::OLDEST;
            }
            answered || !bound
        });
    }

    /// Forgets whoever is no member of `membership`, and what was heard of lives that a member is
    /// not bound to any more.
    pub(super) fn retain_members(&mut self, membership: &Membership) {
        self.nodes.retain(|node, _| membership.contains(node));
        for (node, contact) in self.nodes.iter_mut() {
            let bound = membership.members().get(&node).and_then(|member| member.incarnation);
            if bound.is_some() && contact.life != bound {
                let known = contact.other_life.filter(|(life, _)| Some(*life) == bound);
                *contact = Contact {
                    heard_at: known.map(|(_, at)| at),
                    life: known.map(|(life, _)| life),
                    ..Contact::default()
                };
            }
        }
    }
}
