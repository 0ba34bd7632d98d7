//! A follower that was away comes back while the cluster is under full load: it must catch up, not
//! be sent one snapshot after the other because the log is compacted behind each.

use bytes::Bytes;
use raft_core::raft::Config;
use raft_core::testing::{Cluster, Machine};
use raft_core::types::NodeId;

const N1: NodeId = NodeId(1);
const N3: NodeId = NodeId(3);

/// Ticks a snapshot takes on its way, and as many to be installed.
const SNAPSHOT_TICKS: u64 = 15;

/// Everything under way arrives, every disk completes its writes, every state machine makes a
/// checkpoint.
fn turn(cluster: &mut Cluster, flush: bool) {
    for id in [1, 2, 3].map(NodeId) {
        cluster.tick(id);
        cluster.persist(id, None);
        if flush {
            cluster.flush(id);
        }
    }
    for _ in 0..cluster.pool().len() {
        cluster.deliver(0);
    }
}

#[test]
fn a_slow_follower_under_full_load_needs_one_snapshot() {
    let config = Config {
        id: N1,
        election_ticks_min: 10,
        election_ticks_max: 20,
        heartbeat_ticks: 3,
        // The load of a snapshot's time fits in the log, that of three does not.
        log_bytes_max: 120_000,
        log_trailing_bytes: 1000,
        uncommitted_bytes_max: 50_000,
        command_bytes_max: 200,
        message_bytes_max: 4000,
        ..Config::default()
    };
    let mut cluster = Cluster::new(3, &config, 1, false);
    cluster.campaign(N1);
    (0..4).for_each(|_| turn(&mut cluster, false));
    cluster.cut(N1, N3);
    cluster.cut(N3, N1);
    let load = || (0..10).map(|_| Bytes::from(vec![7; 90])).collect::<Vec<_>>();
    for _ in 0..100 {
        cluster.propose(N1, &load());
        turn(&mut cluster, true);
    }
    cluster.heal();

    let (mut sent, mut under_way, mut installing) = (0, None, None);
    for tick in 0..400 {
        let taken = cluster.propose(N1, &load()).iter().filter(|taken| taken.is_ok()).count();
        assert!(taken > 0, "the cluster takes nothing at tick {tick}: one follower holds it up");
        turn(&mut cluster, true);
        if under_way.is_none() && cluster.server(N1).asked().any(|to| to == N3) {
            under_way = Some(tick + SNAPSHOT_TICKS);
        }
        if under_way == Some(tick) {
            cluster.send_snapshot(N1, N3, true);
            (sent, under_way) = (sent + 1, None);
        }
        if installing.is_none() && cluster.server(N3).restoring().is_some() {
            installing = Some(tick + SNAPSHOT_TICKS);
        }
        if installing == Some(tick) {
            cluster.restore(N3);
            installing = None;
        }
    }
    let applied = |id| cluster.server(id).machine().applied().last.index.0;
    assert_eq!(sent, 1, "snapshots until the follower had caught up");
    assert!(applied(N1) - applied(N3) < 100, "n1 at {}, n3 at {}", applied(N1), applied(N3));
}
