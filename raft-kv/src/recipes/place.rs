//! A place in a line: what locks and elections have in common.
//!
//! Everybody in the line has a key below its name that ends with a lease of their own. The oldest
//! key is first. Each waits for the one before it only, so that nobody is woken in vain.

use super::holding::Holding;
use super::mirror::until_told;
use super::{RecipeError, below, created_at};
use crate::Client;
use crate::api::{
    Compare, Consistency, EventKind, Fence, Filter, KeyValue, Keys, Op, Operator, Order, OrderBy,
    Put, Range, Revision, Target, Txn, Watch,
};
use crate::client::ClientError;
use bytes::Bytes;
use std::time::Duration;

/// A place in the line. Dropping it leaves the line.
pub(super) struct Place {
    client: Client,
    name: Bytes,
    holding: Holding,
}

impl Place {
    /// The last place in the line of `name`.
    pub(super) async fn last(
        client: &Client,
        name: Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<Self, RecipeError> {
        let taken =
            Self::take(client, name, value, ttl, |key| created_at(key, Revision(0))).await?;
        taken.ok_or(RecipeError::Lost)
    }

    /// The first place, if the line is empty.
    pub(super) async fn first(
        client: &Client,
        name: Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<Option<Self>, RecipeError> {
        let empty = Compare {
            keys: line(&name),
            operator: Operator::Equal,
            target: Target::CreateRevision(Revision(0)),
        };
        // A lease for nothing would cost more than a look.
        if first_of(client, &name).await?.is_some() {
            return Ok(None);
        }
        Self::take(client, name, value, ttl, |_| empty).await
    }

    async fn take(
        client: &Client,
        name: Bytes,
        value: Bytes,
        ttl: Duration,
        condition: impl FnOnce(&Bytes) -> Compare,
    ) -> Result<Option<Self>, RecipeError> {
        let lease = client.lease(ttl).await?;
        let key = below(&name, format!("{:x}", lease.id().0).as_bytes());
        let put = Op::Put(Put::new(key.clone(), value).with_lease(lease.id()));
        let txn = Txn { compares: vec![condition(&key)], success: vec![put], ..Txn::default() };
        let reply = client.txn(txn).await?;
        if !reply.succeeded {
            return Ok(None);
        }
        let holding = Holding::new(client, lease, Fence { key, token: reply.revision });
        Ok(Some(Self { client: client.clone(), name, holding }))
    }

    /// Waits until everybody who came before has left.
    pub(super) async fn until_first(&self) -> Result<(), RecipeError> {
        tokio::select! {
            biased;
            () = self.holding.lost() => Err(RecipeError::Lost),
            first = self.wait() => first,
        }
    }

    async fn wait(&self) -> Result<(), RecipeError> {
        let Fence { key, token } = self.holding.fence();
        loop {
            let filter = Filter { max_create_revision: Some(*token), ..Filter::NONE };
            let order = Some(Order { by: OrderBy::CreateRevision, descending: true });
            let range =
                Range { filter, order, limit: 2, keys_only: true, ..Range::of(line(&self.name)) };
            let found = self.client.get(range, Consistency::Linearizable).await?;
            let mut found_pairs = found.kvs.into_iter();
            if found_pairs.next().is_none_or(|own| own.key != key) {
                return Err(RecipeError::Lost);
            }
            let Some(before) = found_pairs.next() else { return Ok(()) };
            let from = Some(Revision(found.revision.0 + 1));
            let watch = Watch { from, no_puts: true, ..Watch::of(Keys::One(before.key)) };
            // Told or not, the next look says who is before this one.
            until_told(&self.client, watch, |event| matches!(event.kind, EventKind::Delete { .. }))
                .await?;
        }
    }

    /// Changes the value of the key.
    pub(super) async fn set(&self, value: Bytes) -> Result<Revision, RecipeError> {
        let Fence { key, token } = self.holding.fence();
        let put = Put::new(key.clone(), value).with_lease(self.holding.lease().id());
        let (compares, success) = (vec![created_at(key, *token)], vec![Op::Put(put)]);
        let reply = self.client.txn(Txn { compares, success, failure: vec![] }).await?;
        reply.succeeded.then_some(reply.revision).ok_or(RecipeError::Lost)
    }

    /// Leaves the line, and waits until the others see that.
    pub(super) async fn leave(self) -> Result<(), RecipeError> {
        self.holding.leave().await
    }

    pub(super) const fn holding(&self) -> &Holding {
        &self.holding
    }
}

/// The keys of everybody in the line.
pub(super) fn line(name: &Bytes) -> Keys {
    Keys::prefix(below(name, b""))
}

/// Who is first in the line.
pub(super) async fn first_of(
    client: &Client,
    name: &Bytes,
) -> Result<Option<KeyValue>, ClientError> {
    let order = Some(Order { by: OrderBy::CreateRevision, descending: false });
    let range = Range { order, limit: 1, ..Range::of(line(name)) };
    Ok(client.get(range, Consistency::Linearizable).await?.kvs.into_iter().next())
}
