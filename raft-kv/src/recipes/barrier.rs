//! Waiting for each other.

use super::mirror::{Mirror, until_told};
use super::{RecipeError, below};
use crate::Client;
use crate::api::{Consistency, Event, EventKind, KeyValue, Keys, Put, Range, Revision, Watch};
use crate::client::{ClientError, Lease};
use bytes::Bytes;
use std::time::Duration;

/// A barrier that holds everybody up until it is lifted.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::client::ClientError;
/// use raft_kv::recipes::Barrier;
///
/// async fn example(client: &Client) -> Result<(), ClientError> {
///     let barrier = Barrier::new(client, "barriers/migration");
///     barrier.raise().await?;
///     // ... migrate, while the others are waiting in `barrier.wait().await` ...
///     barrier.lift().await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Barrier {
    client: Client,
    key: Bytes,
}

impl Barrier {
    /// The barrier of this name, which is its key.
    pub fn new(client: &Client, name: impl Into<Bytes>) -> Self {
        Self { client: client.clone(), key: name.into() }
    }

    /// Lets nobody pass from now on; whether somebody else had not done so already. It stays until
    /// it is lifted, whoever has raised it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn raise(&self) -> Result<bool, ClientError> {
        Ok(self.client.create_if_absent(self.key.clone(), "").await?.swapped)
    }

    /// Lets everybody pass; whether it was raised.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lift(&self) -> Result<bool, ClientError> {
        Ok(self.client.delete(Keys::One(self.key.clone())).await?.deleted > 0)
    }

    /// Waits until the barrier is lifted, or returns at once if it is not raised.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn wait(&self) -> Result<(), ClientError> {
        let keys = Keys::One(self.key.clone());
        let range = Range { keys_only: true, ..Range::of(keys.clone()) };
        let mut raised: Option<Revision> = None;
        loop {
            let found = self.client.get(range.clone(), Consistency::Linearizable).await?;
            let Some(barrier) = found.kvs.first() else { return Ok(()) };
            // Another one than before: in between it was lifted.
            if raised.is_some_and(|raised| raised != barrier.create_revision) {
                return Ok(());
            }
            raised = Some(barrier.create_revision);
            let from = Some(Revision(found.revision.0 + 1));
            let watch = Watch { from, no_puts: true, ..Watch::of(keys.clone()) };
            let lifted = |event: &Event| matches!(event.kind, EventKind::Delete { .. });
            // If nobody can tell, after a compaction, the key does.
            if until_told(&self.client, watch, lifted).await? {
                return Ok(());
            }
        }
    }
}

/// A barrier at which a number of participants begin and end together, again and again.
///
/// Nobody passes [`enter`](Self::enter) before `count` participants are there, and nobody passes
/// [`leave`](Self::leave) before all who have begun together are done. A participant that fails
/// does not hold the others up for longer than its lease lives.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::recipes::{DoubleBarrier, RecipeError};
/// use std::time::Duration;
///
/// async fn example(client: &Client) -> Result<(), RecipeError> {
///     let ttl = Duration::from_secs(10);
///     let round = DoubleBarrier::enter(client, "barriers/round", 3, ttl).await?;
///     // ... three of us are at work ...
///     round.leave().await
/// }
/// ```
pub struct DoubleBarrier {
    client: Client,
    lease: Lease,
    key: Bytes,
    inside: Bytes,
    /// The round: those who came after the first revision, and not after the second.
    round: (Revision, Revision),
}

impl DoubleBarrier {
    /// Waits until `count` participants are there, this one included. If more come at the same
    /// time, they may begin too. Dropping the future withdraws.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if the lease was lost while waiting; [`RecipeError::Client`].
    pub async fn enter(
        client: &Client,
        name: impl Into<Bytes>,
        count: usize,
        ttl: Duration,
    ) -> Result<Self, RecipeError> {
        let name = name.into();
        let lease = client.lease(ttl).await?;
        let inside = below(&name, b"inside/");
        let key = Bytes::from([&inside[..], format!("{:x}", lease.id().0).as_bytes()].concat());
        // From before this one is there: of the rounds to come none is missed.
        let all = Mirror::open(client, Keys::prefix(below(&name, b""))).await?;
        let own = client.put_with(Put::new(key.clone(), "").with_lease(lease.id())).await?;
        let entering =
            Entering { client, ready: below(&name, b"ready"), inside: &inside, key: &key, count };
        let round = tokio::select! {
            biased;
            () = lease.lost() => return Err(RecipeError::Lost),
            round = entering.round(all, own.revision) => round?,
        };
        Ok(Self { client: client.clone(), lease, key, inside, round })
    }

    /// Waits until all who have begun with this one have left, or have failed.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if this one was taken for failed before; [`RecipeError::Client`].
    pub async fn leave(self) -> Result<(), RecipeError> {
        let mut there = Mirror::open(&self.client, Keys::prefix(self.inside.clone())).await?;
        let known = there.pairs().contains_key(&self.key);
        self.client.delete(Keys::One(self.key.clone())).await?;
        let (after, until) = self.round;
        let in_round = |pair: &KeyValue| {
            pair.create_revision > after && pair.create_revision <= until && pair.key != self.key
        };
        while there.pairs().values().any(in_round) {
            there.changed().await?;
        }
        // The lease has served its purpose; should this fail, it expires.
        let _ = self.lease.revoke().await;
        known.then_some(()).ok_or(RecipeError::Lost)
    }
}

/// A participant that waits for its round to begin.
///
/// The key `ready` is put when enough are there. Everybody sees every revision in turn, so whoever
/// comes last knows it; that two of them put it at once is prevented by its revision. Its value is
/// the revision at which the round before began.
struct Entering<'a> {
    client: &'a Client,
    ready: Bytes,
    inside: &'a Bytes,
    key: &'a Bytes,
    count: usize,
}

impl Entering<'_> {
    /// Waits for the first round to begin after the key was put at `own`.
    async fn round(
        &self,
        mut all: Mirror,
        own: Revision,
    ) -> Result<(Revision, Revision), RecipeError> {
        loop {
            let ready = all.pairs().get(&self.ready);
            let last = ready.map_or(Revision(0), |pair| pair.mod_revision);
            if let Some(pair) = ready.filter(|_| last >= own) {
                let before = <[u8; 8]>::try_from(&pair.value[..]).map_or(0, u64::from_be_bytes);
                return Ok((Revision(before), last));
            }
            if all.revision() >= own && !all.pairs().contains_key(self.key) {
                return Err(RecipeError::Lost);
            }
            let waits =
                |pair: &&KeyValue| pair.key.starts_with(self.inside) && pair.create_revision > last;
            if all.pairs().values().filter(waits).count() >= self.count {
                let value = last.0.to_be_bytes().to_vec();
                self.client.compare_and_swap(self.ready.clone(), last, value).await?;
            }
            all.changed().await?;
        }
    }
}
