//! Which steps of the specification a real server has taken.
//!
//! The durable log is what a write puts on the disk, operation by operation; a leader's log is what
//! it has in memory. What no step explains is no Raft.

use super::log::Log;
use super::{Life, Promises, Spec};
use crate::raft::{AppendOutcome, Envelope, Loaded, LogOp, Message, Moment, Raft, Write};
use crate::types::{HardState, Index, Membership, NodeId, Run, Term};
use std::collections::BTreeMap;

impl Spec {
    /// A disk holds what it holds, by assumption: at the first start, or because a test says so.
    pub(in crate::testing) fn assume(&mut self, node: NodeId, disk: &Loaded) {
        let HardState { term, vote } = disk.hard_state;
        let (log, agreed) = (Log::of(disk), BTreeMap::new());
        self.servers.insert(life(node, disk), Promises { term, vote, log, agreed });
    }

    /// The disk of `node`, which was `before`, has taken in `write` and nothing else.
    pub(in crate::testing) fn on_write(&mut self, node: NodeId, before: &Loaded, write: &Write) {
        let life = life(node, before);
        if !self.servers.contains_key(&life) {
            self.assume(node, before);
        }
        let mut disk = before.hard_state;
        for op in &write.ops {
            match op {
                LogOp::Identity(_) => {}
                LogOp::HardState(hard_state) => {
                    disk = *hard_state;
                    self.on_hard_state(life, *hard_state);
                }
                LogOp::Append(run) => self.on_append(life, run),
                LogOp::Compact(meta) => self.compact(life, meta),
                LogOp::Reset(meta) => self.install(life, meta),
            }
        }
        let server = self.server(life);
        let durable = HardState { term: server.term, vote: server.vote };
        assert!(durable == disk, "{node}: {write} leaves {disk:?}, its steps {durable:?}");
    }

    fn on_hard_state(&mut self, life: Life, HardState { term, vote }: HardState) {
        if term != self.server(life).term {
            self.adopt(life, term);
        }
        let open = self.server(life).vote;
        match vote {
            _ if vote == open => {}
            Some(candidate) if candidate == life.0 => self.ask(life),
            Some(candidate) => self.vote(life, candidate),
            None => panic!("{} forgets that it voted for {open:?}", life.0),
        }
    }

    /// Whose entries they are: of the first leader from the server's term on that has them. A write
    /// that also raises the term further does so at its end.
    fn on_append(&mut self, life: Life, run: &Run) {
        let own = self.server(life).term;
        let mut leaders = self.leaders.range(own..);
        let from = leaders.find(|(_, (_, log))| log.has(run)).map(|(term, _)| *term);
        let from = from.unwrap_or_else(|| panic!("{} appends {run}, which no leader has", life.0));
        if from > own {
            self.adopt(life, from);
        }
        self.accept(life, from, run);
    }

    /// A core went from `before`, with `membership` in force, to `after`; its disk and the writes
    /// under way, the newest among them asked for in this step.
    pub(in crate::testing) fn on_step<'a>(
        &mut self,
        before: &Moment,
        membership: &Membership,
        after: &Raft,
        disk: &Loaded,
        writes: impl Iterator<Item = &'a Write> + Clone,
    ) {
        let (was, is) = (before.commit_index, after.commit_index());
        let led = before.is_leader() && before.term == after.term();
        if is > was {
            if led {
                self.commit(after.term(), is, membership);
            }
            self.learn(after.id(), is, after.log_id_at(is));
        }
        if !after.is_leader() {
            return;
        }
        let term = after.term();
        if led {
            let last = self.leaders[&term].1.last();
            let new = writes.flat_map(|write| &write.ops).filter_map(|op| match op {
                LogOp::Append(run) => run.slice(last.index.next(), Index(u64::MAX)),
                _ => None,
            });
            if after.last_log() > last {
                new.for_each(|run| self.extend(term, super::log::items(&run)));
            }
            return;
        }
        self.on_leader(after, disk, writes);
    }

    fn on_leader<'a>(
        &mut self,
        raft: &Raft,
        disk: &Loaded,
        writes: impl Iterator<Item = &'a Write>,
    ) {
        let life = life(raft.id(), disk);
        if !self.servers.contains_key(&life) {
            self.assume(raft.id(), disk);
        }
        let mut log = self.server(life).log.clone();
        for op in writes.flat_map(|write| &write.ops) {
            match op {
                LogOp::Append(run) => {
                    log.truncate(run.first().index.previous());
                    super::log::items(run).for_each(|(id, membership)| log.push(id, membership));
                }
                LogOp::Reset(meta) => log = self.committed.prefix(meta.last.index),
                _ => {}
            }
        }
        let last = raft.last_log();
        assert!(log.last() == last, "{} holds {last} and writes {:?}", raft.id(), log.last());
        // What it adds at once has to follow the same rules as what it adds later.
        let (term, before) = (raft.term(), log.before(raft.term()).index);
        let earlier = log.prefix(before);
        match earlier.is_blank() {
            true => self.found(life, term, earlier),
            false => self.elect(life, term, earlier),
        }
        self.extend(term, log.after(before));
    }

    /// `disk` is that of the sender of `envelope`: if it acknowledges something, it holds what the
    /// leader of that term has, or did when it left that term.
    pub(in crate::testing) fn on_send(&self, envelope: &Envelope, disk: &Loaded) {
        let Message::AppendEntriesResponse { outcome: AppendOutcome::Matched(index), .. } =
            envelope.message
        else {
            return;
        };
        let (from, term) = (envelope.from, envelope.term);
        let leader = self.leaders.get(&term).map(|(_, log)| log);
        let leader = leader.unwrap_or_else(|| panic!("{envelope}: nobody leads in {term}"));
        let server = &self.servers[&life(from, disk)];
        let agreed = match server.term == term {
            true if server.log.id_at(index) == leader.id_at(index) => index,
            true => server.log.agreement(leader),
            false => server.agreed.get(&term).copied().unwrap_or_default(),
        };
        let held = agreed >= index && leader.last().index >= index;
        assert!(held, "{envelope}: the disk of {from} is the leader's up to {agreed} only");
    }

    /// A node crashes before its term is durable; `disk` is what it has. If it founded the cluster
    /// in that term, nobody knows: whether it did.
    pub(in crate::testing) fn on_forgotten_term(
        &mut self,
        term: Term,
        node: NodeId,
        disk: &Loaded,
    ) -> bool {
        // In an earlier life it may have led the term, and told everybody; nor is anybody elected
        // before a term is durable.
        let founds = |(it, log): &(Life, Log)| {
            *it == life(node, disk) && log.prefix(log.before(term).index).is_blank()
        };
        let founded = self.leaders.get(&term).is_some_and(founds);
        if founded {
            self.leaders.remove(&term);
        }
        founded
    }
}

fn life(node: NodeId, disk: &Loaded) -> Life {
    let identity = disk.identity.expect("every disk of a cluster has an identity");
    (node, identity.incarnation)
}
