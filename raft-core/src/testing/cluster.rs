//! A cluster in one thread: cores, a pool of messages, disks that complete when told to, and state
//! machines that keep a digest.
//!
//! It decides nothing: its driver says which message arrives, which write completes, who crashes.
//! A crash keeps what was written and nothing else. After every step the invariants of the node and
//! of the cluster are checked; a broken one panics.

mod notes;
mod turn;

use super::checker::Checker;
use super::machine::{Digest, Machine};
use super::server::{Server, initial};
use super::spec::Spec;
use super::store::{Loading, Stores};
use crate::raft::{
    ChangeRefusal, Config, Envelope, Input, Loaded, Message, Raft, Refusal, TransferRefusal,
};
use crate::types::{
    Change, Incarnation, Index, LogId, Member, Membership, NodeId, ReadId, SnapshotMeta, Version,
    WriteSeq,
};
use bytes::Bytes;
use notes::Notes;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes, the messages between them, and everything that was observed.
#[derive(Debug)]
pub struct Cluster<M: Machine = Digest> {
    servers: BTreeMap<NodeId, Server<M>>,
    source: M::Source,
    stores: Stores,
    config: Config,
    seed: u64,
    /// Messages under way, oldest first.
    pool: Vec<Envelope>,
    /// Their numbers: a message has the same one as long as it is under way.
    numbers: Vec<u64>,
    /// Messages sent so far.
    sent: u64,
    /// Links that carry nothing, by sender and receiver.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// The snapshots that were ever sent.
    snapshots: BTreeMap<LogId, M::Snapshot>,
    /// The disks of lives that are over.
    graves: BTreeMap<(NodeId, Incarnation), Loaded>,
    checker: Checker,
    spec: Spec,
    notes: Option<Notes>,
}

impl Cluster {
    /// Voters `n1` to `n<nodes>` in term 0 with empty logs, alive and connected, whose state
    /// machines keep a digest. `config` is theirs but for the id; `seed` decides every random
    /// choice. With `traced`, what happens is written down for [`Cluster::take_trace`].
    ///
    /// # Panics
    /// If `config` makes no sense.
    pub fn new(nodes: u64, config: &Config, seed: u64, traced: bool) -> Self {
        Self::with((), Stores::simulated(), nodes, config, seed, traced)
    }

    /// Nodes `n1` to `n<nodes>` that are blank, and are to form a cluster.
    ///
    /// # Panics
    /// If `config` makes no sense.
    pub fn blank(nodes: u64, config: &Config, seed: u64, traced: bool) -> Self {
        let initial = (1..=nodes).map(|id| (NodeId(id), Member::default())).collect();
        let config = Config { initial, ..config.clone() };
        Self::of((), Stores::simulated(), nodes, &Membership::default(), &config, seed, traced)
    }
}

impl<M: Machine> Cluster<M> {
    /// As [`Cluster::new`], of nodes whose state machines are made from `source` and whose logs are
    /// kept in `stores`. If `config` names initial members, the nodes are blank, and are to form a
    /// cluster of them.
    ///
    /// # Panics
    /// If `config` makes no sense.
    pub fn with(
        source: M::Source,
        stores: Stores,
        nodes: u64,
        config: &Config,
        seed: u64,
        traced: bool,
    ) -> Self {
        let membership = match config.initial.is_empty() {
            true => initial(nodes).upgraded(config.version),
            false => Membership::default(),
        };
        Self::of(source, stores, nodes, &membership, config, seed, traced)
    }

    fn of(
        source: M::Source,
        stores: Stores,
        nodes: u64,
        membership: &Membership,
        config: &Config,
        seed: u64,
        traced: bool,
    ) -> Self {
        let new = |id| {
            let machine = M::open(&source, id);
            let config = Config { id, ..config.clone() };
            (id, Server::new(config, membership, seed, machine, stores.clone()))
        };
        Self {
            servers: (1..=nodes).map(NodeId).map(new).collect(),
            source,
            stores,
            config: config.clone(),
            seed,
            pool: Vec::new(),
            numbers: Vec::new(),
            sent: 0,
            cut: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            graves: BTreeMap::new(),
            checker: Checker::new(),
            spec: Spec::default(),
            notes: traced.then(|| Notes::new(nodes, config, seed)),
        }
    }

    /// Puts in a blank node that waits to be added.
    pub fn add_server(&mut self, id: NodeId) {
        self.command(format_args!("server {}", id.0));
        let config = Config { id, initial: BTreeMap::new(), ..self.config.clone() };
        let machine = M::open(&self.source, id);
        let blank = Membership::default();
        let server = Server::new(config, &blank, self.seed, machine, self.stores.clone());
        let replaced = self.servers.insert(id, server);
        assert!(replaced.is_none(), "there is a {id} already");
    }

    /// Asks `id` to change the membership.
    pub fn change(
        &mut self,
        id: NodeId,
        changes: &[Change],
    ) -> Option<Result<LogId, ChangeRefusal>> {
        self.command(format_args!("change {}{}", id.0, notes::arguments(changes)));
        self.act(id, |raft| raft.change_membership(changes))
    }

    /// The directory of `id` is lost; it starts again, blank, as another life.
    pub fn wipe(&mut self, id: NodeId) {
        self.command(format_args!("wipe {}", id.0));
        let disk = self.server_mut(id).wipe();
        if let Some(identity) = disk.identity {
            self.graves.insert((id, identity.incarnation), disk);
        }
        self.note(format_args!("{id} wiped"));
        self.start(id);
    }

    /// `id` stops, and starts again as a program of another version.
    pub fn upgrade(&mut self, id: NodeId, version: Version) {
        self.command(format_args!("upgrade {} version={}", id.0, version.0));
        self.stop(id, None);
        self.server_mut(id).set_version(version);
        if self.is_readable(id) {
            self.start(id);
        }
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
        self.notes.as_mut().map(Notes::take_trace).unwrap_or_default()
    }

    /// All that was done to the cluster so far, as a [`Script`](super::Script): a command per line.
    /// Empty if it is not traced.
    pub fn script(&self) -> &[String] {
        self.notes.as_ref().map_or(&[], Notes::script)
    }

    /// A tick of the clock of `id`.
    pub fn tick(&mut self, id: NodeId) {
        self.command(format_args!("tick {}", id.0));
        let sent = self.pool.len();
        let idle = self.act(id, |raft| {
            let idle = raft.idle_ticks() > 0 && !raft.is_leader();
            raft.step(Input::Tick);
            idle
        });
        let nothing = idle != Some(true) || self.pool.len() == sent;
        assert!(nothing, "{id} has something to do at a tick that it called idle");
    }

    /// `id` is told that nobody listens where `node` does, be it true or not.
    pub fn refuse(&mut self, id: NodeId, node: NodeId) {
        self.command(format_args!("refuse {} {}", id.0, node.0));
        self.act(id, |raft| raft.step(Input::Refused(node)));
    }

    /// `id` campaigns at once.
    pub fn campaign(&mut self, id: NodeId) {
        self.command(format_args!("campaign {}", id.0));
        self.act(id, Raft::campaign);
    }

    /// Proposes commands on `id` within one turn; one result for each.
    pub fn propose(&mut self, id: NodeId, commands: &[Bytes]) -> Vec<Result<LogId, Refusal>> {
        self.command(format_args!("propose {}{}", id.0, notes::words(commands)));
        let propose = |raft: &mut Raft| commands.iter().map(|x| raft.propose(x.clone())).collect();
        self.act(id, propose).unwrap_or_default()
    }

    /// Asks `id` for a linearizable read; its name, if the node is up. See
    /// [`Cluster::take_answered`].
    pub fn read(&mut self, id: NodeId) -> Option<ReadId> {
        self.command(format_args!("read {}", id.0));
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

    /// Whether reads of `id` were answered.
    pub(super) fn has_answered(&self, id: NodeId) -> bool {
        !self.server(id).answered.is_empty()
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
        let target = to.map(|to| format!(" to={}", to.0)).unwrap_or_default();
        self.command(format_args!("transfer {}{target}", id.0));
        self.act(id, |raft| raft.transfer_leadership(to))
    }

    /// The message at `position` of the pool arrives, or is lost if its link is cut or its receiver
    /// down.
    pub fn deliver(&mut self, position: usize) {
        self.command(format_args!("deliver skip={position} max=1"));
        let envelope = self.take_out(position);
        let (from, to) = (envelope.from, envelope.to);
        let reaches = self.servers.get(&to).is_some_and(|server| server.raft.is_some());
        if !reaches || self.cut.contains(&(from, to)) {
            return self.note(format_args!("{envelope} (lost)"));
        }
        self.act(to, |raft| raft.step(Input::Message(envelope)));
    }

    /// The message at `position` of the pool is lost.
    pub fn drop_message(&mut self, position: usize) {
        self.command(format_args!("drop skip={position} max=1"));
        let envelope = self.take_out(position);
        self.note(format_args!("{envelope} (lost)"));
    }

    /// The message at `position` of the pool arrives twice: a copy goes to the end.
    pub fn duplicate(&mut self, position: usize) {
        self.command(format_args!("duplicate skip={position} max=1"));
        let envelope = self.pool[position].clone();
        self.note(format_args!("{envelope} (doubled)"));
        self.put_in(envelope);
    }

    /// Puts a message into the pool that nobody sent.
    pub fn inject(&mut self, envelope: Envelope) {
        self.put_in(envelope);
    }

    /// The number of the message at `position` of the pool: it keeps it as long as it is under way.
    pub fn number(&self, position: usize) -> u64 {
        self.numbers[position]
    }

    fn put_in(&mut self, envelope: Envelope) {
        self.pool.push(envelope);
        self.numbers.push(self.sent);
        self.sent += 1;
    }

    fn take_out(&mut self, position: usize) -> Envelope {
        self.numbers.remove(position);
        self.pool.remove(position)
    }

    /// Nothing sent by `from` reaches `to` any more.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.command(format_args!("cut {} {}", from.0, to.0));
        self.cut.insert((from, to));
    }

    /// Whether nothing sent by `from` reaches `to`.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.command("heal");
        self.cut.clear();
    }

    /// The disk of `id` completes its writes up to `until`, or all of them, and reports the last.
    /// If its store fails to, the node stops.
    pub fn persist(&mut self, id: NodeId, until: Option<WriteSeq>) {
        self.command(format_args!("persist {}{}", id.0, notes::numbered("until", until)));
        let until = until.unwrap_or(WriteSeq(u64::MAX));
        let (last, written) = self.write_through(id, until);
        if !written {
            return self.stop(id, None);
        }
        let Some(seq) = last else { return };
        let term = self.server(id).raft.as_ref().map_or(0, |raft| raft.term().0);
        self.note(format_args!("{id}@{term} persisted {seq}"));
        self.act(id, |raft| raft.step(Input::Persisted(seq)));
    }

    /// `id` stops. Of its unreported writes, those up to `kept` reached the disk.
    pub fn crash(&mut self, id: NodeId, kept: Option<WriteSeq>) {
        self.command(format_args!("crash {}{}", id.0, notes::numbered("kept", kept)));
        self.stop(id, kept);
    }

    fn stop(&mut self, id: NodeId, kept: Option<WriteSeq>) {
        self.write_through(id, kept.unwrap_or(WriteSeq(0)));
        let Server { raft, disk, .. } = &self.servers[&id];
        if let Some(raft) = raft.as_ref().filter(|raft| raft.term() > disk.hard_state.term)
            && self.spec.on_forgotten_term(raft.term(), id, disk)
        {
            self.checker.on_forgotten_term(raft.term(), id);
        }
        self.server_mut(id).crash();
        self.note(format_args!("{id} crash"));
    }

    /// The last write of `id` up to `until`, which is durable now; and whether all of them are.
    fn write_through(&mut self, id: NodeId, until: WriteSeq) -> (Option<WriteSeq>, bool) {
        let server = self.servers.get_mut(&id).expect("the caller knows the node");
        let before = server.disk.hard_state;
        let (mut last, mut written) = (None, true);
        while let Some(write) = server.writes.front().filter(|write| write.seq <= until) {
            written = server.store.write(write);
            if !written {
                break;
            }
            self.spec.on_write(id, &server.disk, write);
            last = server.take_in();
        }
        if last.is_some() {
            self.checker.on_hard_state(id, before, self.servers[&id].disk.hard_state);
            self.check_disks();
        }
        (last, written)
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

    /// `id` starts again from its disk and its state machine: as another life, blank, if its disk
    /// turns out corrupt; not at all if it cannot be read.
    pub fn restart(&mut self, id: NodeId) {
        if self.server(id).raft.is_none() && self.is_readable(id) {
            self.command(format_args!("restart {}", id.0));
            self.start(id);
        }
    }

    /// Something that was acknowledged rots on the disk of `id`: when it starts again, it finds its
    /// log corrupt.
    pub fn damage_disk(&mut self, id: NodeId) {
        self.server_mut(id).damage();
        self.note(format_args!("{id} damaged"));
    }

    /// Whether `id`, which is down, may start from its disk. If that is corrupt, it has started
    /// without it.
    fn is_readable(&mut self, id: NodeId) -> bool {
        match self.server_mut(id).load() {
            Loading::Whole => return true,
            Loading::With(write) => {
                let server = self.servers.get_mut(&id).expect("it was just loaded");
                self.spec.on_write(id, &server.disk, &write);
                server.put(&write);
                return true;
            }
            Loading::Corrupt => {
                self.note(format_args!("{id} corrupt"));
                self.wipe(id);
            }
            Loading::Unreadable => self.note(format_args!("{id} unreadable")),
        }
        false
    }

    fn start(&mut self, id: NodeId) {
        self.server_mut(id).start();
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
        self.command(format_args!("freeze {}", id.0));
        self.server_mut(id).machine.freeze();
    }

    /// The state machine of `id` makes durable what it froze, or else everything applied, and says
    /// so: what is durable now, if that is new.
    pub fn flush(&mut self, id: NodeId) -> Option<SnapshotMeta> {
        self.command(format_args!("flush {}", id.0));
        let meta = self.server_mut(id).machine.flush()?;
        self.note(format_args!("{id} flushed {meta}"));
        let flushed = meta.clone();
        self.act(id, |raft| raft.step(Input::Flushed(meta)));
        Some(flushed)
    }

    /// `from` sends the snapshot its core asked for, or fails to; whether it was asked at all.
    pub fn send_snapshot(&mut self, from: NodeId, to: NodeId, ok: bool) -> bool {
        let server = self.server_mut(from);
        let Some(term) = server.asked.remove(&to) else { return false };
        let answer = if ok { "" } else { " ok=no" };
        self.command(format_args!("snapshot {} {}{answer}", from.0, to.0));
        let server = self.server_mut(from);
        let sender = server.sender();
        let (meta, snapshot) = server.machine.snapshot().unzip();
        let ok = ok && snapshot.is_some();
        let meta = meta.unwrap_or_default();
        if let Some(snapshot) = snapshot.filter(|_| ok) {
            self.snapshots.insert(meta.last, snapshot);
            let message = Message::InstallSnapshot { meta: meta.clone().into() };
            let envelope = Envelope { from, to, term, sender, message };
            self.note(format_args!("{envelope}"));
            self.put_in(envelope);
        }
        self.act(from, |raft| raft.step(Input::SnapshotSent { to, meta, ok }));
        true
    }

    /// The state machine of `id` finishes the restore it was asked for, durably.
    pub fn restore(&mut self, id: NodeId) {
        let Some(meta) = self.server_mut(id).restoring.take() else { return };
        self.command(format_args!("restore {}", id.0));
        let server = self.servers.get_mut(&id).expect("it was just asked");
        server.machine.restore(meta.clone(), &self.snapshots[&meta.last]);
        self.note(format_args!("{id} restored {meta}"));
        self.check_state(id);
        self.act(id, |raft| raft.step(Input::Restored(meta)));
    }

    /// The snapshot that `id` was asked to restore turns out damaged.
    pub fn refuse_restore(&mut self, id: NodeId) {
        let Some(meta) = self.server_mut(id).restoring.take() else { return };
        self.command(format_args!("damage {}", id.0));
        let server = self.servers.get_mut(&id).expect("it was just asked");
        server.machine.refuse(meta.clone(), &self.snapshots[&meta.last]);
        self.note(format_args!("{id} refused {meta}"));
        self.act(id, |raft| raft.step(Input::NotRestored(meta)));
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
