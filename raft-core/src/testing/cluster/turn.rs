//! One step of one node: what the core makes of an event, carried out and held against checkers.

use super::Cluster;
use crate::raft::{Apply, Moment, Output, Raft, Write, check};
use crate::testing::machine::Machine;
use crate::testing::server::{Server, appended};
use crate::types::{LogId, Membership, NodeId, Run, SnapshotMeta};

impl<M: Machine> Cluster<M> {
    /// Wherever a state came from, it is that of every other node that has applied as much.
    pub(super) fn check_state(&mut self, id: NodeId) {
        let machine = &self.servers[&id].machine;
        if let Some(hash) = machine.state_hash() {
            self.checker.on_state(id, machine.applied().last.index, hash);
        }
    }

    /// Lets `step` work on the core of `id`, if it is up, and carries out what comes of it.
    pub(super) fn act<T>(&mut self, id: NodeId, step: impl FnOnce(&mut Raft) -> T) -> Option<T> {
        let server = self.server_mut(id);
        let mut raft = server.raft.take()?;
        let membership = std::mem::take(&mut server.membership);
        let before = Moment::of(&raft);
        let result = step(&mut raft);
        let output = raft.take_output();
        check(&raft);
        before.check(&raft);
        self.note_role(&before, &raft);
        if raft.is_leader() {
            self.checker.on_leader(&raft);
        }
        self.carry_out(&before, &membership, &raft, output);
        let Server { disk, writes, .. } = &self.servers[&id];
        self.spec.on_step(&before, &membership, &raft, disk, writes.iter());
        let server = self.server_mut(id);
        server.membership = match membership == *raft.membership() {
            true => membership,
            false => raft.membership().clone(),
        };
        server.raft = Some(raft);
        Some(result)
    }

    fn carry_out(
        &mut self,
        before: &Moment,
        membership: &Membership,
        after: &Raft,
        output: Output,
    ) {
        let (id, term) = (after.id(), after.term());
        if let Some(write) = output.write {
            self.take_write(before, after, write);
        }
        // Messages of the same output tell of it.
        let committed = after.commit_index() > before.commit_index;
        if committed && self.checker.on_commit(before, membership, after) {
            self.check_disks();
        }
        for envelope in output.messages {
            self.note(format_args!("{envelope}"));
            let disk = &self.servers[&id].disk;
            self.checker.on_send(&envelope, disk);
            self.spec.on_send(&envelope, disk);
            self.put_in(envelope);
        }
        if committed {
            self.note(format_args!("{id}@{term} commit {}", after.commit_index()));
        }
        for apply in output.apply {
            match apply {
                Apply::Entries(run) => self.apply(after, &run),
                Apply::Restore(meta) => self.start_restore(after, meta),
            }
        }
        for (read, index) in output.reads {
            self.note(format_args!("{id}@{term} read {read} index={index}"));
            let began = self.server_mut(id).reads.remove(&read).expect("a read that was asked for");
            self.checker.on_read(id, began, index);
            self.server_mut(id).answered.push((read, index));
        }
        if let Some(leader) = output.probe {
            self.note(format_args!("{id}@{term} probe {leader}"));
        }
        for to in output.send_snapshot {
            self.note(format_args!("{id}@{term} snapshot for {to}"));
            self.server_mut(id).asked.insert(to, term);
        }
    }

    fn take_write(&mut self, before: &Moment, after: &Raft, write: Write) {
        let (id, term) = (after.id(), after.term());
        let mut last = before.last_log;
        for run in appended(&write) {
            let first = run.first();
            let prev = after.log_id_at(first.index.previous());
            self.checker.on_append(prev.unwrap_or(LogId::ZERO), run);
            if first.index <= last.index {
                self.note(format_args!("{id}@{term} truncate from {}", first.index));
            }
            for entry in run.entries() {
                self.note(format_args!("{id}@{term} append {entry}"));
            }
            last = run.last();
        }
        self.note(format_args!("{id}@{term} write {write}"));
        self.server_mut(id).writes.push_back(write);
    }

    fn apply(&mut self, raft: &Raft, run: &Run) {
        let (id, term) = (raft.id(), raft.term());
        for entry in run.entries() {
            self.note(format_args!("{id}@{term} apply {entry}"));
        }
        let Self { servers, checker, .. } = self;
        let server = servers.get_mut(&id).expect("it has a core");
        // Every other node applies one by one, so that there is a state to compare with wherever
        // the run of another ends.
        let singly = id.0 % 2 == 1;
        let mut from = run.first().index;
        while let Some(part) = run.slice(from, if singly { from } else { run.last().index }) {
            server.machine.apply(&part, |entry, digest| checker.on_apply(id, entry, digest));
            let last = part.last().index;
            if let Some(hash) = server.machine.state_hash() {
                checker.on_state(id, last, hash);
            }
            from = last.next();
        }
    }

    fn start_restore(&mut self, raft: &Raft, meta: SnapshotMeta) {
        let (id, term) = (raft.id(), raft.term());
        self.note(format_args!("{id}@{term} restore {meta}"));
        let replaced = self.server_mut(id).restoring.replace(meta);
        assert!(replaced.is_none(), "{id} restores two snapshots at once");
    }
}
