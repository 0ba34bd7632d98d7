//! What goes through many keys is read by turns, and the turns are shared out by connection.

use super::{Connection, Doors, between, put};
use pb::request_op::Request;
use raft_kv::etcd::proto::etcdserverpb as pb;
use tokio::task::JoinSet;

/// Enough for several parts.
const KEYS: usize = 40_000;
/// Puts of one transaction.
const AT_ONCE: usize = 125;
/// Counts of the one who counts much.
const COUNTS: usize = 60;

async fn fill(connection: &Connection) {
    for first in (0..KEYS).step_by(AT_ONCE) {
        let puts = (first..first + AT_ONCE).map(|number| pb::RequestOp {
            request: Some(Request::RequestPut(put(&format!("{number:06}"), ""))),
        });
        let txn = pb::TxnRequest { success: puts.collect(), ..Default::default() };
        connection.kv().txn(txn).await.unwrap();
    }
}

async fn count(connection: Connection) {
    let counted = pb::RangeRequest { count_only: true, ..between("0", "9") };
    assert_eq!(connection.range(counted).await.count, KEYS as i64);
}

/// All that comes through the door would stand in one line otherwise, as if it were one client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counts_of_one_connection_keep_no_other_waiting() {
    let doors = Doors::start(1).await;
    let [one, other] = [doors.any().await, doors.any().await];
    fill(&one).await;
    let mut counts = JoinSet::new();
    for _ in 0..COUNTS {
        counts.spawn(count(one.clone()));
    }
    // They are under way then.
    counts.join_next().await.unwrap().unwrap();
    count(other).await;
    let mut done = 1;
    while let Some(ended) = counts.try_join_next() {
        ended.unwrap();
        done += 1;
    }
    // It had to wait for one or two of them at most, not for all; the rest is for a slow machine.
    assert!(done < COUNTS / 2, "{done} of {COUNTS} came first");
}
