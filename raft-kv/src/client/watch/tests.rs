//! What a watch makes of nodes of other histories.

use super::queue::{BEHIND_MAX, Begin, Queue, Taken};
use crate::api::{Keys, KvError, Revision, Watch};
use tokio::time::{Duration, advance};

/// A watch that was begun in a history.
fn begun_in(epoch: u64) -> Queue {
    let queue = Queue::new(Watch::of(Keys::all()), None);
    assert!(matches!(queue.begin(epoch), Begin::Watch(_)));
    queue.created(Revision(7), epoch);
    queue
}

fn end_of(queue: &Queue) -> Option<KvError> {
    match queue.take(None) {
        Taken::Ended(error) => error,
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_history_ends_a_watch() {
    let queue = begun_in(3);
    assert_eq!(queue.begin(4), Begin::Ended);
    assert_eq!(end_of(&queue), Some(KvError::OtherHistory { asked: 3, current: 4 }));
}

/// A member that comes to the history of a restore by the log is not there yet: what it says of
/// its history is not how things are.
#[tokio::test(start_paused = true)]
async fn a_node_of_an_earlier_history_is_left_and_ends_nothing() {
    let queue = begun_in(3);
    for _ in 0..2 {
        assert_eq!(queue.begin(2), Begin::Behind);
        advance(BEHIND_MAX - Duration::from_millis(1)).await;
        assert_eq!(queue.begin(2), Begin::Behind);
        assert!(end_of(&queue).is_none() && !queue.has_ended());
        // Another node has come to it; from then on it is patient again.
        assert!(matches!(queue.begin(3), Begin::Watch(_)));
        queue.created(Revision(7), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_where_all_nodes_stay_in_an_earlier_history() {
    let queue = begun_in(3);
    assert_eq!(queue.begin(2), Begin::Behind);
    advance(BEHIND_MAX).await;
    assert_eq!(queue.begin(2), Begin::Ended);
    assert_eq!(end_of(&queue), Some(KvError::OtherHistory { asked: 3, current: 2 }));
}
