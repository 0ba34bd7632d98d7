//! What everything that is held consists of: a key of one's own that hangs on a lease of one's own.
//!
//! It is lost with the lease, and with the key, which somebody may delete while the lease lives. A
//! task watches the key for as long as it is held; it never writes.

use super::RecipeError;
use super::mirror::until_told;
use crate::Client;
use crate::api::{Consistency, EventKind, Fence, Keys, KvError, Range, Revision, Watch};
use crate::client::{ClientError, Lease};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// How long to wait before the key is looked at again, if nobody could tell.
const RETRY: Duration = Duration::from_secs(1);

/// Something that is held. Dropping it lets it go in the background.
pub(super) struct Holding {
    lease: Lease,
    fence: Fence,
    /// Whether the key was deleted.
    deleted: Receiver<bool>,
    watching: Watching,
}

impl Holding {
    /// Of the key that was put at the token of `fence` and hangs on `lease`.
    pub(super) fn new(client: &Client, lease: Lease, fence: Fence) -> Self {
        let (sender, deleted) = channel(false);
        let task = tokio::spawn(tell_of_deletion(client.clone(), fence.clone(), sender));
        Self { lease, fence, deleted, watching: Watching(task.abort_handle()) }
    }

    pub(super) const fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether it cannot be relied on any more, as far as is known here.
    pub(super) fn is_lost(&self) -> bool {
        self.lease.is_lost() || *self.deleted.borrow()
    }

    /// Ends when it cannot be relied on any more.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        let (expired, mut deleted) = (self.lease.lost(), self.deleted.clone());
        Box::pin(async move {
            let deleted = async {
                // Let go of, it is lost with the lease.
                if deleted.wait_for(|deleted| *deleted).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = expired => {}
                () = deleted => {}
            }
        })
    }

    /// Lets it go, with all that hangs on the lease, at one revision.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it was lost before; [`RecipeError::Client`].
    pub(super) async fn leave(self) -> Result<(), RecipeError> {
        drop(self.watching);
        match self.lease.revoke_under(self.fence).await {
            Ok(_) => Ok(()),
            Err(ClientError::Refused(KvError::LeaseNotFound(_))) => Err(RecipeError::Lost),
            Err(error) => Err(RecipeError::of_fenced(error)),
        }
    }
}

/// A task that ends with what it is for.
struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until the key is not the one any more that was put at the token, and tells that.
async fn tell_of_deletion(client: Client, fence: Fence, deleted: Sender<bool>) {
    let keys = Keys::One(fence.key);
    let mut from = Revision(fence.token.0 + 1);
    loop {
        let watch = Watch { from: Some(from), no_puts: true, ..Watch::of(keys.clone()) };
        let told =
            until_told(&client, watch, |event| matches!(event.kind, EventKind::Delete { .. }));
        match told.await {
            // What a cluster that was made anew has is not what was held.
            Ok(true) | Err(ClientError::Refused(KvError::OtherHistory { .. })) => break,
            // Too late to be told, or somehow ended.
            Ok(false) | Err(_) => {}
        }
        let range = Range { keys_only: true, ..Range::of(keys.clone()) };
        match client.get(range, Consistency::Linearizable).await {
            Ok(found) => {
                let there = found.kvs.first().map(|pair| pair.create_revision);
                if there != Some(fence.token) {
                    break;
                }
                from = Revision(found.revision.0 + 1);
            }
            // If that lasts, the lease tells.
            Err(_) => sleep(RETRY).await,
        }
    }
    deleted.send_replace(true);
}
