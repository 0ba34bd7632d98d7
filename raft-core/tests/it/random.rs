//! Random runs of a whole cluster: whatever the network, the disks and the clocks do, the checkers
//! hold; and once the faults end, a leader emerges and everyone applies the same.
//!
//! `SIM_SEEDS=A..B` chooses the seeds. A failure prints its seed and the end of its trace; the same
//! seed always fails the same way.

use bytes::Bytes;
use raft_core::raft::{Config, Envelope};
use raft_core::testing::Cluster;
use raft_core::types::{Change, LogId, Membership, NodeId, WriteSeq};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Events of a run before its faults end.
const EVENTS: usize = 2000;

/// Ticks within which a healed cluster must have recovered: some elections, and the patience with
/// a lost snapshot.
const RECOVERY_TICKS_MAX: usize = 600;

/// So many runs and more must between them have seen every kind of event.
const SEEDS_TELLING: usize = 50;

/// Kinds of steps that the specification has.
const STEPS: usize = 11;

#[test]
fn any_order_of_events_keeps_the_invariants() {
    let mut seen = Seen::default();
    let mut steps = BTreeMap::<&str, u64>::new();
    for seed in seeds() {
        let mut run = Run::new(seed, false);
        if catch_unwind(AssertUnwindSafe(|| run.go())).is_err() {
            let mut traced = Run::new(seed, true);
            let _ = catch_unwind(AssertUnwindSafe(|| traced.go()));
            let trace = traced.cluster.take_trace();

            let lines: Vec<&str> = trace.lines().collect();
            let tail = lines[lines.len().saturating_sub(100)..].join("\n");
            panic!("{tail}\nseed {seed} fails: SIM_SEEDS={seed}..{}", seed + 1);
        }
        seen.add(&run.seen);
        let taken = run.cluster.spec().steps();
        taken.iter().for_each(|(step, count)| *steps.entry(step).or_default() += count);
    }
    println!("{seen:?}\n{steps:?}");
    if seeds().count() < SEEDS_TELLING {
        return;
    }
    // A kind of event that never happens tests nothing.
    let Seen { commits, crashes, restores, reads, transfers, refusals, .. } = seen;
    let Seen { changes, wipes, leases, .. } = seen;
    let counts = [commits, crashes, restores, reads, transfers, refusals, changes, wipes, leases];
    assert!(!counts.contains(&0), "not every kind of event happened: {seen:?}");
    assert!(steps.len() == STEPS, "not every step of the specification was taken: {steps:?}");
}

/// The seeds to run: those asked for, or a first few.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return 0..100 };
    let (from, to) = text.split_once("..").expect("SIM_SEEDS=A..B");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// What happened, so that nothing goes untested unnoticed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    commits: u64,
    crashes: u64,
    restores: u64,
    reads: u64,
    transfers: u64,
    refusals: u64,
    changes: u64,
    wipes: u64,
    leases: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.restores += other.restores;
        self.reads += other.reads;
        self.transfers += other.transfers;
        self.refusals += other.refusals;
        self.changes += other.changes;
        self.wipes += other.wipes;
        self.leases += other.leases;
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn position(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

/// What can happen, each with a weight drawn per run: some runs lose nothing but crash often.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Deliver,
    Reorder,
    Drop,
    Duplicate,
    Tick,
    TickAll,
    Persist,
    Propose,
    Read,
    Crash,
    Restart,
    Cut,
    Isolate,
    Pause,
    Heal,
    Transfer,
    Flush,
    Snapshot,
    Restore,
    Campaign,
    Change,
    Wipe,
}

/// The greatest weight of each event; those of the first group are never left out.
const ALWAYS: [(Event, u64); 8] = [
    (Event::Deliver, 500),
    (Event::TickAll, 40),
    (Event::Persist, 200),
    (Event::Propose, 120),
    (Event::Restart, 20),
    (Event::Heal, 8),
    (Event::Snapshot, 30),
    (Event::Restore, 30),
];
const SOMETIMES: [(Event, u64); 14] = [
    (Event::Reorder, 400),
    (Event::Drop, 80),
    (Event::Duplicate, 60),
    (Event::Tick, 200),
    (Event::Read, 60),
    (Event::Crash, 12),
    (Event::Cut, 12),
    (Event::Isolate, 8),
    (Event::Pause, 8),
    (Event::Transfer, 10),
    (Event::Flush, 40),
    (Event::Campaign, 4),
    (Event::Change, 12),
    (Event::Wipe, 4),
];

struct Run {
    cluster: Cluster,
    random: Random,
    nodes: u64,
    weights: Vec<(Event, u64)>,
    proposed: u64,
    /// A node that stands still: its clock, its disk and what was sent to it wait. Clients do not
    /// know, and still ask it.
    paused: Option<NodeId>,
    /// Whether every clock goes at the same speed, so that leases may be relied on.
    in_step: bool,
    seen: Seen,
}

impl Run {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random(seed);
        let nodes = [3, 3, 5, 2, 4, 1, 3, 5][random.position(8)];
        let config = Config {
            id: NodeId(1),
            election_ticks_min: 10,
            election_ticks_max: 20,
            heartbeat_ticks: 3,
            message_bytes_max: [100, 250, 4000][random.position(3)],
            in_flight_max: [1, 2, 8][random.position(3)],
            log_bytes_max: 6000,
            log_trailing_bytes: [0, 300, 1500][random.position(3)],
            uncommitted_bytes_max: 3000,
            command_bytes_max: 200,
            lease_reads: true,
            disk_stall_ticks: [5, 50][random.position(2)],
            ..Config::default()
        };
        let in_step = random.below(3) == 0;
        let mut weights = ALWAYS.to_vec();
        for (event, greatest) in SOMETIMES {
            let skews = matches!(event, Event::Tick | Event::Pause);
            if random.below(3) > 0 && !(in_step && skews) {
                weights.push((event, 1 + random.below(greatest)));
            }
        }
        let mut cluster = match random.below(6) {
            0 => Cluster::blank(nodes, &config, seed, traced),
            _ => Cluster::new(nodes, &config, seed, traced),
        };
        let spares = random.below(3);
        for id in nodes + 1..=nodes + spares {
            cluster.add_server(NodeId(id));
        }
        let seen = Seen::default();
        let nodes = nodes + spares;
        Self { cluster, random, nodes, weights, proposed: 0, paused: None, in_step, seen }
    }

    fn go(&mut self) {
        for _ in 0..EVENTS {
            self.step();
        }
        self.recover();
        self.seen.commits = self.cluster.checker().committed().0;
    }

    fn step(&mut self) {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.random.below(total);
        let chosen = self.weights.iter().find(|(_, weight)| {
            let here = rest < *weight;
            rest = rest.saturating_sub(*weight);
            here
        });
        let event = chosen.expect("the weights add up").0;
        let id = NodeId(1 + self.random.below(self.nodes));
        match event {
            Event::Deliver | Event::Reorder | Event::Drop | Event::Duplicate => self.network(event),
            Event::Tick | Event::Persist if self.paused == Some(id) => {}
            Event::Tick => self.cluster.tick(id),
            Event::TickAll => {
                let paused = self.paused;
                self.everyone(|cluster, id| {
                    if paused != Some(id) {
                        cluster.tick(id);
                    }
                });
            }
            Event::Persist => {
                let until = self.some_write(id);
                self.cluster.persist(id, until);
            }
            Event::Propose => self.propose(),
            Event::Read => drop(self.cluster.read(id)),
            Event::Crash => {
                let kept = self.some_write(id).filter(|_| self.random.below(2) == 0);
                self.seen.crashes += u64::from(self.cluster.server(id).raft().is_some());
                self.cluster.crash(id, kept);
            }
            Event::Restart => self.cluster.restart(id),
            Event::Pause => self.paused = self.cluster.leader().or(Some(id)),
            Event::Cut | Event::Isolate | Event::Heal => self.links(event, id),
            Event::Transfer => {
                let moved = self.cluster.transfer(id, None);
                self.seen.transfers += u64::from(moved.is_some_and(|moved| moved.is_ok()));
            }
            Event::Flush => self.cluster.flush(id),
            Event::Snapshot => {
                let ok = self.random.below(4) > 0;
                self.send_snapshots(id, ok);
            }
            Event::Restore => self.restore(id),
            Event::Campaign => self.cluster.campaign(id),
            Event::Change => self.change(id),
            Event::Wipe => self.wipe(id),
        }
        if self.in_step {
            self.seen.leases += u64::from(self.cluster.read_by_lease(id));
        }
    }

    /// Asks the leader for a change that concerns `id`, whether or not it makes sense.
    fn change(&mut self, id: NodeId) {
        let Some(leader) = self.cluster.leader() else { return };
        // Whoever removes others while a voter is lost may end with too few.
        if !self.nobody_is_lost() {
            return;
        }
        let address = id.to_string();
        let other = NodeId(1 + self.random.below(self.nodes));
        let changes = match self.random.below(8) {
            0..3 => vec![Change::Add { node: id, address, promote: self.random.below(4) > 0 }],
            3 => vec![Change::Promote { node: id }],
            4 => vec![Change::Demote { node: id }],
            5 => vec![Change::Prioritize { node: id, priority: self.random.below(4) as u8 }],
            6 => vec![Change::Remove { node: id }],
            _ => vec![
                Change::Remove { node: id },
                Change::Add { node: other, address, promote: true },
            ],
        };
        let changed = self.cluster.change(leader, &changes);
        self.seen.changes += u64::from(changed.is_some_and(|changed| changed.is_ok()));
    }

    /// `id` loses its directory, if the cluster can do without it: every configuration that is in
    /// any log has three voters or more, all of which are there as it knows them.
    fn wipe(&mut self, id: NodeId) {
        let roomy =
            |membership: &Membership| !membership.is_joint() && membership.voters().len() >= 3;
        let memberships = self.memberships();
        // While a cluster is founded, a founder that is lost may found another of the same name.
        let knows = |node: &NodeId| {
            self.cluster.server(*node).memberships().iter().any(|it| !it.is_empty())
        };
        let formed = !memberships.is_empty()
            && memberships.iter().flat_map(|membership| membership.voters()).all(knows);
        if formed && memberships.iter().all(roomy) && self.nobody_is_lost() {
            self.seen.wipes += 1;
            self.cluster.wipe(id);
        }
    }

    /// Whether every voter of every configuration is there as it is known.
    fn nobody_is_lost(&self) -> bool {
        self.memberships().iter().all(|membership| {
            membership.voters().iter().chain(membership.outgoing()).all(|node| {
                let own = self.cluster.server(*node).disk().identity.map(|it| it.incarnation);
                own == membership.members().get(node).and_then(|member| member.incarnation)
            })
        })
    }

    /// Every configuration that is in any log.
    fn memberships(&self) -> Vec<Membership> {
        let logs = self.cluster.servers().values().map(|server| server.memberships());
        logs.flatten().filter(|membership| !membership.is_empty()).collect()
    }

    fn network(&mut self, event: Event) {
        let len = self.cluster.pool().len();
        if len == 0 {
            return;
        }
        let any = self.random.position(len);
        let waits = |envelope: &Envelope| self.paused == Some(envelope.to);
        match event {
            Event::Deliver => {
                let first = self.cluster.pool().iter().position(|envelope| !waits(envelope));
                first.into_iter().for_each(|first| self.cluster.deliver(first));
            }
            Event::Reorder if waits(&self.cluster.pool()[any]) => {}
            Event::Reorder => self.cluster.deliver(any),
            Event::Duplicate if len < 200 => self.cluster.duplicate(any),
            _ => self.cluster.drop_message(any),
        }
    }

    /// A random one of the writes under way.
    fn some_write(&mut self, id: NodeId) -> Option<WriteSeq> {
        let writes = self.cluster.server(id).writes();
        if writes.is_empty() {
            return None;
        }
        Some(writes[self.random.position(writes.len())].seq)
    }

    fn propose(&mut self) {
        // Mostly to the leader, or few proposals would be taken.
        let any = NodeId(1 + self.random.below(self.nodes));
        let id = self.cluster.leader().filter(|_| self.random.below(8) > 0).unwrap_or(any);
        let count = 1 + self.random.below(3);
        let first = self.proposed + 1;
        self.proposed += count;
        let command = |number: u64| Bytes::from(format!("{number}"));
        let commands: Vec<Bytes> = (first..first + count).map(command).collect();
        let results = self.cluster.propose(id, &commands);
        self.seen.refusals += results.iter().filter(|result| result.is_err()).count() as u64;
    }

    fn links(&mut self, event: Event, id: NodeId) {
        let other = NodeId(1 + self.random.below(self.nodes));
        match event {
            Event::Heal => {
                self.paused = None;
                self.cluster.heal();
            }
            Event::Cut => self.cluster.cut(id, other),
            _ => {
                for other in (1..=self.nodes).map(NodeId).filter(|other| *other != id) {
                    self.cluster.cut(id, other);
                    self.cluster.cut(other, id);
                }
            }
        }
    }

    fn send_snapshots(&mut self, id: NodeId, ok: bool) {
        let asked: Vec<NodeId> = self.cluster.server(id).asked().collect();
        for to in asked {
            self.cluster.send_snapshot(id, to, ok);
        }
    }

    fn restore(&mut self, id: NodeId) {
        self.seen.restores += u64::from(self.cluster.server(id).restoring().is_some());
        self.cluster.restore(id);
    }

    fn everyone(&mut self, mut act: impl FnMut(&mut Cluster, NodeId)) {
        for id in (1..=self.nodes).map(NodeId) {
            act(&mut self.cluster, id);
        }
    }

    /// The faults end: within a bounded time there is a leader, a proposal goes through, every node
    /// applies all of it, and every read is answered.
    fn recover(&mut self) {
        self.cluster.heal();
        self.everyone(Cluster::restart);
        let mut last: Option<LogId> = None;
        for _ in 0..RECOVERY_TICKS_MAX {
            self.calm_turn();
            self.everyone(Cluster::tick);
            // What an old leader took may be lost with it; then another is proposed.
            last = last.filter(|last| self.may_commit(*last)).or_else(|| self.propose_last());
            let (lowest, highest) = self.cluster.applied();
            let members = self.cluster.membership();
            let servers = self.cluster.servers().iter();
            let servers = servers.filter(|(id, _)| members.contains(**id));
            let waiting: usize = servers.map(|(_, server)| server.reads()).sum();
            if last.is_some_and(|last| lowest >= last.index) && lowest == highest && waiting == 0 {
                return;
            }
        }
        for (id, server) in self.cluster.servers() {
            let status = server.raft().map(|raft| raft.status().to_string()).unwrap_or_default();
            eprintln!("{status}; {} reads of {id} wait", server.reads());
        }
        panic!("no recovery within {RECOVERY_TICKS_MAX} ticks; {last:?} was proposed");
    }

    fn propose_last(&mut self) -> Option<LogId> {
        let leader = self.cluster.leader()?;
        self.cluster.propose(leader, &[Bytes::from_static(b"last")]).first()?.ok()
    }

    fn may_commit(&self, id: LogId) -> bool {
        let leader = self.cluster.leader().and_then(|leader| self.cluster.server(leader).raft());
        leader.is_none_or(|leader| leader.term() == id.term)
            || self.cluster.checker().committed_id(id.index) == Some(id)
    }

    fn calm_turn(&mut self) {
        for id in (1..=self.nodes).map(NodeId) {
            let waiting = self.cluster.server(id).reads() as u64;
            self.cluster.persist(id, None);
            self.send_snapshots(id, true);
            self.restore(id);
            self.cluster.flush(id);
            self.seen.reads += waiting;
        }
        for _ in 0..self.cluster.pool().len() {
            self.cluster.deliver(0);
        }
    }
}
