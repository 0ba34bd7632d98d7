//! One test for each numbered rule of the paper's figure 2 and of the parts of the thesis that are
//! built in, named after the rule and opening with it.
//!
//! `Alone` is one node, to which the test plays the network, the disk and the other nodes; what
//! takes several nodes is shown on a `Cluster`, whose checkers watch every step.

mod beyond;
mod figure_2;
mod section_6;
mod section_6_changes;
mod thesis;

use bytes::Bytes;
use raft_core::raft::{
    AppendEntries, AppendOutcome, Apply, Config, Envelope, Input, Loaded, Message, Raft, Status,
    Write, check, check_change,
};
use raft_core::testing::Cluster;
use raft_core::types::{
    ClusterId, Entry, HardState, Identity, Incarnation, Index, LogId, Member, Membership, NodeId,
    Payload, ReadId, Run, Sender, SnapshotMeta, Term, Version,
};
use std::collections::VecDeque;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Ticks of the shortest and of the longest election timeout, and between heartbeats.
const ELECTION_MIN: u32 = 10;
const ELECTION_MAX: u32 = 20;
const HEARTBEAT: u32 = 3;

/// Rounds after which a cluster that does not settle is taken to never do so.
const ROUNDS_MAX: usize = 1000;

fn config(id: NodeId) -> Config {
    Config {
        id,
        election_ticks_min: ELECTION_MIN,
        election_ticks_max: ELECTION_MAX,
        heartbeat_ticks: HEARTBEAT,
        ..Config::default()
    }
}

fn command(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Node 1 of three voters.
struct Alone {
    raft: Raft,
    /// Sent and not looked at yet.
    sent: Vec<Envelope>,
    /// Asked for and not durable yet.
    writes: VecDeque<Write>,
    /// Handed to the state machine, in order.
    applied: Vec<LogId>,
    /// The snapshot the state machine is to become.
    restoring: Option<SnapshotMeta>,
    reads: Vec<(ReadId, Index)>,
}

impl Alone {
    /// With such a log, as index and term of its entries from 1 on, and in that term.
    fn new(log: &[(u64, u64)], term: u64) -> Self {
        Self::start(&loaded(log, HardState { term: Term(term), vote: None }))
    }

    /// From such a disk, and so long ago that what an earlier run promised is void.
    fn start(disk: &Loaded) -> Self {
        // Another random timeout for every seed.
        let mut nodes = (0..).map(|seed| {
            let mut node = Self::load(disk.clone(), seed);
            node.tick(ELECTION_MIN);
            node.sent.clear();
            node
        });
        nodes.find(|node| node.role() == "follower").expect("not every timeout is the shortest")
    }

    fn load(loaded: Loaded, seed: u64) -> Self {
        let raft = Raft::new(config(N1), loaded, SnapshotMeta::default(), seed);
        let raft = raft.expect("the configuration makes sense, and the log is whole");
        let (sent, writes, applied) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { raft, sent, writes, applied, restoring: None, reads: Vec::new() }
    }

    /// Elected in the term after `term`, with the entry of its own term on its disk, and on
    /// nobody's else.
    fn leader(log: &[(u64, u64)], term: u64) -> Self {
        let mut node = Self::new(log, term);
        node.act(Raft::campaign);
        node.vote_response(N2, term, true, true);
        node.persist();
        node.vote_response(N2, term + 1, true, false);
        assert!(node.raft.is_leader());
        node.persist();
        node.sent.clear();
        node
    }

    /// A leader whose log nodes 2 and 3 have too, the entry of its own term committed.
    fn established(log: &[(u64, u64)], term: u64) -> Self {
        let mut node = Self::leader(log, term);
        let last = node.raft.last_log().index.0;
        for peer in [N2, N3] {
            node.matched(peer, last - 1);
            node.matched(peer, last);
        }
        assert_eq!(node.raft.commit_index(), Index(last));
        node.sent.clear();
        node
    }

    fn act<T>(&mut self, step: impl FnOnce(&mut Raft) -> T) -> T {
        let before = self.raft.clone();
        let result = step(&mut self.raft);
        let output = self.raft.take_output();
        check(&self.raft);
        check_change(&before, &self.raft);
        self.sent.extend(output.messages);
        self.writes.extend(output.write);
        self.reads.extend(output.reads);
        for apply in output.apply {
            match apply {
                Apply::Entries(run) => self.applied.extend(run.entries().iter().map(|x| x.id)),
                Apply::Restore(meta) => self.restoring = Some(meta),
            }
        }
        result
    }

    fn step(&mut self, input: Input) {
        self.act(|raft| raft.step(input));
    }

    fn tick(&mut self, ticks: u32) {
        (0..ticks).for_each(|_| self.step(Input::Tick));
    }

    /// The disk completes everything.
    fn persist(&mut self) {
        let last = self.writes.drain(..).next_back();
        last.into_iter().for_each(|write| self.step(Input::Persisted(write.seq)));
    }

    fn receive(&mut self, from: NodeId, term: u64, message: Message) {
        let sender = Sender { incarnation: Incarnation(from.0), version: Version::CURRENT };
        let envelope = Envelope { from, to: N1, term: Term(term), sender, message };
        self.step(Input::Message(envelope));
    }

    fn request_vote(&mut self, from: NodeId, term: u64, last_log: LogId) {
        let message = Message::RequestVote { last_log, pre_vote: false, transfer: false };
        self.receive(from, term, message);
    }

    fn request_pre_vote(&mut self, from: NodeId, term: u64, last_log: LogId) {
        let message = Message::RequestVote { last_log, pre_vote: true, transfer: false };
        self.receive(from, term, message);
    }

    fn vote_response(&mut self, from: NodeId, term: u64, granted: bool, pre_vote: bool) {
        self.receive(from, term, Message::RequestVoteResponse { granted, pre_vote });
    }

    /// Entries of `ids` behind `prev` from the leader of `term`; none for a heartbeat.
    fn append(&mut self, from: NodeId, term: u64, prev: LogId, ids: &[(u64, u64)], commit: u64) {
        let entries = Run::new(entries(ids));
        let leader_commit = Index(commit);
        let append = AppendEntries { prev_log: prev, entries, leader_commit, read_seq: 0 };
        self.receive(from, term, Message::AppendEntries(append));
    }

    /// `from` acknowledges the log up to `index` in the present term.
    fn matched(&mut self, from: NodeId, index: u64) {
        self.acknowledge(from, AppendOutcome::Matched(Index(index)), 0);
    }

    fn acknowledge(&mut self, from: NodeId, outcome: AppendOutcome, read_seq: u64) {
        let term = self.raft.term().0;
        let message = Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks: 0 };
        self.receive(from, term, message);
    }

    /// What was sent since the last look, as the receiver and what it is told.
    fn sent(&mut self) -> Vec<String> {
        let line = |envelope: Envelope| format!("{} {}", envelope.to, envelope.message);
        self.sent.drain(..).map(line).collect()
    }

    fn status(&self) -> Status {
        self.raft.status()
    }

    fn role(&self) -> String {
        self.status().role.to_string()
    }

    fn log(&self) -> Vec<LogId> {
        self.raft.log_ids().into_iter().skip(1).collect()
    }

    /// Match index and next index of `peer`, as this leader sees it.
    fn progress(&self, peer: NodeId) -> (u64, u64) {
        progress(&self.raft, peer)
    }
}

/// Match index and next index of `peer`, as the leader `raft` sees it.
fn progress(raft: &Raft, peer: NodeId) -> (u64, u64) {
    let status = raft.status();
    let peer = status.peers.iter().find(|status| status.id == peer).expect("a member");
    let progress = peer.progress.expect("the node leads");
    (progress.match_index.0, progress.next_index.0)
}

/// Voters n1, n2 and n3, each bound to the life of its own number.
fn voters() -> Membership {
    let member = |id: NodeId| Member { incarnation: Some(Incarnation(id.0)), ..Member::default() };
    Membership::of_voters([N1, N2, N3].map(|id| (id, member(id))).into())
}

/// Entries as leaders make them: the membership first, then what a term begins with.
fn entries(ids: &[(u64, u64)]) -> Vec<Entry> {
    let payload = |index| match index {
        1 => Payload::Membership(voters().into()),
        _ => Payload::Noop,
    };
    let entry = |(index, term): &(u64, u64)| Entry {
        id: LogId::new(*index, *term),
        payload: payload(*index),
    };
    ids.iter().map(entry).collect()
}

/// What the disk of n1 holds.
fn loaded(log: &[(u64, u64)], hard_state: HardState) -> Loaded {
    let identity = Identity { cluster: ClusterId(1), node: N1, incarnation: Incarnation(1) };
    Loaded {
        identity: Some(identity),
        hard_state,
        snapshot: SnapshotMeta { last: LogId::ZERO, membership: voters() },
        entries: Run::new(entries(log)).into_iter().collect(),
    }
}

fn ids(log: &[(u64, u64)]) -> Vec<LogId> {
    log.iter().map(|(index, term)| LogId::new(*index, *term)).collect()
}

/// A cluster of `nodes`, led by n1 and at rest.
fn cluster(nodes: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes, &config(N1), 1, true);
    cluster.campaign(N1);
    settle(&mut cluster);
    cluster.tick(N1);
    settle(&mut cluster);
    assert_eq!(cluster.leader(), Some(N1));
    cluster.take_trace();
    cluster
}

/// Everything under way arrives and everything asked for is durable, until nothing is left.
fn settle(cluster: &mut Cluster) {
    for _ in 0..ROUNDS_MAX {
        persist(cluster);
        let messages = cluster.pool().len();
        (0..messages).for_each(|_| cluster.deliver(0));
        let idle = |id: &NodeId| cluster.server(*id).writes().is_empty();
        if messages == 0 && nodes(cluster).iter().all(idle) {
            return;
        }
    }
    panic!("the cluster does not settle");
}

fn persist(cluster: &mut Cluster) {
    for id in nodes(cluster) {
        cluster.persist(id, None);
    }
}

fn nodes(cluster: &Cluster) -> Vec<NodeId> {
    cluster.servers().keys().copied().collect()
}

fn raft(cluster: &Cluster, id: NodeId) -> &Raft {
    cluster.server(id).raft().expect("the node is up")
}

/// Ticks of every clock in turn, with everything settled after each.
fn tick_all(cluster: &mut Cluster, ticks: u32) {
    for _ in 0..ticks {
        nodes(cluster).into_iter().for_each(|id| cluster.tick(id));
        settle(cluster);
    }
}

/// Ticks of one clock, nothing else.
fn tick(cluster: &mut Cluster, id: NodeId, ticks: u32) {
    (0..ticks).for_each(|_| cluster.tick(id));
}

/// `id` hears nobody, and nobody hears it.
fn isolate(cluster: &mut Cluster, id: NodeId) {
    for other in nodes(cluster).into_iter().filter(|other| *other != id) {
        cluster.cut(id, other);
        cluster.cut(other, id);
    }
}
