//! Reads of every freshness.

use super::*;
use crate::api::{Freshness, Position};

fn read(consistency: Consistency) -> RequestBody {
    RequestBody::DatedRead { range: Range::of(Keys::all()), consistency }
}

fn at_least(epoch: u64, revision: u64) -> RequestBody {
    read(Consistency::AtLeast(Position { epoch, revision: Revision(revision) }))
}

fn dated() -> Reply {
    let freshness = Freshness { epoch: 0, staleness: Some(Duration::from_millis(20)) };
    found().map(|range| ReplyBody::Dated(freshness, range))
}

#[tokio::test(start_paused = true)]
async fn a_dated_read_says_how_stale_it_may_be() {
    let at = Fixture::new(None);
    assert_eq!(at.request(read(Consistency::Serializable)).await, dated());
}

/// Whether there are leases is for the core to say; it asks a quorum where there are none.
#[tokio::test(start_paused = true)]
async fn linearizable_reads_make_use_of_a_lease() {
    let at = Fixture::new(Some(1));
    at.request(read(Consistency::Linearizable)).await.unwrap_err();
    assert_eq!(*at.node.modes.lock().expect("unpoisoned"), [ReadMode::Lease]);
}

#[tokio::test(start_paused = true)]
async fn a_causal_read_waits_for_its_position() {
    let at = Fixture::new(None);
    assert_eq!(at.request(at_least(0, 7)).await, dated());
    assert_eq!(*at.node.modes.lock().expect("unpoisoned"), [ReadMode::Local, ReadMode::Local]);
    let apply = async {
        for revision in [8, 9] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            at.node.revision.send_replace(revision);
        }
    };
    let (reply, ()) = tokio::join!(at.request(at_least(0, 9)), apply);
    assert_eq!(reply, dated());
    // One more look for each entry, none in between.
    assert_eq!(at.node.modes.lock().expect("unpoisoned").len(), 2 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_does_not_come_is_told() {
    let at = Fixture::new(None);
    let reply = at.request(at_least(0, 9)).await;
    assert_eq!(reply, unavailable("revision 9 has not come here yet, 7 has"));
}

#[tokio::test(start_paused = true)]
async fn a_position_of_another_history_is_refused() {
    let at = Fixture::new(None);
    let reply = at.request(at_least(1, 7)).await;
    assert_eq!(reply, Err(KvError::OtherHistory { asked: 1, current: 0 }));
    let text = reply.unwrap_err().to_string();
    assert_eq!(text, "the position is of history 1, this is history 0: read anew");
}

/// Whoever reads much, many times at once, waits; the first part is as fresh as it has to be.
#[tokio::test(start_paused = true)]
async fn few_large_reads_go_on_at_once() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(20, Ordering::Relaxed);
    let read = || at.request(read(Consistency::Linearizable));
    let replies = tokio::join!(read(), read(), read(), read());
    for reply in [replies.0, replies.1, replies.2, replies.3] {
        assert_eq!(reply, dated());
    }
    assert_eq!(at.node.parts.most.load(Ordering::Relaxed), 2);
    let modes = at.node.modes.lock().expect("unpoisoned");
    assert_eq!(modes[..4], [ReadMode::Lease; 4]);
    assert!(modes[4..].iter().all(|mode| *mode == ReadMode::Local));
}

/// One that does not get its turn in time may be tried again.
#[tokio::test(start_paused = true)]
async fn a_large_read_that_waits_too_long_is_told() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(usize::MAX, Ordering::Relaxed);
    let read = || at.request(read(Consistency::Serializable));
    let replies: [Reply; 3] = tokio::join!(read(), read(), read()).into();
    let overloaded = |reply: &&Reply| **reply == Err(KvError::Overloaded);
    assert_eq!(replies.iter().filter(overloaded).count(), 1, "{replies:?}");
    let slow = unavailable("the state machine did not answer within 0.9 s");
    assert_eq!(replies.iter().filter(|reply| **reply == slow).count(), 2, "{replies:?}");
    // It has gone for good: what comes next has its turn.
    at.node.parts.left.store(1, Ordering::Relaxed);
    assert_eq!(read().await, dated());
}
