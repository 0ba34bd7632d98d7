//! Reads of every freshness.

use super::*;
use crate::api::{Chunk, Freshness, Inquiry, Point, Position};
use tokio::task::JoinSet;

impl Fixture {
    /// A request of the client that has this connection.
    async fn request_of(&self, connection: u64, body: RequestBody) -> Reply {
        self.ask(Caller::Client(ConnectionId(connection)), request(body)).await
    }
}

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
async fn reads_are_answered_from_the_state_machine() {
    let at = Fixture::new(None);
    let consistency = Consistency::Serializable;
    let mut range = Range::of(Keys::all());
    let reply = at.request(RequestBody::Read { range: range.clone(), consistency }).await;
    assert_eq!(reply, found().map(ReplyBody::Range));
    range = Range { limit: 1, ..Range::of(Keys::One("key".into())) };
    let reply = at.request(RequestBody::Read { range, consistency }).await;
    assert_eq!(reply, future_revision().map(ReplyBody::Range));
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

/// What was read in parts is of one history, or it is not answered.
#[tokio::test(start_paused = true)]
async fn a_history_that_ends_while_it_is_read_is_told() {
    let at = Fixture::new(None);
    at.node.parts.left.store(3, Ordering::Relaxed);
    let restore = async {
        tokio::time::sleep(Duration::from_millis(15)).await;
        let mut restored = (*at.node.status()).clone();
        let membership = &restored.membership;
        restored.membership = membership.refounded(membership.members().clone(), 1);
        at.node.status.send_replace(Arc::new(restored));
    };
    let (reply, ()) = tokio::join!(at.request(at_least(0, 7)), restore);
    assert_eq!(reply, Err(KvError::OtherHistory { asked: 0, current: 1 }));
}

fn count() -> RequestBody {
    let range = Range { count_only: true, ..Range::of(Keys::all()) };
    RequestBody::DatedRead { range, consistency: Consistency::Linearizable }
}

/// Whoever reads much, many times at once, waits; the first part is as fresh as it has to be.
#[tokio::test(start_paused = true)]
async fn few_large_reads_go_on_at_once() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(20, Ordering::Relaxed);
    let count = |client| at.request_of(client, count());
    let replies = tokio::join!(count(1), count(2), count(3), count(4));
    for reply in [replies.0, replies.1, replies.2, replies.3] {
        assert_eq!(reply.map(|_| ()), dated().map(|_| ()));
    }
    assert_eq!(at.node.parts.most.load(Ordering::Relaxed), 2);
    let modes = at.node.modes.lock().expect("unpoisoned");
    assert_eq!(modes[..4], [ReadMode::Lease; 4]);
    assert!(modes[4..].iter().all(|mode| *mode == ReadMode::Local));
}

/// Of one connection one goes on at a time, and the others wait behind it: whoever else counts has
/// the next turn, however many there are.
#[tokio::test(start_paused = true)]
async fn the_counts_of_one_client_keep_no_other_waiting() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(usize::MAX, Ordering::Relaxed);
    let mut many = JoinSet::new();
    for _ in 0..100 {
        let door = Arc::clone(&at.door);
        many.spawn(async move { door.answer(Asker::of(CLIENT), request(count())).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(at.node.parts.most.load(Ordering::Relaxed), 1);
    // None of those that are under way ever ends.
    let last = at.node.parts.scans.lock().expect("unpoisoned").iter().max().copied();
    at.node.parts.endless.store(last.expect("some have begun"), Ordering::Relaxed);
    at.node.parts.left.store(3, Ordering::Relaxed);
    let begun = Instant::now();
    let counted = at.request_of(2, count()).await;
    assert!(counted.is_ok(), "{counted:?}");
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    // What waits for its turn is given up with whoever asked.
    assert_eq!(at.door.turns.connections(), 1);
    many.shutdown().await;
    assert_eq!(at.door.turns.connections(), 0);
}

/// What one found before it had to wait is not kept: any number may wait.
#[tokio::test(start_paused = true)]
async fn a_large_read_begins_anew_when_it_is_its_turn() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(3, Ordering::Relaxed);
    at.request(count()).await.unwrap();
    let scans = at.node.parts.scans.lock().expect("unpoisoned").clone();
    let first = scans[0];
    assert_eq!(scans.iter().filter(|scan| **scan == first).count(), 1, "{scans:?}");
    let second = scans[1];
    assert!(scans[1..].iter().all(|scan| *scan == second), "{scans:?}");
}

/// Whoever counts keeps those waiting who count.
#[tokio::test(start_paused = true)]
async fn pages_do_not_wait_for_what_goes_through_everything() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(usize::MAX, Ordering::Relaxed);
    let page = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The counts are under way, and stay so.
        let last = at.node.parts.scans.lock().expect("unpoisoned").iter().max().copied();
        at.node.parts.endless.store(last.expect("some have begun"), Ordering::Relaxed);
        at.node.parts.left.store(1, Ordering::Relaxed);
        let begun = Instant::now();
        let page = at.request(read(Consistency::Serializable)).await;
        (page, begun.elapsed())
    };
    let counts = async { tokio::join!(at.request_of(2, count()), at.request_of(3, count())) };
    let (counts, (page, took)) = tokio::join!(counts, page);
    assert!(counts.0.is_err() && counts.1.is_err(), "{counts:?}");
    assert!(page.is_ok(), "{page:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// A page that turns out to be none goes on in the other line.
#[tokio::test(start_paused = true)]
async fn what_takes_more_than_a_page_does_goes_on() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(30, Ordering::Relaxed);
    at.request(read(Consistency::Linearizable)).await.unwrap();
    let scans = at.node.parts.scans.lock().expect("unpoisoned").clone();
    let parts = |nth: usize| {
        let mut ids = scans.clone();
        ids.dedup();
        scans.iter().filter(|scan| **scan == ids[nth]).count()
    };
    // Of the 30 parts that are not the last, one is the first read's, three are the page's.
    assert_eq!((parts(0), parts(1), parts(2)), (1, 3, 27));
}

/// What is yet to come is waited for before it is one's turn.
#[tokio::test(start_paused = true)]
async fn who_asks_for_what_is_to_come_keeps_nobody_waiting() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(3, Ordering::Relaxed);
    let chunk = Chunk { revision: None, floor: None, start: Point::default(), end: None, keys: 10 };
    let inquiry = Inquiry::Chunk(chunk, Index(1000));
    let ask = || at.request(RequestBody::Integrity(inquiry.clone()));
    let late = unavailable("the state machine did not answer within 0.9 s");
    let counted = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        at.request(count()).await
    };
    let (one, other, counted) = tokio::join!(ask(), ask(), counted);
    assert_eq!((one, other), (late.clone(), late));
    assert!(counted.is_ok(), "{counted:?}");
}

/// One that does not get its turn in time may be tried on another node.
#[tokio::test(start_paused = true)]
async fn a_large_read_that_waits_too_long_is_told() {
    let at = Fixture::new(Some(1));
    at.node.parts.left.store(usize::MAX, Ordering::Relaxed);
    let ask = |client| at.request_of(client, count());
    let replies: [Reply; 3] = tokio::join!(ask(1), ask(2), ask(3)).into();
    let no_turn = unavailable("too many large reads: no turn for this one within 0.9 s");
    assert_eq!(replies.iter().filter(|reply| **reply == no_turn).count(), 1, "{replies:?}");
    let slow = unavailable("the state machine did not answer within 0.9 s");
    assert_eq!(replies.iter().filter(|reply| **reply == slow).count(), 2, "{replies:?}");
    // It has gone for good: what comes next has its turn.
    at.node.parts.left.store(1, Ordering::Relaxed);
    assert!(ask(4).await.is_ok());
}

/// Nobody waits for what is read when the time to answer is over: the node is not asked then, even
/// if it would answer at once.
#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_read() {
    let at = Fixture::new(None);
    for (deadline_ms, asked) in [(0, 0), (1, 1)] {
        let request = Request { deadline_ms, body: read(Consistency::Serializable) };
        let reply = at.ask(CLIENT, wire::encode_request(&request)).await;
        assert_eq!(reply.is_ok(), asked > 0, "{reply:?}");
        assert_eq!(at.node.modes.lock().expect("unpoisoned").len(), asked);
    }
}

/// A read that may take long is told as soon as others that there is no quorum.
#[tokio::test(start_paused = true)]
async fn a_count_without_a_quorum_is_told_soon() {
    let at = Fixture::new(None);
    let request = Request { deadline_ms: 30_000, body: count() };
    let begun = Instant::now();
    let reply = at.ask(CLIENT, wire::encode_request(&request)).await;
    assert!(matches!(reply, Err(KvError::NoQuorum { .. } | KvError::Unavailable(_))), "{reply:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
