//! What the lock and the election service have in common: a line of keys below a name, each hanging
//! on a lease of whoever waits. The oldest key is first, and each waits for the one before it. The
//! keys are those that clients make which do the same by themselves, so that both exclude each
//! other.

use super::convert;
use super::core::Core;
use super::error::Known;
use super::memory::Held;
use crate::api::{
    Compare, Consistency, EventKind, Filter, KeyValue, Keys, LeaseId, Op, OpReply, Operator, Order,
    OrderBy, Put, Range, Revision, Target, Txn, Watch,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How long a lease lives that is made for a client without one.
const LEASE: Duration = Duration::from_secs(60);

/// The lease of whoever waits has ended.
const EXPIRED: Known = Known(Code::Unknown, "mutex: session is expired");

/// A place in a line. If it is dropped before it is [kept](Self::keep), the key is deleted: nobody
/// waits any more.
pub(super) struct Place {
    core: Arc<Core>,
    /// The key, until the place is kept.
    key: Option<Bytes>,
    pub(super) lease: LeaseId,
    /// The revision at which the key was made.
    pub(super) created: Revision,
    /// The revision of the store when it was asked for.
    pub(super) entered: Revision,
    /// The revision of the store when it was taken, or became the first.
    pub(super) revision: Revision,
    /// For the answer: whoever is refused for want of room has no place.
    answer: Held,
}

impl Place {
    /// The last place in the line of `name`, or the one that the lease has there already.
    pub(super) async fn take(
        core: &Arc<Core>,
        name: &Bytes,
        lease: i64,
        value: Bytes,
    ) -> Result<Self, Status> {
        // To come into the line takes no longer than any request; to stand in it has no limit.
        let until = core.until();
        // The longest answer has the name twice; what else is in it is small.
        let answer = core.hold_answer(until, 2 * name.len()).await?;
        let lease = core.lease_or_new(lease, until).await?;
        let key = below(name, &format!("{:x}", lease.0));
        let put = Put::new(key.clone(), value.clone()).with_lease(lease);
        let txn = Txn {
            compares: vec![created_at(&key, Revision(0))],
            success: vec![Op::Put(put.clone())],
            failure: vec![Op::Range(Range::of(Keys::One(key.clone())))],
        };
        let reply = core.client_until(until).txn(txn).await;
        let reply = reply.map_err(|error| core.fail(&error))?;
        let mut place = Self {
            core: Arc::clone(core),
            key: Some(key.clone()),
            lease,
            created: reply.revision,
            entered: reply.revision,
            revision: reply.revision,
            answer,
        };
        if let Some(OpReply::Range(found)) = reply.replies.into_iter().next()
            && let Some(own) = found.kvs.into_iter().next()
        {
            place.created = own.create_revision;
            if own.value != value {
                let op = Op::Put(put);
                let set = core.only_if_created(key, own.create_revision, op, until).await?;
                place.revision = set.ok_or(EXPIRED)?;
            }
        }
        Ok(place)
    }

    /// Waits until everybody who came before has left, however long that takes. Each look has the
    /// time of a request.
    pub(super) async fn until_first(&mut self, name: &Bytes) -> Result<(), Status> {
        let Some(own) = self.key.clone() else { return Ok(()) };
        loop {
            let filter = Filter { max_create_revision: Some(self.created), ..Filter::NONE };
            let order = Some(Order { by: OrderBy::CreateRevision, descending: true });
            let range = Range { filter, order, limit: 2, keys_only: true, ..Range::of(line(name)) };
            let found = self.core.client.get(range, Consistency::Linearizable).await;
            let found = found.map_err(|error| self.core.fail(&error))?;
            let mut pairs = found.kvs.into_iter();
            if pairs.next().is_none_or(|first| first.key != own) {
                return Err(EXPIRED.into());
            }
            self.revision = found.revision;
            let Some(before) = pairs.next() else { return Ok(()) };
            // Told or not, the next look says who is before this one.
            tokio::select! {
                gone = self.core.until_deleted(before.key, found.revision) => gone?,
                gone = self.core.until_deleted(own.clone(), found.revision) => gone?,
            }
        }
    }

    /// It is kept as long as its lease lives, or until somebody deletes the key. Returns the key,
    /// and what is held for an answer with it.
    pub(super) fn keep(mut self) -> (Bytes, Held) {
        let answer = std::mem::replace(&mut self.answer, self.core.memory.hold());
        (self.key.take().unwrap_or_default(), answer)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let core = Arc::clone(&self.core);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // If it fails, the key goes with its lease.
            runtime.spawn(async move { core.client.delete(Keys::One(key)).await });
        }
    }
}

impl Core {
    /// The lease that a client names, or a new one that it does not know of.
    async fn lease_or_new(&self, lease: i64, until: Instant) -> Result<LeaseId, Status> {
        if lease != 0 {
            return convert::lease_id(lease);
        }
        let granted = self.client_until(until).grant_lease(None, LEASE).await;
        Ok(granted.map_err(|error| self.fail(&error))?.id)
    }

    /// Does `op` only if the key is still the one that was made at `created`: the revision then.
    pub(super) async fn only_if_created(
        &self,
        key: Bytes,
        created: Revision,
        op: Op,
        until: Instant,
    ) -> Result<Option<Revision>, Status> {
        let compares = vec![created_at(&key, created)];
        let txn = Txn { compares, success: vec![op], failure: vec![] };
        let done = self.client_until(until).txn(txn).await;
        let reply = done.map_err(|error| self.fail(&error))?;
        Ok(reply.succeeded.then_some(reply.revision))
    }

    /// Who is first in the line, and the revision of the store.
    pub(super) async fn first(&self, name: &Bytes) -> Result<(Option<KeyValue>, Revision), Status> {
        let order = Some(Order { by: OrderBy::CreateRevision, descending: false });
        let range = Range { order, limit: 1, ..Range::of(line(name)) };
        let found = self.client.get(range, Consistency::Linearizable).await;
        let found = found.map_err(|error| self.fail(&error))?;
        Ok((found.kvs.into_iter().next(), found.revision))
    }

    /// Waits until a key is deleted after `seen`, or it is not known any more whether it was.
    async fn until_deleted(&self, key: Bytes, seen: Revision) -> Result<(), Status> {
        let from = Some(Revision(seen.0 + 1));
        let watch = Watch { from, no_puts: true, ..Watch::of(Keys::One(key)) };
        let mut watcher = self.watching.watch(watch);
        while let Some(told) = watcher.next().await {
            match told {
                Ok(batch) => {
                    let deleted = |kind: &EventKind| matches!(kind, EventKind::Delete { .. });
                    if batch.events.iter().any(|event| deleted(&event.kind)) {
                        return Ok(());
                    }
                }
                Err(crate::client::ClientError::Refused(crate::api::KvError::Compacted {
                    ..
                })) => return Ok(()),
                Err(error) => return Err(self.fail(&error)),
            }
        }
        Ok(())
    }
}

/// The keys of everybody in the line.
pub(super) fn line(name: &Bytes) -> Keys {
    Keys::prefix(below(name, ""))
}

fn below(name: &Bytes, last: &str) -> Bytes {
    [name, &b"/"[..], last.as_bytes()].concat().into()
}

fn created_at(key: &Bytes, revision: Revision) -> Compare {
    Compare {
        keys: Keys::One(key.clone()),
        operator: Operator::Equal,
        target: Target::CreateRevision(revision),
    }
}
