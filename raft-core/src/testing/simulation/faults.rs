//! What happens to nodes and disks, and what operators ask of a cluster.

use super::{Event, Simulation, Workload};
use crate::raft::{AppendEntries, Message, Raft};
use crate::state_machine::StateMachine;
use crate::testing::server::memberships_in;
use crate::types::{Change, Membership, NodeId, Version, WriteSeq};

/// A slow disk completes something once in so many times.
const SLOW_DISK_ONCE_IN: u64 = 10;
/// Most ticks by which a clock jumps.
const JUMP_TICKS_MAX: u64 = 40;
/// Most ticks for which a disk cannot be read.
const UNREADABLE_TICKS_MAX: u64 = 60;

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// `event` happens to `id`; whether it did anything.
    pub(super) fn happens(&mut self, event: Event, id: NodeId) -> bool {
        match event {
            Event::Deliver | Event::Reorder | Event::Drop | Event::Duplicate | Event::Delay => {
                self.message(event)
            }
            Event::Clog | Event::Cut | Event::Isolate | Event::Halves | Event::OneWay => {
                self.links(event, id)
            }
            Event::Bridge | Event::Ring | Event::Pair | Event::Flapping => self.links(event, id),
            Event::LateAnswers => self.late_answers(),
            Event::LateVote => self.late_vote(),
            Event::Client => self.client(id),
            Event::TickAll | Event::Tick | Event::Jump => self.clocks(event, id),
            Event::Heal => self.heal(),
            Event::Pause | Event::Slow | Event::Skew | Event::SlowDisk | Event::Full => {
                self.condition_changes(event, id)
            }
            Event::Crash | Event::CrashInRecovery | Event::Blackout | Event::Restart => {
                self.stops_and_starts(event, id)
            }
            Event::Wipe => self.can_lose(id) && self.wipe(id),
            Event::Version => self.change_version(id),
            Event::Persist => self.persist(id),
            Event::BitRot => self.damage(id),
            Event::FailedWrite | Event::FailedRead => self.disk(event, id),
            Event::Transfer | Event::Campaign | Event::Change => self.request(event, id),
            Event::Refused => self.refused(id),
            Event::LeaseRead => self.lease_read(),
            Event::Freeze | Event::Flush | Event::Restore | Event::Damage => {
                self.checkpoint(event, id)
            }
            Event::Snapshot => self.send_snapshots(id, true),
            Event::SnapshotLost => self.send_snapshots(id, false),
        }
    }

    /// An operator asks something of a node, which has to be there to hear it.
    fn request(&mut self, event: Event, id: NodeId) -> bool {
        let asked = if event == Event::Change { self.cluster.leader() } else { Some(id) };
        let Some(asked) = asked.filter(|asked| !self.condition(*asked).paused) else {
            return false;
        };
        match event {
            Event::Transfer => self.cluster.transfer(asked, None).is_some_and(|it| it.is_ok()),
            Event::Change => self.change(asked, id),
            _ => {
                self.cluster.campaign(asked);
                self.is_up(asked)
            }
        }
    }

    /// A hint at what became of a leader, without a look at it.
    fn refused(&mut self, id: NodeId) -> bool {
        let all = self.random.once_in(2);
        let mut told = false;
        for id in self.ids().filter(|it| all || *it == id).collect::<Vec<_>>() {
            let raft = self.cluster.server(id).raft();
            let leader = raft.and_then(Raft::leader).filter(|leader| *leader != id);
            if let Some(leader) = leader.filter(|_| !self.condition(id).paused) {
                self.cluster.refuse(id, leader);
                told = true;
            }
        }
        told
    }

    /// Whoever leads for longest already is the one whose lease ought to be over.
    fn lease_read(&mut self) -> bool {
        let term = |id: &NodeId| self.cluster.server(*id).raft().map(Raft::term);
        let oldest = self.ids().filter(|id| self.has_lease(*id)).min_by_key(term);
        oldest.is_some_and(|id| self.cluster.read_by_lease(id))
    }

    fn is_up(&self, id: NodeId) -> bool {
        self.cluster.server(id).raft().is_some()
    }

    fn clocks(&mut self, event: Event, id: NodeId) -> bool {
        let count = match event {
            Event::TickAll => return self.tick_all(),
            Event::Jump => 2 + self.random.below(JUMP_TICKS_MAX - 1),
            _ => 1,
        };
        if self.condition(id).paused || !self.is_up(id) {
            return false;
        }
        for _ in 0..count {
            self.later();
            self.tick(id);
        }
        true
    }

    pub(super) fn tick_all(&mut self) -> bool {
        self.later();
        self.network_tick();
        for id in self.ids() {
            if self.condition_mut(id).advance() {
                self.tick(id);
            }
        }
        true
    }

    /// Time passes. What was applied by now is known to the workload then.
    fn later(&mut self) {
        self.tell();
        self.ticks += 1;
        self.workload.tick(self.ticks);
    }

    pub(super) fn heal(&mut self) -> bool {
        self.heal_network();
        self.conditions.iter_mut().for_each(super::Condition::heal);
        true
    }

    fn condition_changes(&mut self, event: Event, id: NodeId) -> bool {
        let leader = self.cluster.leader().filter(|_| self.random.once_in(2)).unwrap_or(id);
        let slowest = self.config.slowest_percent();
        let rate = slowest + self.random.below(101 - slowest);
        let id = if matches!(event, Event::Pause | Event::SlowDisk) { leader } else { id };
        if !self.is_up(id) {
            return false;
        }
        let condition = self.condition_mut(id);
        match event {
            Event::Pause => condition.paused = !condition.paused,
            Event::Skew => condition.rate = rate,
            Event::Slow => condition.slow = !condition.slow,
            Event::SlowDisk => condition.slow_disk = !condition.slow_disk,
            _ => condition.full = true,
        }
        true
    }

    fn stops_and_starts(&mut self, event: Event, id: NodeId) -> bool {
        let up = self.is_up(id);
        match event {
            Event::Crash if !up => false,
            Event::Crash => {
                let kept = self.some_write(id).filter(|_| self.random.once_in(2));
                self.cluster.crash(id, kept);
                true
            }
            Event::Blackout => {
                for id in self.ids() {
                    let kept = self.some_write(id).filter(|_| self.random.once_in(2));
                    self.cluster.crash(id, kept);
                }
                true
            }
            _ if up || !self.start(id) => false,
            Event::CrashInRecovery => {
                let kept = self.some_write(id).filter(|_| self.random.once_in(2));
                self.cluster.crash(id, kept);
                true
            }
            _ => true,
        }
    }

    /// `id`, which is down, starts, if it can.
    pub(super) fn start(&mut self, id: NodeId) -> bool {
        if self.ticks < self.condition(id).unreadable_until {
            return false;
        }
        if self.is_up(id) {
            return false;
        }
        self.cluster.restart(id);
        let starts = self.is_up(id);
        if starts {
            self.condition_mut(id).start();
        }
        starts
    }

    fn wipe(&mut self, id: NodeId) -> bool {
        self.cluster.wipe(id);
        self.condition_mut(id).start();
        true
    }

    /// `id` starts as a program of another version, which knows everything that is in any log.
    fn change_version(&mut self, id: NodeId) -> bool {
        let needed = self.needed_version();
        let versions: Vec<u16> = (needed.0..=Version::CURRENT.0).collect();
        let version = *self.random.choose(&versions);
        if versions.len() < 2 || !self.is_up(id) {
            return false;
        }
        self.cluster.upgrade(id, Version(version));
        self.condition_mut(id).start();
        true
    }

    /// Programs that are older than what the members have agreed on are replaced: a node that was
    /// added after that can be none of them before.
    pub(super) fn update(&mut self) {
        let needed = self.needed_version();
        for id in self.ids() {
            if self.cluster.server(id).sender().version < needed {
                self.cluster.upgrade(id, needed);
                self.condition_mut(id).start();
            }
        }
    }

    /// The version in which everything that is in any log is understood.
    fn needed_version(&self) -> Version {
        self.memberships().iter().map(Membership::version).max().unwrap_or_default()
    }

    fn persist(&mut self, id: NodeId) -> bool {
        let Some(until) = self.some_write(id) else { return false };
        let condition = self.condition(id);
        if condition.paused || condition.slow_disk && !self.random.once_in(SLOW_DISK_ONCE_IN) {
            return false;
        }
        if self.condition(id).full {
            self.strikes(Event::Full);
            self.cluster.crash(id, None);
        } else {
            self.cluster.persist(id, Some(until));
        }
        true
    }

    /// A disk fails its node, which stops.
    fn disk(&mut self, event: Event, id: NodeId) -> bool {
        if event == Event::FailedRead && self.is_up(id) {
            let until = self.ticks + 1 + self.random.below(UNREADABLE_TICKS_MAX);
            self.condition_mut(id).unreadable_until = until;
            self.cluster.crash(id, None);
            return true;
        }
        let Some(refused) = self.some_write(id) else { return false };
        self.cluster.persist(id, Some(WriteSeq(refused.0 - 1)));
        self.cluster.crash(id, None);
        true
    }

    /// What a disk has acknowledged is gone, and it will say so.
    fn damage(&mut self, id: NodeId) -> bool {
        let blank = self.cluster.server(id).disk().entries.is_empty();
        if blank || !self.can_lose(id) {
            return false;
        }
        self.cluster.damage_disk(id);
        if self.random.once_in(2) {
            self.cluster.crash(id, None);
        }
        true
    }

    /// A random one of the writes under way.
    fn some_write(&mut self, id: NodeId) -> Option<WriteSeq> {
        let writes = self.cluster.server(id).writes();
        if writes.is_empty() {
            return None;
        }
        Some(writes[self.random.below(writes.len() as u64) as usize].seq)
    }

    fn checkpoint(&mut self, event: Event, id: NodeId) -> bool {
        let server = self.cluster.server(id);
        let (up, restores) = (server.raft().is_some(), server.restoring().is_some());
        if self.condition(id).paused {
            return false;
        }
        match event {
            Event::Restore => self.cluster.restore(id),
            Event::Damage => self.cluster.refuse_restore(id),
            Event::Freeze if up => self.cluster.freeze(id),
            Event::Flush if up => return self.flush(id),
            _ => {}
        }
        match event {
            Event::Restore | Event::Damage => restores,
            _ => up,
        }
    }

    /// A checkpoint ends; whether anything more is durable by it.
    fn flush(&mut self, id: NodeId) -> bool {
        let Some(flushed) = self.cluster.flush(id) else { return false };
        // What was frozen is behind: more was applied while it was written.
        if flushed.last.index < self.cluster.server(id).machine.applied_index() {
            self.strikes(Event::Freeze);
        }
        true
    }

    pub(super) fn send_snapshots(&mut self, id: NodeId, ok: bool) -> bool {
        if self.condition(id).paused {
            return false;
        }
        let asked: Vec<NodeId> = self.cluster.server(id).asked().collect();
        for to in &asked {
            self.cluster.send_snapshot(id, *to, ok);
        }
        !asked.is_empty()
    }

    /// Asks `leader` for a change that concerns `id`, whether or not it makes sense.
    fn change(&mut self, leader: NodeId, id: NodeId) -> bool {
        // Whoever removes others while a voter is lost may end with too few.
        if !self.nobody_is_lost() {
            return false;
        }
        let address = id.to_string();
        let all: Vec<NodeId> = self.ids().collect();
        let other = *self.random.choose(&all);
        let promote = self.random.below(4) > 0;
        let priority = self.random.below(4) as u8;
        let changes = match self.random.below(8) {
            0..3 => vec![Change::Add { node: id, address, promote }],
            3 => vec![Change::Promote { node: id }],
            4 => vec![Change::Demote { node: id }],
            5 => vec![Change::Prioritize { node: id, priority }],
            6 => vec![Change::Remove { node: id }],
            _ => {
                let address = other.to_string();
                let add = Change::Add { node: other, address, promote: true };
                vec![add, Change::Remove { node: id }]
            }
        };
        self.cluster.change(leader, &changes).is_some_and(|changed| changed.is_ok())
    }

    /// Whether the cluster can do without what `id` knows: every configuration that is in any log,
    /// or on its way to one, has three voters or more, all members of which are there as it knows
    /// them, and is of a version in which another life of a node is taken back.
    fn can_lose(&self, id: NodeId) -> bool {
        let roomy = |membership: &Membership| {
            let knows = membership.version() >= Version(2);
            knows && !membership.is_joint() && membership.voters().len() >= 3
        };
        let memberships = self.memberships();
        // While a cluster is founded, a founder that is lost may found another of the same name.
        let knows = |node: &NodeId| {
            self.cluster.server(*node).memberships().iter().any(|it| !it.is_empty())
        };
        let formed = !memberships.is_empty()
            && memberships.iter().flat_map(|membership| membership.voters()).all(knows);
        // Nor may the last of them be, however many others have joined since.
        let initial = self.config.raft().initial;
        let founded = initial.is_empty() || initial.keys().any(|node| *node != id && knows(node));
        formed
            && founded
            && memberships.iter().all(roomy)
            && self.nobody_is_lost()
            && !self.cluster.server(id).is_damaged()
    }

    /// Whether every member of every configuration is there as it is known. A learner counts like
    /// a voter, as it is about to be one: what it acknowledged before it was lost may promote it,
    /// and two of four voters are more than a cluster can do without. One that is not bound to a
    /// life yet has nothing to lose.
    fn nobody_is_lost(&self) -> bool {
        self.memberships().iter().all(|membership| {
            membership.members().iter().all(|(node, member)| {
                let server = self.cluster.server(*node);
                let own = server.disk().identity.map(|it| it.incarnation);
                let is_new = !membership.is_voter(*node) && member.incarnation.is_none();
                !server.is_damaged() && (is_new || own == member.incarnation)
            })
        })
    }

    /// Every configuration that is in any log, or on its way to one: its sender may be down.
    fn memberships(&self) -> Vec<Membership> {
        let logs = self.cluster.servers().values().flat_map(|server| server.memberships());
        let under_way = self.cluster.pool().iter().flat_map(|envelope| brought(&envelope.message));
        logs.chain(under_way).filter(|membership| !membership.is_empty()).collect()
    }
}

/// The configurations that a message brings to its receiver.
fn brought(message: &Message) -> Vec<Membership> {
    match message {
        Message::AppendEntries(AppendEntries { entries: Some(run), .. }) => {
            memberships_in(run).collect()
        }
        Message::InstallSnapshot { meta } => vec![meta.membership.clone()],
        _ => Vec::new(),
    }
}
