//! How far the own node has come. Whoever writes through this door finds it in whatever this node
//! says from then on, as with etcd: in local reads, in the past that a watch begins with, in the
//! revision of every answer. Where another node leads, that node has applied it first.

use crate::api::Revision;
use crate::store::{History, Observer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::{Instant, timeout_at};

/// See the module.
#[derive(Clone)]
pub(super) struct Applied(Arc<News>);

struct News {
    history: Arc<History>,
    waiting: Mutex<Waiting>,
}

/// Those who wait, by the revision that they wait for: a run wakes those whom it is about.
#[derive(Default)]
struct Waiting {
    tells: BTreeMap<(u64, u64), Sender<()>>,
    /// How many there ever were.
    number: u64,
}

impl Observer for News {
    fn changed(&self) {
        let reached = self.history.extent().0;
        let mut waiting = self.lock();
        let rest = waiting.tells.split_off(&(reached.saturating_add(1), 0));
        for tell in std::mem::replace(&mut waiting.tells, rest).into_values() {
            // Nobody waits if that took too long.
            let _ = tell.send(());
        }
    }

    fn seen(&self) -> u64 {
        // Nothing is kept for whoever only waits.
        u64::MAX
    }
}

impl News {
    fn has(&self, revision: u64) -> bool {
        self.history.extent().0 >= revision
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every statement leaves it consistent.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait.
struct Place<'a> {
    news: &'a News,
    key: (u64, u64),
    told: Receiver<()>,
}

impl<'a> Place<'a> {
    fn take(news: &'a News, revision: u64) -> Self {
        let (tell, told) = oneshot::channel();
        let mut waiting = news.lock();
        waiting.number += 1;
        let key = (revision, waiting.number);
        waiting.tells.insert(key, tell);
        Self { news, key, told }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.news.lock().tells.remove(&self.key);
    }
}

impl Applied {
    pub(super) fn of(history: Arc<History>) -> Self {
        let news = Arc::new(News { history, waiting: Mutex::default() });
        let observer: Weak<dyn Observer> = Arc::downgrade(&(Arc::clone(&news) as Arc<_>));
        news.history.observe(observer);
        Self(news)
    }

    /// Whether this node has applied what was done at `revision`.
    pub(super) fn has(&self, revision: Revision) -> bool {
        self.0.has(revision.0)
    }

    /// Waits until it has, but not for ever: it is done, whether this node learns of it or not.
    pub(super) async fn reach(&self, revision: Revision, until: Instant) {
        if self.has(revision) {
            return;
        }
        let mut place = Place::take(&self.0, revision.0);
        // What was applied in between has woken nobody.
        if !self.0.has(revision.0) {
            let _ = timeout_at(until, &mut place.told).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Action, Command, Op, Put};
    use crate::codec;
    use crate::store::KvStore;
    use raft_core::state_machine::StateMachine;
    use raft_core::types::{Entry, LogId, Payload, Run};

    fn late() -> Instant {
        Instant::now() + std::time::Duration::from_secs(3600)
    }

    fn put(store: &mut KvStore, index: u64) {
        let action = Action::Op(Op::Put(Put::new("a", "1")));
        let command = codec::encode(&Command { request: None, fence: None, action });
        let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
        store.apply(&Run::new(vec![entry]).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn each_waits_for_its_own_revision() {
        let mut store = KvStore::in_memory();
        let applied = Applied::of(store.handle().history());
        let from = store.handle().gauges().revision.0;
        let waits = |by: u64| {
            let applied = applied.clone();
            tokio::spawn(async move { applied.reach(Revision(from + by), late()).await })
        };
        let (first, second) = (waits(1), waits(2));
        tokio::task::yield_now().await;
        assert_eq!(applied.0.lock().tells.len(), 2);
        put(&mut store, 1);
        first.await.unwrap();
        assert!(!second.is_finished());
        put(&mut store, 2);
        second.await.unwrap();
        applied.reach(Revision(from + 2), late()).await;
        applied.reach(Revision(from + 3), late()).await;
        assert_eq!(applied.0.lock().tells.len(), 0, "whoever gives up is forgotten");
    }
}
