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
