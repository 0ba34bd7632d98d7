//! Leases, call by call; [`Lease`](super::Lease) is what keeps one alive by itself.

use super::call::unexpected;
use super::{Client, ClientError};
use crate::api::{
    Action, ActionReply, KEEP_ALIVE_MAX, LeaseId, LeaseStatus, ReplyBody, RequestBody, Revision,
};
use std::time::Duration;
use tokio::time::Instant;

/// What granting a lease answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The lease.
    pub id: LeaseId,
    /// How long it lives without being kept alive: at least what was asked for.
    pub ttl: Duration,
}

/// What revoking a lease answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The store's revision after it.
    pub revision: Revision,
    /// How many keys went with the lease, all at this revision.
    pub deleted: u64,
}

impl Client {
    /// Makes a lease of a given id, or of one made up, that nobody keeps alive;
    /// [`lease`](Self::lease) makes one that is kept alive.
    ///
    /// # Errors
    /// See [`ClientError`]. [`KvError::LeaseExists`](crate::api::KvError::LeaseExists) if a lease
    /// with this id lives; [`KvError::LeaseTooLong`](crate::api::KvError::LeaseTooLong).
    pub async fn grant_lease(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> Result<Granted, ClientError> {
        // Rounded up: a lease never lives shorter than asked.
        let ttl_ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match self.write(&Action::Grant { id, ttl_ms }).await? {
            ActionReply::Granted { id, ttl_ms } => {
                Ok(Granted { id, ttl: Duration::from_millis(ttl_ms) })
            }
            _ => Err(unexpected(true)),
        }
    }

    /// Ends a lease and deletes the keys that hang on it, all at one revision.
    ///
    /// # Errors
    /// See [`ClientError`]. [`KvError::LeaseNotFound`](crate::api::KvError::LeaseNotFound) if there
    /// is none: it may have expired.
    pub async fn revoke_lease(&self, id: LeaseId) -> Result<Revoked, ClientError> {
        match self.write(&Action::Revoke(id)).await? {
            ActionReply::Revoked { revision, deleted } => Ok(Revoked { revision, deleted }),
            _ => Err(unexpected(true)),
        }
    }

    /// Keeps leases alive, once: of each, in order, how long it lives from when this was sent on;
    /// zero of one that is gone.
    ///
    /// A node may take a third of the deadline, where that is more than an
    /// [attempt](super::ClientOptions::attempt): one that is slow renews all the same, and to ask
    /// another one at once would lose its answer; one that hangs leaves the others time.
    ///
    /// # Errors
    /// See [`ClientError`]. Some of more than [`KEEP_ALIVE_MAX`] leases may have been kept alive
    /// whatever the error is.
    pub async fn keep_alive(&self, leases: &[LeaseId]) -> Result<Vec<Duration>, ClientError> {
        let mut lives = Vec::with_capacity(leases.len());
        for some in leases.chunks(KEEP_ALIVE_MAX) {
            let patience = self.shared.attempt.max(self.deadline / 3);
            lives.extend(self.keep_alive_within(some, patience, self.deadline).await?);
        }
        Ok(lives)
    }

    /// The same of [`KEEP_ALIVE_MAX`] leases at most, within `deadline`; one node may take as long
    /// as `patience`.
    pub(super) async fn keep_alive_within(
        &self,
        leases: &[LeaseId],
        patience: Duration,
        deadline: Duration,
    ) -> Result<Vec<Duration>, ClientError> {
        let body = RequestBody::KeepAlive(leases.to_vec());
        // However often it is sent, nothing happens but that they live on.
        match self.exchange(body, true, patience, Instant::now() + deadline).await? {
            ReplyBody::KeptAlive(left_ms) if left_ms.len() == leases.len() => {
                Ok(left_ms.into_iter().map(Duration::from_millis).collect())
            }
            _ => Err(unexpected(true)),
        }
    }

    /// A lease as it is now, with the `keys` that hang on it if they are wanted; `None` if it is
    /// gone. Linearizable.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn lease_status(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<Option<LeaseStatus>, ClientError> {
        match self.request(RequestBody::Lease { id, keys }, true).await? {
            ReplyBody::Lease(status) => Ok(status.map(|status| *status)),
            _ => Err(unexpected(false)),
        }
    }

    /// The leases that live, in order. Linearizable.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn leases(&self) -> Result<Vec<LeaseId>, ClientError> {
        match self.request(RequestBody::Leases, true).await? {
            ReplyBody::Leases(leases) => Ok(leases),
            _ => Err(unexpected(false)),
        }
    }
}
