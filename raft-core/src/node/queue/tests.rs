use super::{Entrance, Queue, Refused, Room, queue};
use crate::node::event::Event;
use crate::types::NodeId;
use bytes::Bytes;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::oneshot;

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn small() -> (Entrance, Queue) {
    queue(Room { events: 3, requests: 4 })
}

fn propose() -> Event {
    Event::Propose { command: Bytes::new(), reply: oneshot::channel().0 }
}

/// As many proposals as are admitted.
fn propose_many(admitted: usize) -> Event {
    Event::ProposeMany { commands: vec![Bytes::new(); admitted], done: oneshot::channel().0 }
}

/// Once.
fn polled<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn hints(queue: &mut Queue) -> Vec<u64> {
    let hint = |event| match event {
        Event::Refused(NodeId(id)) => id,
        _ => 0,
    };
    std::iter::from_fn(|| queue.next()).map(hint).collect()
}

#[test]
fn events_come_in_the_order_they_went_in_however_they_are_taken() {
    let (entrance, mut queue) = small();
    for id in 1..=3 {
        entrance.tell(Event::Refused(NodeId(id))).unwrap();
    }
    assert!(matches!(queue.next(), Some(Event::Refused(NodeId(1)))));
    for id in 4..=5 {
        entrance.tell(Event::Refused(NodeId(id))).unwrap();
    }
    assert_eq!(queue.len(), 4);
    assert_eq!(hints(&mut queue), [2, 3, 4, 5]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let (entrance, mut queue) = small();
    for id in 1..=3 {
        entrance.tell(Event::Refused(NodeId(id))).unwrap();
    }
    assert_eq!(entrance.tell(Event::Shutdown), Err(Refused::Full));
    assert_eq!(entrance.ask(propose()), Err(Refused::Full));
    assert_eq!(hints(&mut queue), [1, 2, 3]);
    entrance.ask(propose()).unwrap();
}

#[test]
fn a_request_is_open_until_its_permit_is_dropped() {
    let (entrance, mut queue) = small();
    assert_eq!(entrance.ask_many(3, propose_many), Ok(3));
    assert_eq!(entrance.ask_many(3, propose_many), Ok(1), "there was room for one");
    assert_eq!(entrance.ask(propose()), Err(Refused::Full));
    assert_eq!(entrance.ask_many(2, propose_many), Err(Refused::Full));
    assert!(queue.next().is_some() && queue.next().is_some() && queue.next().is_none());
    let (three, one) = (queue.permit(3), queue.permit(1));
    assert_eq!(entrance.ask(propose()), Err(Refused::Full), "taken, but not answered");
    drop(one);
    entrance.ask(propose()).unwrap();
    assert_eq!(entrance.ask(propose()), Err(Refused::Full));
    drop(three);
    assert_eq!(entrance.ask_many(9, propose_many), Ok(3));
    entrance.tell(Event::Checkpoint).unwrap();
}

#[test]
fn who_sleeps_is_woken_once() {
    let (entrance, mut queue) = small();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pin!(queue.ready()).poll(&mut Context::from_waker(&waker)).is_pending());
    entrance.tell(Event::Checkpoint).unwrap();
    entrance.tell(Event::Checkpoint).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "the second finds nobody asleep");
    assert!(pin!(queue.ready()).poll(&mut Context::from_waker(&waker)).is_ready());
    assert!(queue.next().is_some());
    entrance.tell(Event::Checkpoint).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "nobody sleeps who has not looked at all");
}

#[tokio::test]
async fn who_always_finds_something_lets_others_run() {
    let (entrance, mut queue) = small();
    let other = tokio::spawn(async {});
    for _ in 0..10_000 {
        entrance.tell(Event::Checkpoint).unwrap();
        queue.ready().await;
        queue.next().unwrap();
    }
    assert!(other.is_finished());
}

#[tokio::test]
async fn who_has_to_be_heard_waits_for_room() {
    let (entrance, mut queue) = small();
    for id in 1..=3 {
        entrance.tell(Event::Refused(NodeId(id))).unwrap();
    }
    let mut sent = pin!(entrance.send(Event::Refused(NodeId(4))));
    let mut other = pin!(entrance.send(Event::Refused(NodeId(5))));
    assert!(polled(sent.as_mut()).is_pending());
    assert!(polled(other.as_mut()).is_pending());
    assert_eq!(hints(&mut queue), [1, 2, 3]);
    sent.await.unwrap();
    other.await.unwrap();
    assert_eq!(hints(&mut queue), [4, 5]);
}

#[tokio::test]
async fn whoever_waits_hears_of_the_end() {
    let (entrance, queue) = small();
    let (reply, answer) = oneshot::channel();
    entrance.ask(Event::Propose { command: Bytes::new(), reply }).unwrap();
    entrance.tell(Event::Checkpoint).unwrap();
    entrance.tell(Event::Checkpoint).unwrap();
    let mut sent = pin!(entrance.send(Event::Shutdown));
    assert!(polled(sent.as_mut()).is_pending());
    drop(queue);
    assert_eq!(sent.await, Err(Refused::Stopped));
    assert_eq!(entrance.tell(Event::Shutdown), Err(Refused::Stopped));
    assert!(answer.await.is_err(), "its event is gone");
}
