//! The cluster as the verbs see it: operations that end with an answer or a [`Failure`]. Owns the
//! mapping from the client's errors to exit codes and advice; knows no arguments.

use crate::args::connection::Target;
use crate::failure::{Failure, Kind};
use bytes::Bytes;
use raft_core::transport::{CallError, Connector};
use raft_core::types::{Change, NodeId};
use raft_kv::api::{
    AuthError, Consistency, Fence, Health, Keys, KvError, Members, NodeStatus, Put, Range,
    RangeReply, Revision, Txn, TxnReply,
};
use raft_kv::client::{
    Cause, Client, ClientError, ClientOptions, DeleteReply, PutReply, ReadReply,
};
use raft_net_quic::{ClientCredentials, ConnectorConfig, QuicConnector};
use std::sync::Arc;
use std::time::Duration;

/// A client of one cluster, with a connection and a session of its own.
#[derive(Clone)]
pub struct Store {
    client: Client,
}

/// What one address answered to the question how it is.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The address asked.
    pub address: String,
    /// What the node there says of itself, or why it says nothing.
    pub status: Result<NodeStatus, String>,
    /// What it says may be wrong; nodes of earlier versions cannot tell.
    pub health: Option<Health>,
}

impl Store {
    /// A client that reaches its nodes through `connector`. Nothing is sent before the first call.
    pub fn new(connector: Arc<dyn Connector>, endpoints: Vec<String>, deadline: Duration) -> Self {
        Self::of(connector, ClientOptions::new(endpoints), deadline)
    }

    fn of(connector: Arc<dyn Connector>, mut options: ClientOptions, deadline: Duration) -> Self {
        options.deadline = deadline;
        // Whoever names one node means that node.
        options.prefer_leader = options.endpoints.len() > 1;
        Self { client: Client::new(connector, options) }
    }

    /// A client of the cluster that the command line names. `turn` rotates the endpoints, so that
    /// several clients begin with different nodes; given more than one, they move on to the leader.
    ///
    /// # Errors
    /// Of kind `Local` if a certificate cannot be used.
    pub fn open(target: &Target, deadline: Duration, turn: usize) -> Result<Self, Failure> {
        let mut endpoints = target.endpoints.clone();
        let turn = turn % endpoints.len().max(1);
        endpoints.rotate_left(turn);
        let deadline = target.deadline.unwrap_or(deadline);
        let options = ClientOptions::new(endpoints);
        let options = match target.credentials()? {
            Some((user, password)) => options.user(user, password),
            None => options,
        };
        Ok(Self::of(connector(target)?, options, deadline))
    }

    /// The token of the user that the client is for, if it is for one and that is needed.
    ///
    /// # Errors
    /// Of kind `Refused` or `Unavailable`.
    pub async fn token(&self) -> Result<Option<Arc<str>>, Failure> {
        self.client.token().await.map_err(failure)
    }

    /// The same client, whose writes run only while `fence` holds; without one, as it is.
    #[must_use]
    pub fn fenced(&self, fence: Option<Fence>) -> Self {
        match fence {
            Some(fence) => Self { client: self.client.fenced(fence) },
            None => self.clone(),
        }
    }

    /// The client itself, for what is built on it.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Sets a key; returns the revision of the change.
    ///
    /// # Errors
    /// Of kind `Refused`, `Unavailable` or `Unknown`.
    pub async fn put(&self, key: Bytes, value: Bytes) -> Result<Revision, Failure> {
        self.client.put(key, value).await.map(|reply| reply.revision).map_err(failure)
    }

    /// Sets a key as `put` says.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn write(&self, put: Put) -> Result<PutReply, Failure> {
        self.client.put_with(put).await.map_err(failure)
    }

    /// Deletes keys, and returns what was there if `prev_kv`.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn delete(&self, keys: Keys, prev_kv: bool) -> Result<DeleteReply, Failure> {
        let deleted = match prev_kv {
            true => self.client.take(keys).await,
            false => self.client.delete(keys).await,
        };
        deleted.map_err(failure)
    }

    /// Forgets what was before a revision; returns the store's.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn compact(&self, revision: Revision) -> Result<Revision, Failure> {
        self.client.compact(revision).await.map_err(failure)
    }

    /// The store's revision, as of now.
    ///
    /// # Errors
    /// Of kind `Refused` or `Unavailable`.
    pub async fn revision(&self) -> Result<Revision, Failure> {
        let nothing = Range { limit: 1, keys_only: true, ..Range::of(Keys::all()) };
        Ok(self.range(nothing, Consistency::Linearizable).await?.revision)
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply, Failure> {
        self.client.txn(txn).await.map_err(failure)
    }

    /// Reads one page of a range.
    ///
    /// # Errors
    /// Of kind `Refused` or `Unavailable`.
    pub async fn range(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<RangeReply, Failure> {
        self.client.get(range, consistency).await.map_err(failure)
    }

    /// Reads one page of a range; the answer says how fresh it is.
    ///
    /// # Errors
    /// Of kind `Refused` or `Unavailable`.
    pub async fn read(&self, range: Range, consistency: Consistency) -> Result<ReadReply, Failure> {
        self.client.read(range, consistency).await.map_err(failure)
    }

    /// Asks every node it can learn of how it is.
    pub async fn statuses(&self) -> Vec<Answer> {
        let answers = self.client.statuses().await.into_iter();
        answers
            .map(|answer| {
                let why = |error| {
                    let message = failure(error).message;
                    // The table names the address already.
                    let prefix = format!("{}: ", answer.endpoint);
                    message.strip_prefix(&prefix).unwrap_or(&message).to_owned()
                };
                let status = answer.status.map_err(why);
                Answer { address: answer.endpoint, status, health: answer.health }
            })
            .collect()
    }

    /// Who is in the cluster.
    ///
    /// # Errors
    /// Of kind `Refused` or `Unavailable`.
    pub async fn members(&self) -> Result<Members, Failure> {
        self.client.members().await.map_err(failure)
    }

    /// Changes who is in the cluster, all of it or nothing; returns who is then.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn change_members(&self, changes: Vec<Change>) -> Result<Members, Failure> {
        self.client.change_members(changes).await.map_err(|error| match error.may_have_run() {
            true => {
                failure(error).advice("look at `raft member list` before you change them again")
            }
            false => failure(error),
        })
    }

    /// Hands leadership to a node, or to the best follower.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<(), Failure> {
        self.client.transfer_leadership(to).await.map_err(failure)
    }
}

/// What to do about what the cluster refuses.
fn refusal(error: &KvError) -> Option<&'static str> {
    Some(match error {
        KvError::Auth(AuthError::UserEmpty) => "everybody has to log in: give --user",
        KvError::Auth(AuthError::Failed) => "check --user and its password",
        KvError::Auth(AuthError::Denied) => {
            "`raft role grant` permits a role something, `raft user grant-role` gives it to a user"
        }
        KvError::Auth(AuthError::RootUserMissing) => "make it with `raft user add root`",
        KvError::Auth(AuthError::RootRoleMissing) => {
            "give it the role with `raft user grant-role root root`"
        }
        KvError::FutureRevision { .. } => "give an earlier --rev",
        KvError::Compacted { .. } => "give a later revision, or none",
        KvError::KeyNotFound(_) => "put it first, with a value",
        KvError::LeaseNotFound(_) => "it may have expired: `raft lease list` shows those that live",
        KvError::LeaseExists(_) => "leave --id out to have one made up",
        KvError::Fenced { .. } => "take the lock again, and look at what its holder has done since",
        KvError::OtherHistory { .. } => "read without --token, and print a new one",
        KvError::TooManyOps { .. } | KvError::TooDeep(_) => "split it into several transactions",
        _ => return None,
    })
}

/// What a client's error means for the exit code, and what to do about it.
pub fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(KvError::ChangeRefused { reason, advice }) => {
            Failure::new(Kind::Refused, reason).advice(advice)
        }
        ClientError::Refused(error) => {
            let failure = Failure::new(Kind::Refused, &error);
            match refusal(&error) {
                Some(advice) => failure.advice(advice),
                None => failure,
            }
        }
        ClientError::NotDone { reason, source: Some(Cause::Call(CallError::Refused(_))) } => {
            Failure::new(Kind::Unavailable, reason).advice("check --ca, --cert and --key")
        }
        ClientError::NotDone { reason, .. } => Failure::new(Kind::Unavailable, reason)
            .advice("nothing was changed: try again, or look at `raft status`"),
        error if error.may_have_run() => {
            Failure::new(Kind::Unknown, error).advice("read before you write again")
        }
        error => Failure::new(Kind::Unavailable, error),
    }
}

/// What reaches the nodes of the cluster that the command line names.
pub fn connector(target: &Target) -> Result<Arc<dyn Connector>, Failure> {
    let identity = target.identity.as_ref();
    let identity = identity.map(|(cert, key)| (cert.as_path(), key.as_path()));
    let credentials = match &target.ca {
        Some(ca) => ClientCredentials::from_files(ca, identity),
        None => ClientCredentials::unauthenticated().with_files(identity),
    };
    let credentials = credentials
        .map_err(|error| Failure::new(Kind::Local, error).advice("check --ca, --cert and --key"))?;
    let connector = QuicConnector::new(credentials, ConnectorConfig::default())
        .map_err(|error| Failure::new(Kind::Local, error))?;
    Ok(Arc::new(connector))
}
