//! A cluster in one thread: cores, a pool of messages, disks that complete when told to, and state
//! machines that keep a digest.
//!
//! It decides nothing: its driver says which message arrives, which write completes, who crashes.
//! A crash keeps what was written and nothing else. After every step the invariants of the node and
//! of the cluster are checked; a broken one panics.

use super::checker::Checker;
use super::machine::{Digest, Machine};
use super::server::{Server, initial};
use super::spec::Spec;
use crate::raft::{
    Apply, ChangeRefusal, Config, Envelope, Input, Loaded, Message, Output, Raft, Refusal,
    TransferRefusal, Write, check, check_change,
};
use crate::types::{
    Change, Incarnation, Index, LogId, Member, Membership, NodeId, ReadId, Run, SnapshotMeta,
    Version, WriteSeq,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

/// Nodes, the messages between them, and everything that was observed.
#[derive(Clone, Debug)]
pub struct Cluster<M: Machine = Digest> {
    servers: BTreeMap<NodeId, Server<M>>,
    source: M::Source,
    config: Config,
    seed: u64,
    /// Messages under way, oldest first.
    pool: Vec<Envelope>,
    /// Links that carry nothing, by sender and receiver.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// The snapshots that were ever sent.
    snapshots: BTreeMap<LogId, M::Snapshot>,
    /// The disks of lives that are over.
    graves: BTreeMap<(NodeId, Incarnation), Loaded>,
    checker: Checker,
    spec: Spec,
    trace: Option<String>,
}

impl Cluster {
    /// Voters `n1` to `n<nodes>` in term 0 with empty logs, alive and connected, whose state
    /// machines keep a digest. `config` is theirs but for the id; `seed` decides every random
    /// choice. With `traced`, what happens is written down for [`Cluster::take_trace`].
    ///
    /// # Panics
    /// If `config` makes no sense.
    pub fn new(nodes: u64, config: &Config, seed: u64, traced: bool) -> Self {
        Self::with((), nodes, config, seed, traced)
    }

    /// Nodes `n1` to `n<nodes>` that are blank, and are to form a cluster.
    ///
    /// # Panics
    /// If `config` makes no sense.
    pub fn blank(nodes: u64, config: &Config, seed: u64, traced: bool) -> Self {
        let initial = (1..=nodes).map(|id| (NodeId(id), Member::default())).collect();
        let config = Config { initial, ..config.clone() };
        Self::of((), nodes, &Membership::default(), &config, seed, traced)
    }
}

impl<M: Machine> Cluster<M> {
    /// As [`Cluster::new`], of nodes whose state machines are made from `source`.
    ///
    /// # Panics
    /// If `config` makes no sense.
    pub fn with(source: M::Source, nodes: u64, config: &Config, seed: u64, traced: bool) -> Self {
        let membership = initial(nodes).upgraded(config.version);
        Self::of(source, nodes, &membership, config, seed, traced)
    }

    fn of(
        source: M::Source,
        nodes: u64,
        membership: &Membership,
        config: &Config,
        seed: u64,
        traced: bool,
    ) -> Self {
        let new = |id| {
            let machine = M::open(&source, id);
            (id, Server::new(Config { id, ..config.clone() }, membership, seed, machine))
        };
        Self {
            servers: (1..=nodes).map(NodeId).map(new).collect(),
            source,
            config: config.clone(),
            seed,
            pool: Vec::new(),
            cut: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            graves: BTreeMap::new(),
            checker: Checker::new(),
            spec: Spec::default(),
            trace: traced.then(String::new),
        }
    }

    /// Puts in a blank node that waits to be added.
    pub fn add_server(&mut self, id: NodeId) {
        let config = Config { id, initial: BTreeMap::new(), ..self.config.clone() };
        let machine = M::open(&self.source, id);
        let server = Server::new(config, &Membership::default(), self.seed, machine);
        let replaced = self.servers.insert(id, server);
        assert!(replaced.is_none(), "there is a {id} already");
    }

    /// Asks `id` to change the membership.
    pub fn change(
        &mut self,
        id: NodeId,
        changes: &[Change],
    ) -> Option<Result<LogId, ChangeRefusal>> {
        self.act(id, |raft| raft.change_membership(changes))
    }

    /// The directory of `id` is lost; it starts again, blank, as another life.
    pub fn wipe(&mut self, id: NodeId) {
        let disk = self.server_mut(id).wipe();
        if let Some(identity) = disk.identity {
            self.graves.insert((id, identity.incarnation), disk);
        }
        self.note(format_args!("{id} wiped"));
        self.restart(id);
    }

    /// `id` stops, and starts again as a program of another version.
    pub fn upgrade(&mut self, id: NodeId, version: Version) {
        self.crash(id, None);
        self.server_mut(id).set_version(version);
        self.restart(id);
    }

    /// The nodes, by id.
    pub const fn servers(&self) -> &BTreeMap<NodeId, Server<M>> {
        &self.servers
    }

    /// The server `id`.
    ///
    /// # Panics
    /// If there is none.
    pub fn server(&self, id: NodeId) -> &Server<M> {
        self.servers.get(&id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    fn server_mut(&mut self, id: NodeId) -> &mut Server<M> {
        self.servers.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    /// Messages under way, oldest first.
    pub fn pool(&self) -> &[Envelope] {
        &self.pool
    }

    /// What was observed.
    pub const fn checker(&self) -> &Checker {
        &self.checker
    }

    /// What it amounts to in the abstract.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What happened since the last call, a line per event.
    pub fn take_trace(&mut self) -> String {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A tick of the clock of `id`.
    pub fn tick(&mut self, id: NodeId) {
        self.act(id, |raft| raft.step(Input::Tick));
    }

    /// `id` campaigns at once.
    pub fn campaign(&mut self, id: NodeId) {
        self.act(id, Raft::campaign);
    }

    /// Proposes commands on `id` within one turn; one result for each.
    pub fn propose(&mut self, id: NodeId, commands: &[Bytes]) -> Vec<Result<LogId, Refusal>> {
        let propose = |raft: &mut Raft| commands.iter().map(|x| raft.propose(x.clone())).collect();
        self.act(id, propose).unwrap_or_default()
    }

    /// Asks `id` for a linearizable read; its name, if the node is up. See
    /// [`Cluster::take_answered`].
    pub fn read(&mut self, id: NodeId) -> Option<ReadId> {
        let began = self.checker.committed();
        let server = self.server_mut(id);
        let raft = server.raft.as_mut()?;
        let read = raft.read();
        server.reads.insert(read, began);
        let term = raft.term();
        self.note(format_args!("{id}@{term} read {read}"));
        self.act(id, |_| {});
        Some(read)
    }

    /// Reads of `id` that may be answered, each once the node has applied its index.
    pub fn take_answered(&mut self, id: NodeId) -> Vec<(ReadId, Index)> {
        std::mem::take(&mut self.server_mut(id).answered)
    }

    /// Reads on `id` by its lease, if it has one; whether it has.
    pub fn read_by_lease(&mut self, id: NodeId) -> bool {
        let lease = self.server(id).raft.as_ref().and_then(Raft::lease);
        if let Some(lease) = &lease {
            self.checker.on_read(id, self.checker.committed(), lease.index);
        }
        lease.is_some()
    }

    /// Asks `id` to hand leadership over.
    pub fn transfer(
        &mut self,
        id: NodeId,
        to: Option<NodeId>,
    ) -> Option<Result<NodeId, TransferRefusal>> {
        self.act(id, |raft| raft.transfer_leadership(to))
    }

    /// The message at `position` of the pool arrives, or is lost if its link is cut or its receiver
    /// down.
    pub fn deliver(&mut self, position: usize) {
        let envelope = self.pool.remove(position);
        let (from, to) = (envelope.from, envelope.to);
        let reaches = self.servers.get(&to).is_some_and(|server| server.raft.is_some());
        if !reaches || self.cut.contains(&(from, to)) {
            return self.note(format_args!("{envelope} (lost)"));
        }
        self.act(to, |raft| raft.step(Input::Message(envelope)));
    }

    /// The message at `position` of the pool is lost.
    pub fn drop_message(&mut self, position: usize) {
        let envelope = self.pool.remove(position);
        self.note(format_args!("{envelope} (lost)"));
    }

    /// The message at `position` of the pool arrives twice: a copy goes to the end.
    pub fn duplicate(&mut self, position: usize) {
        let envelope = self.pool[position].clone();
        self.note(format_args!("{envelope} (doubled)"));
        self.pool.push(envelope);
    }

    /// Puts a message into the pool that nobody sent.
    pub fn inject(&mut self, envelope: Envelope) {
        self.pool.push(envelope);
    }

    /// Nothing sent by `from` reaches `to` any more.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The disk of `id` completes its writes up to `until`, or all of them, and reports the last.
    pub fn persist(&mut self, id: NodeId, until: Option<WriteSeq>) {
        let until = until.unwrap_or(WriteSeq(u64::MAX));
        let Some(seq) = self.write_through(id, until) else { return };
        let term = self.server(id).raft.as_ref().map_or(0, |raft| raft.term().0);
        self.note(format_args!("{id}@{term} persisted {seq}"));
        self.act(id, |raft| raft.step(Input::Persisted(seq)));
    }

    /// `id` stops. Of its unreported writes, those up to `kept` reached the disk.
    pub fn crash(&mut self, id: NodeId, kept: Option<WriteSeq>) {
        self.write_through(id, kept.unwrap_or(WriteSeq(0)));
        let server = self.server(id);
        if let Some(raft) = server.raft().filter(|raft| raft.term() > server.disk.hard_state.term) {
            let term = raft.term();
            self.checker.on_forgotten_term(term, id);
            self.spec.on_forgotten_term(term, id);
        }
        self.server_mut(id).crash();
        self.note(format_args!("{id} crash"));
    }

    fn write_through(&mut self, id: NodeId, until: WriteSeq) -> Option<WriteSeq> {
        let server = self.servers.get_mut(&id).expect("the caller knows the node");
        let before = server.disk.hard_state;
        let mut last = None;
        while let Some(write) = server.writes.front().filter(|write| write.seq <= until) {
            self.spec.on_write(id, &server.disk, write);
            last = server.write_through(write.seq);
        }
        self.checker.on_hard_state(id, before, self.servers[&id].disk.hard_state);
        self.check_disks();
        last
    }

    /// Every life that a member was ever bound to has the disk it ended with.
    fn check_disks(&self) {
        self.checker.on_disk_change(|node, life| {
            let disk = self.servers.get(&node).map(|server| &server.disk);
            let own = disk.and_then(|disk| disk.identity).map(|identity| identity.incarnation);
            match life {
                Some(life) if own != Some(life) => self.graves.get(&(node, life)),
                _ => disk,
            }
        });
    }

    /// `id` starts again from its disk and its state machine.
    pub fn restart(&mut self, id: NodeId) {
        let server = self.server_mut(id);
        if server.raft.is_some() {
            return;
        }
        server.start();
        self.note(format_args!("{id} restart"));
        self.check_state(id);
        self.act(id, |_| {});
    }

    /// Replaces what the disk of `id`, which must be down, holds by `disk`, but for whose it is.
    pub fn replace_disk(&mut self, id: NodeId, disk: Loaded) {
        let mut prev = disk.snapshot.last;
        for run in &disk.entries {
            self.checker.on_append(prev, run);
            prev = run.last();
        }
        let server = self.server_mut(id);
        server.disk = Loaded { identity: server.disk.identity, ..disk };
        self.spec.assume(id, &self.servers[&id].disk);
    }

    /// The state machine of `id`, to be looked at.
    pub fn machine_mut(&mut self, id: NodeId) -> &mut M {
        &mut self.server_mut(id).machine
    }

    /// The state machine of `id` begins a checkpoint: [`Cluster::flush`] ends it.
    pub fn freeze(&mut self, id: NodeId) {
        self.server_mut(id).machine.freeze();
    }

    /// The state machine of `id` makes durable what it froze, or else everything applied, and says
    /// so.
    pub fn flush(&mut self, id: NodeId) {
        let Some(meta) = self.server_mut(id).machine.flush() else { return };
        self.note(format_args!("{id} flushed {meta}"));
        self.act(id, |raft| raft.step(Input::Flushed(meta)));
    }

    /// `from` sends the snapshot its core asked for, or fails to; whether it was asked at all.
    pub fn send_snapshot(&mut self, from: NodeId, to: NodeId, ok: bool) -> bool {
        let server = self.server_mut(from);
        let Some(term) = server.asked.remove(&to) else { return false };
        let sender = server.sender();
        let (meta, snapshot) = server.machine.snapshot().unzip();
        let ok = ok && snapshot.is_some();
        let meta = meta.unwrap_or_default();
        if let Some(snapshot) = snapshot.filter(|_| ok) {
            self.snapshots.insert(meta.last, snapshot);
            let message = Message::InstallSnapshot { meta: meta.clone().into() };
            let envelope = Envelope { from, to, term, sender, message };
            self.note(format_args!("{envelope}"));
            self.pool.push(envelope);
        }
        self.act(from, |raft| raft.step(Input::SnapshotSent { to, meta, ok }));
        true
    }

    /// The state machine of `id` finishes the restore it was asked for, durably.
    pub fn restore(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("the caller knows the node");
        let Some(meta) = server.restoring.take() else { return };
        server.machine.restore(meta.clone(), &self.snapshots[&meta.last]);
        self.note(format_args!("{id} restored {meta}"));
        self.check_state(id);
        self.act(id, |raft| raft.step(Input::Restored(meta)));
    }

    /// The snapshot that `id` was asked to restore turns out damaged.
    pub fn refuse_restore(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("the caller knows the node");
        let Some(meta) = server.restoring.clone() else { return };
        if server.machine.refuse(meta.clone(), &self.snapshots[&meta.last]) {
            server.restoring = None;
            self.note(format_args!("{id} refused {meta}"));
            self.act(id, |raft| raft.step(Input::NotRestored(meta)));
        }
    }

    /// Wherever a state came from, it is that of every other node that has applied as much.
    fn check_state(&mut self, id: NodeId) {
        let machine = &self.servers[&id].machine;
        if let Some(hash) = machine.state_hash() {
            self.checker.on_state(id, machine.applied().last.index, hash);
        }
    }

    /// Lets `step` work on the core of `id`, if it is up, and carries out what comes of it.
    fn act<T>(&mut self, id: NodeId, step: impl FnOnce(&mut Raft) -> T) -> Option<T> {
        let mut raft = self.server_mut(id).raft.take()?;
        let before = raft.clone();
        let result = step(&mut raft);
        let output = raft.take_output();
        check(&raft);
        check_change(&before, &raft);
        if self.trace.is_some() {
            self.note_role(&before, &raft);
        }
        if raft.is_leader() {
            self.checker.on_leader(&raft);
        }
        self.carry_out(&before, &raft, output);
        let Server { disk, writes, .. } = &self.servers[&id];
        self.spec.on_step(&before, &raft, disk, writes.iter());
        self.server_mut(id).raft = Some(raft);
        Some(result)
    }

    fn carry_out(&mut self, before: &Raft, after: &Raft, output: Output) {
        let (id, term) = (after.id(), after.term());
        if let Some(write) = output.write {
            self.take_write(before, after, write);
        }
        for envelope in output.messages {
            self.note(format_args!("{envelope}"));
            self.checker.on_send(&envelope, &self.servers[&id].disk);
            self.pool.push(envelope);
        }
        if after.commit_index() > before.commit_index() {
            self.note(format_args!("{id}@{term} commit {}", after.commit_index()));
            if self.checker.on_commit(before, after) {
                self.check_disks();
            }
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
        for to in output.send_snapshot {
            self.note(format_args!("{id}@{term} snapshot for {to}"));
            self.server_mut(id).asked.insert(to, term);
        }
    }

    fn take_write(&mut self, before: &Raft, after: &Raft, write: Write) {
        let (id, term) = (after.id(), after.term());
        let mut last = before.last_log();
        for run in super::server::appended(&write) {
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

    fn note_role(&mut self, before: &Raft, after: &Raft) {
        let (old, new) = (before.status(), after.status());
        if (old.role, old.term, old.leader) == (new.role, new.term, new.leader) {
            return;
        }
        let leader = new.leader.filter(|leader| *leader != new.id);
        let leader = leader.map(|leader| format!(" of {leader}")).unwrap_or_default();
        self.note(format_args!("{}@{} {}{leader}", new.id, new.term, new.role));
    }

    fn note(&mut self, line: impl Display) {
        if let Some(trace) = &mut self.trace {
            writeln!(trace, "{line}").expect("a string takes everything");
        }
    }

    /// The leader of the highest term among the live nodes.
    pub fn leader(&self) -> Option<NodeId> {
        let rafts = self.servers.values().filter_map(|server| server.raft.as_ref());
        rafts.filter(|raft| raft.is_leader()).max_by_key(|raft| raft.term()).map(Raft::id)
    }

    /// The configuration in force at the leader, or at the node with the longest log.
    pub fn membership(&self) -> Membership {
        let rafts = self.servers.values().filter_map(|server| server.raft.as_ref());
        let newest = rafts.max_by_key(|raft| (raft.is_leader(), raft.last_log()));
        newest.map(|raft| raft.membership().clone()).unwrap_or_default()
    }

    /// The lowest index applied by all members and the highest applied by any.
    pub fn applied(&self) -> (Index, Index) {
        let membership = self.membership();
        let members = self.servers.iter().filter(|(id, _)| membership.contains(**id));
        let applied = members.map(|(_, server)| server.machine.applied().last.index);
        (applied.clone().min().unwrap_or_default(), applied.max().unwrap_or_default())
    }
}
