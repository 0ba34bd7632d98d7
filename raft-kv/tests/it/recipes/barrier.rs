//! Barriers.

use super::{Process, TTL, client, world};
use crate::cluster::Cluster;
use crate::watch::{Lines, compact};
use raft_core::types::NodeId;
use raft_kv::api::{Keys, KvError, Revision, Watch};
use raft_kv::client::ClientError;
use raft_kv::recipes::{Barrier, DoubleBarrier};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_holds_everybody_up_until_it_is_lifted() {
    let cluster = Cluster::start(3);
    let barriers = [0, 1, 2].map(|number| Barrier::new(&client(&cluster, number), "barrier"));
    barriers[0].wait().await.unwrap();
    assert!(barriers[0].raise().await.unwrap());
    assert!(!barriers[1].raise().await.unwrap());
    let passed = Arc::<AtomicUsize>::default();
    let mut waiting = JoinSet::new();
    for barrier in barriers.iter().cycle().take(9) {
        let (barrier, passed) = (barrier.clone(), Arc::clone(&passed));
        waiting.spawn(async move {
            barrier.wait().await.unwrap();
            passed.fetch_add(1, Ordering::SeqCst);
        });
    }
    // Something that takes longer than a look.
    barriers[2].raise().await.unwrap();
    assert_eq!(passed.load(Ordering::SeqCst), 0);
    assert!(barriers[1].lift().await.unwrap());
    waiting.join_all().await;
    assert!(!barriers[1].lift().await.unwrap());
}

/// The one that waits is paused, loses its stream, and finds that what it was to be told next has
/// been compacted: nobody can tell it whether the barrier was lifted, and it was not.
#[test]
fn a_compaction_lets_nobody_through() {
    let (world, paused) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(1) });
    let lines = Lines::of(&cluster);
    let (near, far) = (cluster.client(NodeId(1)), lines.client(&[NodeId(1)]));
    let barrier = Barrier::new(&near, "barrier");
    world.block_on(barrier.raise()).unwrap();
    let waiter = Barrier::new(&far, "barrier");
    let mut waiting = pin!(waiter.wait());
    let begun = async {
        while lines.last().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    paused.run(async {
        tokio::select! {
            passed = &mut waiting => panic!("it is raised: {passed:?}"),
            () = begun => {}
        }
    });
    world.block_on(async {
        for _ in 0..5 {
            near.put("other", "").await.unwrap();
        }
        compact(&cluster, Revision(7)).await;
    });
    lines.cut();
    // On the same stream, told the same after it.
    let watch = Watch { from: Some(Revision(3)), ..Watch::of(Keys::One("barrier".into())) };
    let mut companion = paused.run(async { far.watch(watch) });
    let told = paused.run(async {
        tokio::select! {
            biased;
            passed = &mut waiting => panic!("it is raised: {passed:?}"),
            told = companion.next() => told,
        }
    });
    let compacted =
        |error: &ClientError| matches!(error, ClientError::Refused(KvError::Compacted { .. }));
    assert!(told.as_ref().is_some_and(|told| told.as_ref().is_err_and(compacted)), "{told:?}");
    assert!(world.block_on(barrier.lift()).unwrap());
    paused.run(waiting).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn participants_of_a_double_barrier_begin_and_end_together_each_round() {
    const COUNT: usize = 4;
    const ROUNDS: usize = 5;
    let cluster = Cluster::start(3);
    let (begun, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut participants = JoinSet::new();
    for number in 0..COUNT {
        let client = client(&cluster, number as u64);
        let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
        participants.spawn(async move {
            for round in 0..ROUNDS {
                begun.fetch_add(1, Ordering::SeqCst);
                let inside = DoubleBarrier::enter(&client, "barrier", COUNT, LONG).await.unwrap();
                assert_eq!(begun.load(Ordering::SeqCst), COUNT * (round + 1), "not all are there");
                done.fetch_add(1, Ordering::SeqCst);
                inside.leave().await.unwrap();
                assert!(done.load(Ordering::SeqCst) >= COUNT * (round + 1), "not all are done");
            }
        });
    }
    participants.join_all().await;
}

#[test]
fn a_participant_that_fails_inside_a_double_barrier_does_not_keep_the_others() {
    let (world, failing) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(3) });
    let (one, other) = (client(&cluster, 0), client(&cluster, 1));
    let inside =
        world.spawn(async move { DoubleBarrier::enter(&one, "barrier", 2, TTL).await.unwrap() });
    let failed = failing.run(DoubleBarrier::enter(&other, "barrier", 2, TTL)).unwrap();
    // From here on it does nothing.
    world.block_on(async { inside.await.unwrap().leave().await.unwrap() });
    drop(failed);
}
