//! Wakes from other threads, handed over together.
//!
//! The node answers many requests in one turn, on a thread of its own. Were each request woken by
//! itself, each would cost a system call, and would write its answer by itself: a connection, woken
//! after the first of them, would not wait for the others. So what is to be woken is put on a list,
//! and one task of the runtime wakes all that is on it. The connections come after the requests
//! then, and write all answers at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Less than any request may take.
const PULSE: Duration = Duration::from_millis(100);

/// What is to be woken on one runtime.
#[derive(Default)]
pub(super) struct Wakes {
    due: Mutex<Vec<Waker>>,
    any: Notify,
}

impl Wakes {
    /// Wakes what is put on the list, for ever.
    ///
    /// While there is something, a timer is always due soon. A runtime makes a system call for each
    /// timer that is due before all others, and without this one the deadline of every request
    /// would be such a one.
    pub(super) async fn run(self: Arc<Self>) {
        let mut due = Vec::new();
        loop {
            self.any.notified().await;
            let wake = async {
                loop {
                    std::mem::swap(&mut due, &mut *self.list());
                    due.drain(..).for_each(Waker::wake);
                    self.any.notified().await;
                }
            };
            let _: Result<(), _> = timeout(PULSE, wake).await;
        }
    }

    fn put(&self, waker: Waker) {
        self.list().push(waker);
        // Of many, one reaches the runtime: until it has looked, it is told already.
        self.any.notify_one();
    }

    fn list(&self) -> MutexGuard<'_, Vec<Waker>> {
        // Nothing of the list is ever half done.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that is woken by way of a list.
struct Listed {
    wakes: Arc<Wakes>,
    /// Taken by the first who wakes it; there again once it is looked at.
    task: Mutex<Option<Waker>>,
}

impl Listed {
    fn is_to_be_woken(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *task {
            Some(known) => known.clone_from(waker),
            None => *task = Some(waker.clone()),
        }
    }
}

impl Wake for Listed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            self.wakes.put(task);
        }
    }
}

/// Does `work`, woken by way of `wakes`.
pub(super) async fn together<F: Future>(wakes: Arc<Wakes>, work: F) -> F::Output {
    let listed = Arc::new(Listed { wakes, task: Mutex::default() });
    let waker = Waker::from(Arc::clone(&listed));
    let mut work = pin!(work);
    poll_fn(|context| {
        listed.is_to_be_woken(context.waker());
        work.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use tokio::task::{JoinSet, yield_now};

    #[tokio::test]
    async fn what_others_wake_is_woken_together() {
        let wakes = Arc::new(Wakes::default());
        let (mut tasks, mut answers) = (JoinSet::new(), Vec::new());
        for number in 0..10 {
            let (answer, answered) = oneshot::channel();
            tasks.spawn(together(Arc::clone(&wakes), answered));
            answers.push((number, answer));
        }
        yield_now().await;
        let others = std::thread::spawn(move || {
            for (number, answer) in answers {
                answer.send(number).unwrap();
            }
        });
        others.join().unwrap();
        yield_now().await;
        assert!(tasks.try_join_next().is_none(), "woken by itself");
        assert_eq!(wakes.list().len(), 10);
        let waking = tokio::spawn(Arc::clone(&wakes).run());
        let mut all: Vec<i32> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..10));
        waking.abort();
    }

    #[tokio::test]
    async fn a_task_that_is_gone_is_no_trouble() {
        let wakes = Arc::new(Wakes::default());
        let waking = tokio::spawn(Arc::clone(&wakes).run());
        let (answer, answered) = oneshot::channel::<()>();
        let task = tokio::spawn(together(Arc::clone(&wakes), answered));
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(answer.send(()), Err(()));
        assert_eq!(together(wakes, async { 7 }).await, 7);
        waking.abort();
    }
}
