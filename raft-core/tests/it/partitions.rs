//! Networks that are neither whole nor in two halves: links that work one way, pairs that cannot
//! hear each other, a bridge, a ring, a hub, a link that comes and goes.
//!
//! Every clock ticks, messages arrive in order and at once, disks are quick: nothing but the links
//! is wrong. However they lie, terms do not inflate; and where some node can hear and be heard by a
//! quorum, leadership comes to rest within two changes and proposals are committed.

use bytes::Bytes;
use raft_core::raft::{Config, Raft};
use raft_core::testing::Cluster;
use raft_core::types::{Change, Index, NodeId, Term};

/// Ticks of the shortest and of the longest election timeout.
const ELECTION_MIN: u32 = 8;
const ELECTION_MAX: u32 = 12;

/// How long a partition lasts, in ticks.
const PARTITION_TICKS: u32 = 50 * ELECTION_MAX;

/// Different random timeouts for each kind of partition.
const SEEDS: u64 = 20;

/// Changes of leader that a partition may bring about.
const LEADER_CHANGES_MAX: usize = 2;

/// Elections that nobody wins may raise the term as well: so much, and no more.
const LOST_ELECTIONS_MAX: u64 = 2;

/// Messages and writes after which a tick is taken to never come to rest.
const ROUNDS_MAX: usize = 10_000;

struct Run {
    cluster: Cluster,
    seed: u64,
    /// The leader last seen, and its term.
    led: (Term, NodeId),
    changes: usize,
    proposed: u64,
}

impl Run {
    /// A cluster of `nodes`, led by `leader` and at rest.
    fn new(nodes: u64, leader: u64, seed: u64) -> Self {
        let config = Config {
            id: NodeId(1),
            election_ticks_min: ELECTION_MIN,
            election_ticks_max: ELECTION_MAX,
            heartbeat_ticks: 3,
            ..Config::default()
        };
        let mut cluster = Cluster::new(nodes, &config, seed, false);
        let leader = NodeId(leader);
        cluster.campaign(leader);
        settle(&mut cluster);
        let led = (raft(&cluster, leader).term(), leader);
        let mut run = Self { cluster, seed, led, changes: 0, proposed: 0 };
        run.tick();
        assert_eq!((run.leader(), run.changes), (Some(led), 0));
        run
    }

    fn leader(&self) -> Option<(Term, NodeId)> {
        let leader = self.cluster.leader()?;
        Some((raft(&self.cluster, leader).term(), leader))
    }

    fn highest_term(&self) -> Term {
        let nodes = self.cluster.servers().keys();
        nodes.map(|id| raft(&self.cluster, *id).term()).max().expect("there are nodes")
    }

    /// A tick of every clock, and all that comes of it.
    fn tick(&mut self) {
        let nodes: Vec<NodeId> = self.cluster.servers().keys().copied().collect();
        for id in nodes {
            self.cluster.tick(id);
            settle(&mut self.cluster);
            self.note_leader();
        }
    }

    fn note_leader(&mut self) {
        if let Some(leader) = self.leader().filter(|leader| *leader > self.led) {
            self.led = leader;
            self.changes += 1;
        }
    }

    /// Ticks for as long as a partition lasts, calling `link` before each, and checks that terms
    /// do not inflate.
    fn last(&mut self, mut link: impl FnMut(&mut Cluster, u32)) {
        let before = self.highest_term().0;
        for tick in 0..PARTITION_TICKS {
            link(&mut self.cluster, tick);
            self.tick();
        }
        let (seed, raised, changes) = (self.seed, self.highest_term().0 - before, self.changes);
        assert!(
            raised <= changes as u64 + LOST_ELECTIONS_MAX,
            "seed {seed}: {raised} terms for {changes} changes of leader"
        );
    }

    /// Leadership has come to rest, and the leader commits.
    fn expect_service(&mut self) {
        let (seed, changes) = (self.seed, self.changes);
        assert!(changes <= LEADER_CHANGES_MAX, "seed {seed}: {changes} changes of leader");
        let leader = self.cluster.leader().unwrap_or_else(|| panic!("seed {seed}: nobody leads"));
        let before = self.cluster.checker().committed();
        self.proposed += 1;
        let results = self.cluster.propose(leader, &[Bytes::from(self.proposed.to_string())]);
        let id = results[0].unwrap_or_else(|refusal| panic!("seed {seed}: {refusal:?}"));
        self.tick();
        let committed = self.cluster.checker().committed();
        assert!(id.index > before, "seed {seed}: {id} was committed before it was proposed");
        assert!(committed >= id.index, "seed {seed}: {id} is not committed, {committed} is");
    }
}

fn raft(cluster: &Cluster, id: NodeId) -> &Raft {
    cluster.server(id).raft().expect("nobody crashes here")
}

fn settle(cluster: &mut Cluster) {
    for _ in 0..ROUNDS_MAX {
        let writing = cluster.servers().iter().find(|(_, server)| !server.writes().is_empty());
        if let Some((id, _)) = writing {
            cluster.persist(*id, None);
        } else if !cluster.pool().is_empty() {
            cluster.deliver(0);
        } else {
            return;
        }
    }
    panic!("the cluster does not come to rest");
}

/// Cuts every link, in both ways, but those between `pairs`.
fn connect_only(cluster: &mut Cluster, pairs: &[(u64, u64)]) {
    let nodes: Vec<NodeId> = cluster.servers().keys().copied().collect();
    for from in &nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            if !pairs.contains(&(from.0, to.0)) && !pairs.contains(&(to.0, from.0)) {
                cluster.cut(*from, *to);
            }
        }
    }
}

/// For each of the first seeds: a cluster of `nodes` led by `leader`, `cut` apart, serves.
fn serves(nodes: u64, leader: u64, cut: impl Fn(&mut Cluster)) {
    for seed in 0..SEEDS {
        let mut run = Run::new(nodes, leader, seed);
        cut(&mut run.cluster);
        run.last(|_, _| {});
        run.expect_service();
    }
}

/// Nothing that is sent to `id` arrives.
fn deafen(cluster: &mut Cluster, id: NodeId) {
    let others: Vec<NodeId> = cluster.servers().keys().copied().filter(|x| *x != id).collect();
    others.into_iter().for_each(|from| cluster.cut(from, id));
}

/// Nothing that `id` sends arrives.
fn mute(cluster: &mut Cluster, id: NodeId) {
    let others: Vec<NodeId> = cluster.servers().keys().copied().filter(|x| *x != id).collect();
    others.into_iter().for_each(|to| cluster.cut(id, to));
}

/// It would keep its power for ever, were it not for check-quorum (thesis §6.2).
#[test]
fn a_leader_that_hears_nobody_is_replaced() {
    for nodes in [3, 5] {
        serves(nodes, 1, |cluster| deafen(cluster, NodeId(1)));
    }
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    for nodes in [3, 5] {
        serves(nodes, 1, |cluster| mute(cluster, NodeId(1)));
    }
}

/// It would depose the leader again and again, were it not for pre-votes and for voters that hear
/// their leader (thesis §4.2.3, §9.6).
/// Whom the others ask for votes is not thereby heard by them: only answers count.
#[test]
fn a_leader_that_all_call_and_few_hear_is_replaced() {
    serves(4, 1, |cluster| {
        for (from, to) in [(1, 2), (1, 3), (2, 3), (3, 2)] {
            cluster.cut(NodeId(from), NodeId(to));
        }
    });
}

/// The leader hears the node that should lead rather than itself, and nobody else does.
#[test]
fn a_preferred_node_that_cannot_win_is_not_tried_again_and_again() {
    for seed in 0..SEEDS {
        let mut run = Run::new(5, 1, seed);
        let prefer = Change::Prioritize { node: NodeId(5), priority: 9 };
        assert!(run.cluster.change(NodeId(1), &[prefer]).is_some_and(|changed| changed.is_ok()));
        for other in [2, 3, 4].map(NodeId) {
            run.cluster.cut(NodeId(5), other);
            run.cluster.cut(other, NodeId(5));
        }
        run.last(|_, _| {});
        run.expect_service();
    }
}

#[test]
fn a_leader_that_one_node_does_not_hear_stays() {
    for nodes in [3, 5] {
        for seed in 0..SEEDS {
            let mut run = Run::new(nodes, 1, seed);
            run.cluster.cut(NodeId(1), NodeId(2));
            run.last(|_, _| {});
            assert_eq!(run.changes, 0, "seed {seed}");
            run.expect_service();
        }
    }
}

#[test]
fn a_leader_that_does_not_hear_one_node_stays() {
    for nodes in [3, 5] {
        for seed in 0..SEEDS {
            let mut run = Run::new(nodes, 1, seed);
            run.cluster.cut(NodeId(2), NodeId(1));
            run.last(|_, _| {});
            assert_eq!(run.changes, 0, "seed {seed}");
            run.expect_service();
        }
    }
}

/// n1 and n2 do not hear each other, n3 hears both: whoever leads, once that is settled it stays.
#[test]
fn a_pair_that_does_not_hear_each_other_is_led() {
    for leader in 1..=3 {
        serves(3, leader, |cluster| connect_only(cluster, &[(1, 3), (2, 3)]));
    }
}

/// n1 and n2, n4 and n5, and n3 which hears all of them.
#[test]
fn two_halves_with_a_bridge_are_led() {
    let pairs = [(1, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5)];
    for leader in [1, 3] {
        serves(5, leader, |cluster| connect_only(cluster, &pairs));
    }
}

/// Each hears its two neighbours, which makes three of five.
#[test]
fn a_ring_is_led() {
    let pairs = [(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)];
    for leader in [1, 3] {
        serves(5, leader, |cluster| connect_only(cluster, &pairs));
    }
}

/// Only n3 hears more than one other: nobody else can lead.
#[test]
fn a_hub_is_led_by_its_centre() {
    let pairs = [(3, 1), (3, 2), (3, 4), (3, 5)];
    for leader in [1, 3] {
        serves(5, leader, |cluster| connect_only(cluster, &pairs));
    }
}

/// The link between the leader and a follower comes and goes, for every length of both.
#[test]
fn a_flapping_link_deposes_nobody() {
    for seed in 0..SEEDS {
        for nodes in [3, 5] {
            let (up, down) = (1 + seed % 7 * 3, 1 + seed / 3 * 4);
            let mut run = Run::new(nodes, 1, seed);
            run.last(|cluster, tick| match u64::from(tick) % (up + down) {
                0 => cluster.heal(),
                at if at == up => {
                    cluster.cut(NodeId(1), NodeId(2));
                    cluster.cut(NodeId(2), NodeId(1));
                }
                _ => {}
            });
            assert_eq!(run.changes, 0, "seed {seed}");
            run.expect_service();
        }
    }
}

/// A node whose every link comes and goes deposes nobody either.
#[test]
fn a_flapping_node_deposes_nobody() {
    for seed in 0..SEEDS {
        let (up, down) = (1 + seed % 7 * 3, 1 + seed / 3 * 4);
        let mut run = Run::new(3, 1, seed);
        run.last(|cluster, tick| match u64::from(tick) % (up + down) {
            0 => cluster.heal(),
            at if at == up => {
                deafen(cluster, NodeId(2));
                mute(cluster, NodeId(2));
            }
            _ => {}
        });
        assert_eq!(run.changes, 0, "seed {seed}");
        run.expect_service();
    }
}

/// Where nobody hears a quorum nobody can lead; terms stay, and service is back with the links.
#[test]
fn without_a_quorum_anywhere_terms_stay() {
    let lonely: [&[(u64, u64)]; 2] = [&[], &[(1, 2), (3, 4)]];
    for pairs in lonely {
        for seed in 0..SEEDS {
            let mut run = Run::new(5, 1, seed);
            connect_only(&mut run.cluster, pairs);
            run.last(|_, _| {});
            assert_eq!((run.leader(), run.changes), (None, 0), "seed {seed}");
            run.cluster.heal();
            (0..4 * ELECTION_MAX).for_each(|_| run.tick());
            run.expect_service();
        }
    }
}

/// Each node is heard only by the next: nobody hears what it is answered, so nobody can lead.
#[test]
fn a_ring_of_one_way_links_raises_no_terms() {
    for seed in 0..SEEDS {
        let mut run = Run::new(5, 1, seed);
        for from in 1..=5 {
            for to in (1..=5).filter(|to| *to != from && *to != from % 5 + 1) {
                run.cluster.cut(NodeId(from), NodeId(to));
            }
        }
        run.last(|_, _| {});
        assert_eq!(run.changes, 0, "seed {seed}");
        assert!(run.cluster.checker().committed() >= Index(1));
    }
}
