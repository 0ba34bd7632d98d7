//! Mutual exclusion.

use super::RecipeError;
use super::place::Place;
use crate::Client;
use crate::api::Fence;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A lock that is held. One holds it at a time, in the order of asking.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::recipes::{Lock, RecipeError};
/// use std::time::Duration;
///
/// async fn example(client: &Client) -> Result<(), RecipeError> {
///     let lock = Lock::acquire(client, "locks/report", Duration::from_secs(10)).await?;
///     // Refused by the store should the lock have been lost in the meantime.
///     let guarded = client.fenced(lock.fence());
///     guarded.put("report", "done").await?;
///     lock.release().await
/// }
/// ```
///
/// While this lives the lock is kept, as long as the cluster can be reached; dropping it lets the
/// lock go in the background.
pub struct Lock(Place);

impl Lock {
    /// Waits for the lock. Dropping the future, for example after a while, gives up the place in
    /// the line. Should this process end, the others wait for `ttl` at most.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if the lease was lost while waiting; [`RecipeError::Client`].
    pub async fn acquire(
        client: &Client,
        name: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Self, RecipeError> {
        let place = Place::last(client, name.into(), Bytes::new(), ttl).await?;
        place.until_first().await?;
        Ok(Self(place))
    }

    /// The lock if nobody holds it or waits for it.
    ///
    /// # Errors
    /// [`RecipeError::Client`].
    pub async fn try_acquire(
        client: &Client,
        name: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Option<Self>, RecipeError> {
        Ok(Place::first(client, name.into(), Bytes::new(), ttl).await?.map(Self))
    }

    /// The proof of holding it, for [`Client::fenced`]. Each later holder's token is greater.
    pub fn fence(&self) -> Fence {
        self.0.holding().fence().clone()
    }

    /// Whether it cannot be relied on any more.
    pub fn is_lost(&self) -> bool {
        self.0.holding().is_lost()
    }

    /// Ends when it cannot be relied on any more: its lease may be gone, as
    /// [`Lease::lost`](crate::client::Lease::lost) tells, or somebody has deleted its key.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        self.0.holding().lost()
    }

    /// Lets it go, and returns when the next one can have it.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it was lost before: what was done last may have been done while
    /// another one held it. [`RecipeError::Client`]: it is let go later.
    pub async fn release(self) -> Result<(), RecipeError> {
        self.0.leave().await
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({:?})", self.0.holding().fence())
    }
}
