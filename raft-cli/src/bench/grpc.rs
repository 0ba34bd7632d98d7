//! A client of etcd's API: one connection of HTTP/2 to one node, of whatever makes it. If it
//! breaks, the next request makes it anew; each request has only so long.
//!
//! It has no more layers than it takes, so that measuring leaves the machine to what is measured:
//! a request is one stream of HTTP/2, and no task.

mod link;
mod messages;
mod tls;

use crate::args::connection::{DEADLINE_DEFAULT, Target};
use crate::failure::{Failure, Kind};
use link::Link;
pub(super) use messages::Answers;
use prost::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::timeout;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Put,
    Range,
    Txn,
    Watch,
    Authenticate,
}

impl Method {
    const ALL: [Self; 5] = [Self::Put, Self::Range, Self::Txn, Self::Watch, Self::Authenticate];

    const fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::Authenticate => "/etcdserverpb.Auth/Authenticate",
        }
    }
}

/// See the module.
pub struct Connection {
    endpoint: String,
    target: Target,
    live: Mutex<Arc<Link>>,
    /// Whoever makes the connection anew does so alone.
    turn: tokio::sync::Mutex<()>,
}

impl Connection {
    /// Connects to `endpoint`, and logs in if `target` names a user; encrypted if it names an
    /// authority.
    ///
    /// # Errors
    /// Of kind `Unavailable` if nobody answers, `Refused` if the password is wrong, `Local` if a
    /// certificate cannot be used.
    pub async fn open(endpoint: &str, target: &Target) -> Result<Self, Failure> {
        let live = Mutex::new(Arc::new(Link::open(endpoint, target).await?));
        let (endpoint, target, turn) = (endpoint.into(), target.clone(), Default::default());
        Ok(Self { endpoint, target, live, turn })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// Of kind `Unavailable` if it cannot be sent or the server cannot do it now, `Unknown` if it
    /// may have been done, `Refused` if it will not be. As of [`open`](Self::open) if the
    /// connection is broken and cannot be made anew.
    pub(super) async fn call<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<A, Failure> {
        in_time(async { self.link().await?.call(method, request).await }).await
    }

    /// A stream of answers to one request, which ends when they are dropped.
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    pub(super) async fn stream<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<Answers<A>, Failure> {
        in_time(async { self.link().await?.stream(method, request).await }).await
    }

    fn live(&self) -> MutexGuard<'_, Arc<Link>> {
        // It is only ever replaced as a whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unbroken(&self) -> Option<Arc<Link>> {
        Some(Arc::clone(&self.live())).filter(|link| !link.is_broken())
    }

    /// The connection; made anew if it has broken.
    async fn link(&self) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.unbroken() {
            return Ok(link);
        }
        let _turn = self.turn.lock().await;
        if let Some(link) = self.unbroken() {
            return Ok(link);
        }
        let link = Arc::new(Link::open(&self.endpoint, &self.target).await?);
        *self.live() = Arc::clone(&link);
        Ok(link)
    }
}

/// What a request comes to, or that nothing was heard of it in time.
async fn in_time<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(DEADLINE_DEFAULT, request).await.unwrap_or_else(|_| {
        let waited = DEADLINE_DEFAULT.as_secs();
        Err(Failure::new(Kind::Unknown, format!("no answer within {waited} s")))
    })
}

#[cfg(test)]
mod tests;
