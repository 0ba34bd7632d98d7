//! One leader, whom all can find.

use super::RecipeError;
use super::mirror::Mirror;
use super::place::{Place, first_of, line};
use crate::Client;
use crate::api::{Fence, KeyValue, Revision};
use crate::client::ClientError;
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// An election that is always on: when a leader leaves or fails, the candidate who has waited
/// longest is next.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::recipes::{Election, RecipeError};
/// use std::time::Duration;
///
/// async fn example(client: &Client) -> Result<(), RecipeError> {
///     let election = Election::new(client, "elections/scheduler");
///     let leadership = election.campaign("host-a:8080", Duration::from_secs(10)).await?;
///     let guarded = client.fenced(leadership.fence());
///     tokio::select! {
///         schedule = guarded.put("schedule", "tonight") => { schedule?; }
///         () = leadership.lost() => println!("somebody else leads, or will soon"),
///     }
///     leadership.resign().await
/// }
/// ```
#[derive(Clone)]
pub struct Election {
    client: Client,
    name: Bytes,
}

/// A leader as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// What it has said last: where it is, for example.
    pub value: Bytes,
    /// Tells its leadership from every other; the token of a later leader is greater.
    pub fence: Fence,
    /// When it has said that.
    pub revision: Revision,
}

impl From<KeyValue> for Leader {
    fn from(pair: KeyValue) -> Self {
        let fence = Fence { key: pair.key, token: pair.create_revision };
        Self { value: pair.value, fence, revision: pair.mod_revision }
    }
}

impl Election {
    /// The election of this name.
    pub fn new(client: &Client, name: impl Into<Bytes>) -> Self {
        Self { client: client.clone(), name: name.into() }
    }

    /// Waits for leadership. Dropping the future withdraws the candidate. Should this process end,
    /// the others wait for `ttl` at most.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if the lease was lost while waiting; [`RecipeError::Client`].
    pub async fn campaign(
        &self,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Leadership, RecipeError> {
        let place = Place::last(&self.client, self.name.clone(), value.into(), ttl).await?;
        place.until_first().await?;
        Ok(Leadership(place))
    }

    /// Who leads; `None` if nobody does. Linearizable.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn leader(&self) -> Result<Option<Leader>, ClientError> {
        Ok(first_of(&self.client, &self.name).await?.map(Leader::from))
    }

    /// Tells who leads, and of every change.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn observe(&self) -> Result<Observer, ClientError> {
        let candidates = Mirror::open(&self.client, line(&self.name)).await?;
        Ok(Observer { candidates, told: None })
    }
}

/// Leadership that is held, for as long as this lives and the cluster can be reached. Dropping it
/// resigns in the background.
pub struct Leadership(Place);

impl Leadership {
    /// Says something else to those who look who leads.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it does not lead any more; [`RecipeError::Client`].
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<Revision, RecipeError> {
        self.0.set(value.into()).await
    }

    /// The proof of leading, for [`Client::fenced`]. Each later leader's token is greater.
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

    /// Lets the next candidate lead.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it did not lead any more; [`RecipeError::Client`]: it ends later.
    pub async fn resign(self) -> Result<(), RecipeError> {
        self.0.leave().await
    }
}

/// Follows an election; see [`Election::observe`].
pub struct Observer {
    candidates: Mirror,
    /// What was told last.
    told: Option<Option<Leader>>,
}

impl Observer {
    /// Who leads: at first at once, then whenever there is news - another leader, none, or one that
    /// says something else. Nothing is left out, unless the store was compacted in the meantime.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`]. It can be called again.
    pub async fn next(&mut self) -> Result<Option<Leader>, ClientError> {
        loop {
            let first = self.candidates.pairs().values().min_by_key(|pair| pair.create_revision);
            let leader = first.cloned().map(Leader::from);
            if self.told.as_ref() != Some(&leader) {
                self.told = Some(leader.clone());
                return Ok(leader);
            }
            self.candidates.changed().await?;
        }
    }
}
