//! Streams of watches on a node that comes and goes.

use super::*;
use crate::api::{StreamRequest, WatchReply};
use crate::service::WatchOptions;
use crate::service::watches::{Watches, serve};
use raft_core::transport::Duplex;

/// The longest election timeout; see [`SILENCE`].
const ELECTION_MAX: Duration = Duration::from_secs(1);

/// A stream to the node, which is there.
async fn stream(at: &Fixture) -> Duplex {
    let first = StreamRequest::Watch { require_leader: true };
    stream_of(at, &StoreHandle::default(), first).await
}

pub(super) async fn stream_of(at: &Fixture, store: &StoreHandle, first: StreamRequest) -> Duplex {
    let watches = Watches::new(store, WatchOptions::default());
    let (mut near, far) = Duplex::pair(64 * 1024);
    let first = codec::encode(&first);
    serve(&watches, Arc::clone(&at.door), Asker::of(CLIENT), &first, far);
    assert_eq!(next(&mut near).await, WatchReply::Opened(0));
    near
}

pub(super) async fn next(stream: &mut Duplex) -> WatchReply {
    let frame = stream.source.receive().await.expect("not broken").expect("not ended");
    codec::decode_sequence(&frame).next().expect("a reply").expect("a right one")
}

/// Whoever watches there is told so long before it would notice by itself.
#[tokio::test(start_paused = true)]
async fn a_node_without_a_leader_ends_its_watches_soon() {
    let at = Fixture::new(Some(2));
    let mut stream = stream(&at).await;
    tokio::time::sleep(10 * ELECTION_MAX).await;
    let lost = Instant::now();
    at.lead(None);
    let ended = WatchReply::Ended(KvError::Unavailable("no leader".into()));
    assert_eq!(next(&mut stream).await, ended);
    assert!(lost.elapsed() <= ELECTION_MAX * 3 / 5, "{:?}", lost.elapsed());
}

/// Elections that go well move nobody.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_a_leader_again_keeps_its_watches() {
    let at = Fixture::new(Some(2));
    let mut stream = stream(&at).await;
    for leader in [3, 1, 2] {
        at.lead(None);
        tokio::time::sleep(ELECTION_MAX * 2 / 5).await;
        at.lead(Some(leader));
        let told = tokio::time::timeout(ELECTION_MAX, next(&mut stream)).await;
        assert!(told.is_err(), "{told:?}");
    }
}
