//! A small abstract Raft: what servers have durably promised, what each term's leader has in its
//! log, and what is committed; and the steps that may change them (figure 2, §6, §7).
//!
//! It knows no messages, no clocks and no writes under way. A [`Cluster`](super::Cluster) shows it
//! everything that its servers do: every operation on a disk and every change of a leader or of a
//! commit index must be one of the steps below, or nothing at all. So whatever follows from the
//! steps - figure 3 does - holds of the cluster. It decides nothing, and panics with the values
//! when a step is not allowed.
//!
//! | step | when it is allowed |
//! |---|---|
//! | adopt | the term rises; the vote of the new term is open |
//! | ask | a server votes for itself, and thereby says how far its log reaches |
//! | vote | the vote is open, and whoever asks has a log at least as up-to-date (§5.4.1) |
//! | found | the log and the configuration are blank |
//! | elect | the term has no leader, and a quorum of the configuration in the log voted (§5.2) |
//! | extend | the leader adds entries of its term; of configurations one at a time (§6) |
//! | accept | a log becomes equal to the leader's up to some entry; what agrees stays (§5.3) |
//! | commit | an entry of the leader's term is in the logs of a quorum (§5.4.2) |
//! | learn | a server hears of a commit, and its log agrees |
//! | compact | a committed prefix is left to the state machine, with its configuration (§7) |
//! | install | a log that lacks something committed becomes exactly what is committed (§7) |

mod log;
mod refine;

use crate::types::{Incarnation, Index, LogId, Membership, NodeId, Run, SnapshotMeta, Term};
use log::Log;
use std::collections::BTreeMap;

/// One life of a node.
type Life = (NodeId, Incarnation);

/// The abstract state. See the module.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    servers: BTreeMap<Life, Promises>,
    /// How far the log of a candidate reached when it asked for votes.
    asked: BTreeMap<(Term, NodeId), LogId>,
    /// Every vote there ever was.
    votes: BTreeMap<(Term, Life), NodeId>,
    /// The leader of each term, and its log.
    leaders: BTreeMap<Term, (Life, Log)>,
    committed: Log,
    /// Up to where the leader of a term was the first to commit; both ascend.
    commits: Vec<(Term, Index)>,
    /// Up to where the leader of a term has committed, be it after a later one.
    settled: BTreeMap<Term, Index>,
    steps: BTreeMap<&'static str, u64>,
}

/// What a server may not forget.
#[derive(Clone, Debug)]
struct Promises {
    term: Term,
    vote: Option<NodeId>,
    log: Log,
    /// Up to where the log was that of the leader of an earlier term when that term was left.
    agreed: BTreeMap<Term, Index>,
}

impl Spec {
    /// How often each step was taken, by its name in the table above.
    pub const fn steps(&self) -> &BTreeMap<&'static str, u64> {
        &self.steps
    }

    fn count(&mut self, step: &'static str) {
        *self.steps.entry(step).or_default() += 1;
    }

    fn server(&mut self, life: Life) -> &mut Promises {
        self.servers.get_mut(&life).expect("the server was shown before")
    }

    fn adopt(&mut self, life: Life, term: Term) {
        self.count("adopt");
        let server = self.servers.get_mut(&life).expect("the server was shown before");
        assert!(term > server.term, "adopt: {} falls from {} to {term}", life.0, server.term);
        for (of, (_, leader)) in self.leaders.range(server.term..term) {
            server.agreed.insert(*of, server.log.agreement(leader));
        }
        (server.term, server.vote) = (term, None);
    }

    fn ask(&mut self, life: Life) {
        self.count("ask");
        let server = self.server(life);
        assert!(server.vote.is_none(), "ask: {} has voted for {:?}", life.0, server.vote);
        server.vote = Some(life.0);
        let (term, last) = (server.term, server.log.last());
        let known = self.asked.entry((term, life.0)).or_insert(last);
        *known = last.max(*known);
        self.votes.insert((term, life), life.0);
    }

    fn vote(&mut self, life: Life, candidate: NodeId) {
        self.count("vote");
        let server = self.server(life);
        assert!(server.vote.is_none(), "vote: {} has voted for {:?}", life.0, server.vote);
        server.vote = Some(candidate);
        let (term, last) = (server.term, server.log.last());
        let asked = self.asked.get(&(term, candidate));
        assert!(
            asked.is_some_and(|asked| *asked >= last),
            "vote: {} has {last} and votes for {candidate}, which asked with {asked:?}",
            life.0
        );
        self.votes.insert((term, life), candidate);
    }

    /// `log` is without what the new leader adds in its term.
    fn found(&mut self, life: Life, term: Term, log: Log) {
        self.count("found");
        assert!(log.is_blank(), "found: {} is not blank: {log:?}", life.0);
        let known = self.leaders.insert(term, (life, log));
        assert!(known.is_none(), "found: term {term} has the leader {known:?}");
    }

    /// `log` is without what the new leader adds in its term.
    fn elect(&mut self, life: Life, term: Term, log: Log) {
        self.count("elect");
        assert!(
            !self.leaders.contains_key(&term),
            "elect: {} in term {term}, which {:?} leads",
            life.0,
            self.leaders[&term].0
        );
        let last = log.last();
        let asked = self.asked.get(&(term, life.0));
        assert!(asked == Some(&last), "elect: {} with {last} asked with {asked:?}", life.0);
        let membership = log.membership();
        let voted = |node| {
            self.lives(membership, node).any(|it| self.votes.get(&(term, it)) == Some(&life.0))
        };
        assert!(membership.is_quorum(voted), "elect: {} in {term} without a quorum", life.0);
        // Votes may be counted late, when a later leader has committed more.
        let earlier = self.commits.partition_point(|(by, _)| *by < term);
        let settled = earlier.checked_sub(1).map_or(Index(0), |last| self.commits[last].1);
        let holds = self.committed.id_at(settled).is_some_and(|id| log.holds(id));
        assert!(holds, "elect: {} in {term} lacks entry {settled}, committed before", life.0);
        self.leaders.insert(term, (life, log));
    }

    fn extend<'a>(
        &mut self,
        term: Term,
        entries: impl Iterator<Item = (LogId, Option<&'a Membership>)>,
    ) {
        self.count("extend");
        // Of the leader itself: another one may have committed more, and it not know.
        let settled = self.settled.get(&term).copied();
        let (life, log) = self.leaders.get_mut(&term).expect("a leader extends its log");
        for (id, membership) in entries {
            assert!(id.term == term, "extend: {} adds {id} in {term}", life.0);
            if let Some(membership) = membership {
                let before = log.membership();
                let at = log.membership_index();
                // The first entry of all is the configuration that a cluster is founded with.
                let first = id.index == Index(1) && (before.is_empty() || membership == before);
                let ready = first || settled.is_some_and(|settled| at <= settled);
                assert!(ready, "extend: {} adds {membership} after {at} and {settled:?}", life.0);
                let overlaps = first || membership.overlaps(before);
                assert!(overlaps, "extend: {before} becomes {membership}");
            }
            log.push(id, membership);
        }
    }

    /// Takes `run` from the leader of `term`.
    fn accept(&mut self, life: Life, term: Term, run: &Run) {
        self.count("accept");
        let (_, leader) = &self.leaders[&term];
        let server = self.servers.get_mut(&life).expect("the server was shown before");
        assert!(term == server.term, "accept: {} is in {}, not {term}", life.0, server.term);
        let first = run.first();
        let before = first.index.previous();
        assert!(
            server.log.id_at(before) == leader.id_at(before),
            "accept: {run}: before it {} has {:?}, the leader of {term} {:?}",
            life.0,
            server.log.id_at(before),
            leader.id_at(before)
        );
        let replaced = server.log.id_at(first.index);
        assert!(replaced != Some(first), "accept: {} drops {first}, which agrees", life.0);
        server.log.truncate(before);
        for (id, membership) in log::items(run) {
            server.log.push(id, membership);
        }
    }

    /// `membership` is the one that was counted by. The leader of a later term may have committed
    /// as much before.
    fn commit(&mut self, term: Term, index: Index, membership: &Membership) {
        self.count("commit");
        let (life, log) = &self.leaders[&term];
        let id = log.id_at(index).expect("a leader commits what it has");
        assert!(id.term == term, "commit: {} counts {id} in {term}", life.0);
        assert!(membership == log.membership(), "commit: {id} counted by {membership}");
        let holds = |node| {
            let mut lives = self.lives(membership, node);
            lives.any(|life| self.servers.get(&life).is_some_and(|it| it.log.holds(id)))
        };
        assert!(membership.is_quorum(holds), "commit: {id} is not in the logs of a quorum");
        if index > self.committed.last().index {
            assert!(self.committed.is_prefix_of(log), "commit: {id} replaces something committed");
            self.committed.grow(log, index);
            self.commits.push((term, index));
        }
        let known = self.committed.id_at(index);
        assert!(known == Some(id), "commit: {id}, committed is {known:?}");
        self.settled.insert(term, index);
    }

    fn learn(&mut self, node: NodeId, index: Index, id: Option<LogId>) {
        self.count("learn");
        let known = self.committed.id_at(index);
        assert!(known.is_some(), "learn: {node} hears of {index}, which is not committed");
        assert!(id.is_none() || id == known, "learn: {node} has {id:?}, committed is {known:?}");
    }

    fn compact(&mut self, life: Life, meta: &SnapshotMeta) {
        self.count("compact");
        self.check_snapshot("compact", meta);
        let log = &self.server(life).log;
        assert!(log.holds(meta.last), "compact: {} has no {}", life.0, meta.last);
    }

    fn install(&mut self, life: Life, meta: &SnapshotMeta) {
        self.count("install");
        self.check_snapshot("install", meta);
        let prefix = self.committed.prefix(meta.last.index);
        let log = &mut self.server(life).log;
        assert!(!log.holds(meta.last), "install: {} has {} already", life.0, meta.last);
        *log = prefix;
    }

    /// A snapshot is a prefix of what is committed, with the configuration in force there.
    fn check_snapshot(&self, step: &str, meta: &SnapshotMeta) {
        let SnapshotMeta { last, membership } = meta;
        assert!(self.committed.holds(*last), "{step}: {last} is not committed");
        let in_force = self.committed.membership_before(last.index.next());
        assert!(membership == in_force, "{step}: {last} has {membership}, {in_force} is in force");
    }

    /// The lives of `node` whose word counts.
    fn lives<'a>(
        &'a self,
        membership: &'a Membership,
        node: NodeId,
    ) -> impl Iterator<Item = Life> + 'a {
        let all = self.servers.range((node, Incarnation(0))..=(node, Incarnation(u64::MAX)));
        all.map(|(life, _)| *life).filter(move |life| membership.admits(node, life.1))
    }
}
