use super::Requests;
use crate::node::event::Applied;
use crate::node::queue::{Room, queue};
use crate::node::waiter::{Batch, Outcomes, Waiter};
use crate::node::{ProposeError, Proposed};
use crate::types::{Entry, LogId, Payload, Run};
use bytes::Bytes;
use std::ops::RangeInclusive;
use tokio::sync::oneshot;

/// Five proposals made together in term 2, at the indexes 4 to 8.
fn five() -> (Requests, oneshot::Receiver<Outcomes>) {
    let (_, queue) = queue(Room { events: 1, requests: 5 });
    let (done, outcomes) = oneshot::channel();
    let batch = Batch::new(queue.permit(5), done);
    let mut requests = Requests::default();
    requests.proposed(LogId::new(4, 2), Waiter::Part { batch, first: 0, count: 5 });
    (requests, outcomes)
}

fn reply(index: u64) -> Bytes {
    Bytes::from(index.to_string())
}

/// Applies the entries `indexes` of `term`.
fn apply(requests: &mut Requests, indexes: RangeInclusive<u64>, term: u64) {
    let entry = |index| Entry { id: LogId::new(index, term), payload: Payload::Noop };
    let run = Run::new(indexes.clone().map(entry).collect()).unwrap();
    let waiters = requests.waiters_of(&run);
    Applied { run, replies: indexes.map(reply).collect(), waiters }.resolve();
}

fn told(indexes: RangeInclusive<u64>) -> Outcomes {
    let proposed = |index| Proposed { id: LogId::new(index, 2), reply: reply(index) };
    indexes.map(|index| Some(Ok(proposed(index)))).collect()
}

#[test]
fn a_batch_is_told_of_each_however_the_runs_cut_it() {
    for runs in [vec![4..=8], vec![1..=9], vec![2..=4, 5..=5, 6..=9], vec![3..=7, 8..=8]] {
        let (mut requests, mut outcomes) = five();
        for run in runs {
            assert!(outcomes.try_recv().is_err(), "told before the end");
            apply(&mut requests, run, 2);
        }
        assert_eq!(outcomes.try_recv().unwrap(), told(4..=8));
    }
}

#[test]
fn of_what_was_replaced_nothing_is_known() {
    let (mut requests, mut outcomes) = five();
    apply(&mut requests, 4..=5, 2);
    apply(&mut requests, 6..=9, 3);
    let mut expected = told(4..=5);
    expected.extend(vec![Some(Err(ProposeError::LeadershipLost)); 3]);
    assert_eq!(outcomes.try_recv().unwrap(), expected);
}

#[test]
fn what_was_applied_before_leadership_went_is_told() {
    let (mut requests, mut outcomes) = five();
    apply(&mut requests, 3..=6, 2);
    requests.leadership_lost();
    let mut expected = told(4..=6);
    expected.extend(vec![Some(Err(ProposeError::LeadershipLost)); 2]);
    assert_eq!(outcomes.try_recv().unwrap(), expected);
}
