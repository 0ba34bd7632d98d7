//! A leader's duties to the configuration (§6): one change at a time, each begun only when the one
//! before is committed.
//!
//! Whatever the configuration is, some next one may be due by itself: a joint one is left, a node
//! is bound to the life of its data directory that speaks for it, a learner that keeps up becomes a
//! voter, and once every member understands a newer version it is written down.

use super::Leader;
use crate::raft::ChangeRefusal;
use crate::raft::progress::Progress;
use crate::raft::state::State;
use crate::types::{
    Change, Index, InvalidChange, LogId, Member, Membership, NodeId, Payload, Version,
};

/// A node that is no member any more, and is still told so.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Parting {
    member: Member,
    /// The configuration without it.
    index: Index,
    /// When it is given up.
    pub(super) due: u64,
}

impl Leader {
    pub(in crate::raft) fn change_membership(
        &mut self,
        state: &mut State,
        changes: &[Change],
    ) -> Result<LogId, ChangeRefusal> {
        let membership = state.log.membership();
        let index = state.log.membership_index();
        if membership.version() < Version(2) {
            return Err(ChangeRefusal::TooOld);
        }
        // Without this two leaders could each begin a change from another configuration, and
        // commit both (thesis §4.1).
        if state.commit_index() < self.first_index {
            return Err(ChangeRefusal::NotReady);
        }
        if index > state.commit_index() || membership.is_joint() {
            return Err(ChangeRefusal::Pending { index });
        }
        if self.transfer.is_some() || self.is_removed(state) {
            return Err(ChangeRefusal::HandingOver);
        }
        let next = membership.changed(changes).map_err(ChangeRefusal::Invalid)?;
        let joins = |node: &&NodeId| !membership.is_voter(**node);
        if let Some(node) = next.voters().iter().filter(joins).find(|it| !self.knows(state, **it)) {
            return Err(ChangeRefusal::Behind { node: *node });
        }
        if next.size() > state.config.command_bytes_max {
            return Err(ChangeRefusal::Invalid(InvalidChange::TooLarge));
        }
        if !next.is_quorum(|node| node == state.id() || state.is_alive(node)) {
            return Err(ChangeRefusal::NoQuorum);
        }
        Ok(self.append_membership(state, next))
    }

    fn append_membership(&mut self, state: &mut State, next: Membership) -> LogId {
        let before = state.log.membership().clone();
        assert!(
            next.overlaps(&before),
            "a quorum of {before} could miss every quorum of {next}: neither may follow the other"
        );
        let id = self.append(state, Payload::Membership(next.into()));
        self.follow_membership(state, &before, id.index.next());
        id
    }

    /// Fits what is kept per follower to the configuration now in force.
    pub(super) fn follow_membership(
        &mut self,
        state: &mut State,
        before: &Membership,
        next: Index,
    ) {
        let membership = state.log.membership().clone();
        state.contacts.retain_members(&membership);
        let last = state.log.last().index;
        for (node, member) in membership.members().iter().filter(|(id, _)| **id != state.id()) {
            self.partings.remove(node);
            let progress = self.progress.get_or_insert_with(*node, || Progress::new(next));
            let other_life = progress.life.is_some() && progress.life != member.incarnation;
            if member.incarnation.is_some() && other_life {
                *progress = Progress::new(next);
            }
            match member.promote && !membership.is_voter(*node) {
                true => progress.begin_rounds(last, state.now),
                false => progress.round = None,
            }
        }
        let due = state.now + 2 * u64::from(state.config.election_ticks_max);
        for (node, member) in before.members() {
            if !membership.contains(*node) && *node != state.id() {
                let parting = Parting { member: member.clone(), index: last, due };
                self.partings.insert(*node, parting);
            }
        }
        let partings = &self.partings;
        self.progress.retain(|node, _| membership.contains(node) || partings.contains_key(&node));
    }

    /// Appends the configuration that is due next, if one is.
    pub(super) fn tend_membership(&mut self, state: &mut State) {
        let committed = state.log.membership_index() <= state.commit_index();
        let leaves = self.transfer.is_some() || self.is_removed(state);
        if !committed || state.commit_index() < self.first_index || leaves {
            return;
        }
        let due = self.due_membership(state);
        if let Some(next) = due.filter(|next| next != state.log.membership()) {
            self.append_membership(state, next);
        }
    }

    fn due_membership(&self, state: &State) -> Option<Membership> {
        let membership = state.log.membership();
        if membership.is_joint() {
            return Some(membership.left());
        }
        let upgrade = || {
            let version = self.spoken(state);
            (version > membership.version()).then(|| membership.upgraded(version))
        };
        if membership.version() < Version(2) {
            return upgrade();
        }
        self.bound(state).or_else(|| self.promoted(state)).or_else(upgrade)
    }

    /// Binds a member to the life that speaks for it. One that is bound already loses its vote by
    /// this, so it must have been silent: a blank process started by mistake evicts nobody.
    fn bound(&self, state: &State) -> Option<Membership> {
        let membership = state.log.membership();
        let patience = u64::from(state.config.election_ticks_max);
        for (node, member) in membership.members() {
            let contact = state.contacts.of(*node);
            let life = match member.incarnation {
                _ if *node == state.id() => {
                    Some(state.sender.incarnation).filter(|_| member.incarnation.is_none())
                }
                None => contact.life.filter(|_| contact.version >= membership.version()),
                Some(_) if !state.config.readmit => None,
                Some(_) => {
                    let heard = contact.heard_at.unwrap_or(0).max(self.since);
                    let silent = state.now >= heard + patience;
                    let speaks = |at: u64| at > heard && state.now < at + patience;
                    contact.other_life.filter(|(_, at)| silent && speaks(*at)).map(|(life, _)| life)
                }
            };
            if let Some(life) = life {
                return Some(membership.bound(*node, life));
            }
        }
        None
    }

    /// Makes voters of the learners that have caught up (thesis §4.2.1).
    fn promoted(&self, state: &State) -> Option<Membership> {
        let membership = state.log.membership();
        let fit = |node: &NodeId| {
            let progress = self.progress.get(*node)?;
            let round = progress.round.as_ref()?;
            let bound = membership.members().get(node)?.incarnation.is_some();
            let fit = round.caught_up && bound && self.knows(state, *node) && state.is_alive(*node);
            fit.then_some(Change::Promote { node: *node })
        };
        let changes: Vec<Change> = membership.learners().filter_map(|node| fit(&node)).collect();
        if changes.is_empty() { None } else { membership.changed(&changes).ok() }
    }

    /// Whether `node` holds the configuration that binds it: without that it would not vote.
    fn knows(&self, state: &State, node: NodeId) -> bool {
        let matched = self.progress.get(node).map(|progress| progress.match_index);
        matched >= Some(state.log.membership_index())
    }

    /// The newest version that every member is known to understand.
    fn spoken(&self, state: &State) -> Version {
        let of = |node: &NodeId| match *node == state.id() {
            true => state.sender.version,
            false => state.contacts.of(*node).version,
        };
        let members = state.log.membership().members();
        members.keys().map(of).min().unwrap_or_default()
    }

    /// Stops telling those that are no members any more once they know, or take too long.
    pub(super) fn tend_partings(&mut self, state: &State) {
        let progress = &mut self.progress;
        self.partings.retain(|node, parting| {
            let told = progress.get(*node).is_some_and(|it| it.commit_told >= parting.index);
            let stays = !told && state.now < parting.due;
            if !stays {
                progress.remove(*node);
            }
            stays
        });
    }

    /// Whether `node` was a member lately, and is still told what became of it.
    pub(in crate::raft) fn parts_with(&self, node: NodeId) -> bool {
        self.partings.contains_key(&node)
    }

    /// Where those are reached that are no members any more.
    pub(in crate::raft) fn partings(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.partings.iter().map(|(node, it)| (*node, &it.member))
    }
}
