//! How far the own node has come. Whoever writes through this door finds it in whatever this node
//! says from then on, as with etcd: in local reads, in the past that a watch begins with, in the
//! revision of every answer. Where another node leads, that node has applied it first.

use crate::api::Revision;
use crate::store::{History, Observer};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// See the module.
#[derive(Clone)]
pub(super) struct Applied {
    history: Arc<History>,
    news: Arc<News>,
}

#[derive(Default)]
struct News(Notify);

impl Observer for News {
    fn changed(&self) {
        self.0.notify_waiters();
    }

    fn seen(&self) -> u64 {
        // Nothing is kept for whoever only waits.
        u64::MAX
    }
}

impl Applied {
    pub(super) fn of(history: Arc<History>) -> Self {
        let news = Arc::new(News::default());
        let observer: Weak<News> = Arc::downgrade(&news);
        history.observe(observer);
        Self { history, news }
    }

    /// Waits until this node has applied what was done at `revision`, but not for ever: it is done,
    /// whether this node learns of it or not.
    pub(super) async fn reach(&self, revision: Revision, patience: Duration) {
        let reached = async {
            loop {
                let news = self.news.0.notified();
                if self.history.extent().0 >= revision.0 {
                    return;
                }
                news.await;
            }
        };
        let _ = timeout(patience, reached).await;
    }
}
