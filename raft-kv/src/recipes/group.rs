//! Who is there: membership of a group, and what each member tells of itself. With addresses for
//! data it is service discovery.

use super::holding::Holding;
use super::mirror::Mirror;
use super::{RecipeError, below, created_at};
use crate::Client;
use crate::api::{Consistency, Fence, KeyValue, Keys, Op, Put, Range, Revision, Txn};
use crate::client::{ClientError, Lease};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// A group whose members come and go.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::recipes::{Group, RecipeError};
/// use std::time::Duration;
///
/// async fn serve(client: &Client) -> Result<(), RecipeError> {
///     let group = Group::new(client, "services/search");
///     let membership = group.join("host-a", "10.0.0.7:8080", Duration::from_secs(10)).await?;
///     // ... serve; while this lives, the others find it ...
///     membership.leave().await
/// }
///
/// async fn find(client: &Client) -> Result<(), RecipeError> {
///     let mut view = Group::new(client, "services/search").watch().await?;
///     loop {
///         for (id, member) in view.members() {
///             println!("{id:?} is at {:?}", member.data);
///         }
///         view.changed().await?;
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Group {
    client: Client,
    name: Bytes,
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it tells of itself.
    pub data: Bytes,
    /// When it came: one that has left and come back is another one.
    pub since: Revision,
}

impl Group {
    /// The group of this name.
    pub fn new(client: &Client, name: impl Into<Bytes>) -> Self {
        Self { client: client.clone(), name: name.into() }
    }

    /// Becomes the member `id`. Should this process end, it leaves after `ttl` at most.
    ///
    /// # Errors
    /// [`RecipeError::Taken`] while another one has this id: perhaps an earlier life of this one,
    /// for as long as its lease lives. [`RecipeError::Client`].
    pub async fn join(
        &self,
        id: impl AsRef<[u8]>,
        data: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Membership, RecipeError> {
        let lease = self.client.lease(ttl).await?;
        let key = below(&self.name, id.as_ref());
        let put = Op::Put(Put::new(key.clone(), data).with_lease(lease.id()));
        let compares = vec![created_at(&key, Revision(0))];
        let reply = self.client.txn(Txn { compares, success: vec![put], failure: vec![] }).await?;
        if !reply.succeeded {
            return Err(RecipeError::Taken);
        }
        let fence = Fence { key, token: reply.revision };
        let holding = Holding::new(&self.client, lease, fence);
        Ok(Membership { client: self.client.clone(), holding })
    }

    /// Who is there, by id. Linearizable.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn members(&self) -> Result<BTreeMap<Bytes, Member>, ClientError> {
        let mut members = BTreeMap::new();
        let mut pages = self.client.pages(Range::of(self.keys()), Consistency::Linearizable);
        while let Some(page) = pages.next().await? {
            members.extend(page.kvs.iter().map(|pair| self.member(pair)));
        }
        Ok(members)
    }

    /// Who is there, and who comes and goes.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn watch(&self) -> Result<GroupView, ClientError> {
        let mirror = Mirror::open(&self.client, self.keys()).await?;
        Ok(GroupView { group: self.clone(), mirror })
    }

    fn keys(&self) -> Keys {
        Keys::prefix(below(&self.name, b""))
    }

    fn member(&self, pair: &KeyValue) -> (Bytes, Member) {
        let id = pair.key.slice(self.name.len() + 1..);
        (id, Member { data: pair.value.clone(), since: pair.create_revision })
    }
}

/// Membership that is held, for as long as this lives and the cluster can be reached. Dropping it
/// leaves the group in the background.
pub struct Membership {
    client: Client,
    holding: Holding,
}

impl Membership {
    /// Tells something else of itself.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it is no member any more; [`RecipeError::Client`].
    pub async fn update(&self, data: impl Into<Bytes>) -> Result<(), RecipeError> {
        let fence = self.fence();
        let put = Put::new(fence.key.clone(), data).with_lease(self.lease().id());
        let fenced = self.client.fenced(fence);
        fenced.put_with(put).await.map_err(RecipeError::of_fenced)?;
        Ok(())
    }

    /// The proof of being a member, for [`Client::fenced`].
    pub fn fence(&self) -> Fence {
        self.holding.fence().clone()
    }

    /// What the membership hangs on, to hang more on it: it all ends at one revision.
    pub const fn lease(&self) -> &Lease {
        self.holding.lease()
    }

    /// Whether it cannot be relied on any more.
    pub fn is_lost(&self) -> bool {
        self.holding.is_lost()
    }

    /// Ends when it cannot be relied on any more: its lease may be gone, as [`Lease::lost`] tells,
    /// or somebody has deleted its key.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        self.holding.lost()
    }

    /// Leaves the group, and returns when the others see that.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it was no member any more; [`RecipeError::Client`]: it leaves
    /// later.
    pub async fn leave(self) -> Result<(), RecipeError> {
        self.holding.leave().await
    }
}

/// A group that is watched; see [`Group::watch`].
pub struct GroupView {
    group: Group,
    mirror: Mirror,
}

impl GroupView {
    /// Who is there, by id, as of the last change shown.
    pub fn members(&self) -> BTreeMap<Bytes, Member> {
        self.mirror.pairs().values().map(|pair| self.group.member(pair)).collect()
    }

    /// Waits until somebody comes, goes or tells something else, and shows that.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`]. It can be called again.
    pub async fn changed(&mut self) -> Result<(), ClientError> {
        self.mirror.changed().await.map(|_| ())
    }
}
