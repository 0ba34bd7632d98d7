//! Waiting on any runtime: a deadline, two futures at once, and a mailbox.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// What comes of `future`, unless that takes longer than `patience`.
pub(super) async fn within<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let until = Instant::now() + patience;
    let mut alarm = None;
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        if Instant::now() >= until {
            return Poll::Ready(None);
        }
        alarm.get_or_insert_with(|| Alarm::at(until)).set(context);
        Poll::Pending
    })
    .await
}

/// Passes some time.
pub(super) async fn pause(length: Duration) {
    within(length, std::future::pending::<()>()).await;
}

/// Wakes a task at some time. It has a thread of its own, since it knows no runtime.
struct Alarm {
    /// `None` once it is no longer wanted.
    waker: Arc<Mutex<Option<Waker>>>,
    thread: Thread,
}

impl Alarm {
    fn at(until: Instant) -> Self {
        let waker = Arc::new(Mutex::new(Some(Waker::noop().clone())));
        let shared = Arc::clone(&waker);
        let ring = move || {
            loop {
                let left = until.saturating_duration_since(Instant::now());
                let mut waker = lock(&shared);
                match &*waker {
                    None => return,
                    Some(_) if !left.is_zero() => {
                        drop(waker);
                        thread::park_timeout(left);
                    }
                    Some(_) => return waker.take().into_iter().for_each(Waker::wake),
                }
            }
        };
        Self { waker, thread: thread::spawn(ring).thread().clone() }
    }

    fn set(&self, context: &Context<'_>) {
        let mut waker = lock(&self.waker);
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            // It has rung already.
            None => context.waker().wake_by_ref(),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        *lock(&self.waker) = None;
        self.thread.unpark();
    }
}

/// Both at once.
pub(super) async fn both<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|context| {
        if a.is_none()
            && let Poll::Ready(value) = first.as_mut().poll(context)
        {
            a = Some(value);
        }
        if b.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            b = Some(value);
        }
        match (a.take(), b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (first, second) => {
                (a, b) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// All at once; the results are in order.
pub(super) async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = Pin::new(future).poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Takes from any thread, gives to one task.
pub(super) struct Mailbox<T>(Mutex<(VecDeque<T>, Option<Waker>)>);

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(Mutex::new((VecDeque::new(), None)))
    }
}

impl<T> Mailbox<T> {
    pub(super) fn push(&self, item: T) {
        let mut state = lock(&self.0);
        state.0.push_back(item);
        let waiting = state.1.take();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn next(&self) -> T {
        poll_fn(|context| {
            let mut state = lock(&self.0);
            match state.0.pop_front() {
                Some(item) => Poll::Ready(item),
                None => {
                    state.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(super) fn try_next(&self) -> Option<T> {
        lock(&self.0).0.pop_front()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
