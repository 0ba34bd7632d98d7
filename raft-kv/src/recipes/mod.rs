//! Coordination made of the store's parts: locks, elections, barriers, queues and what else
//! services agree by.
//!
//! | to have | use |
//! |---|---|
//! | one at a time, in the order of asking | [`Lock`] |
//! | one leader, whom all can find | [`Election`] |
//! | wait for a signal; begin and end together | [`Barrier`], [`DoubleBarrier`] |
//! | work that is done once, in order | [`Queue`] |
//! | who is there, and where | [`Group`] |
//! | work divided among those who are there | [`Partitions`] |
//! | a name that belongs to one | [`claim`] |
//! | messages that all see in one order | [`Topic`] |
//! | the present state of some keys at hand | [`Mirror`] |
//!
//! # What protects
//!
//! Nothing here relies on a clock for what is right, only for when it goes on. Whoever holds
//! something does so by a key that hangs on a lease. A process that is paused for longer than its
//! lease lives wakes up believing that it still holds it, and no lock service can know. So what is
//! held has a [`Fence`](crate::api::Fence), and what is written through
//! [`Client::fenced`](crate::Client::fenced) with it is refused by the store from the moment on at
//! which it is not held any more. Writes to other systems can carry its token, which is greater for
//! every later holder.
//!
//! The keys are laid out as etcd's own tools lay them out where those have the same thing (locks
//! and elections), so that both respect each other. As there, names that begin with each other and
//! a `/` are not independent: a lock `a` waits for holders of `a/b`.
//!
//! This module never looks at a clock and never keeps state of its own that the store has not told
//! it; each recipe is a few calls of [`Client`](crate::Client).

mod barrier;
mod broadcast;
mod election;
mod group;
mod holding;
mod lock;
mod mirror;
mod partition;
mod place;
mod queue;
mod unique;

pub use barrier::{Barrier, DoubleBarrier};
pub use broadcast::{Message, Subscription, Topic};
pub use election::{Election, Leader, Leadership, Observer};
pub use group::{Group, GroupView, Member, Membership};
pub use lock::Lock;
pub use mirror::Mirror;
pub use partition::{Assignment, Partitions, Worker};
pub use queue::{Item, Queue};
pub use unique::{Claim, claim};

use crate::api::{Compare, Keys, KvError, Operator, Revision, Target};
use crate::client::ClientError;
use bytes::Bytes;

/// Why a recipe cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A request failed; whether it had an effect is told. What it would have made hangs on a lease
    /// that nobody keeps alive any more.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was held is not held any more, or cannot be relied on: the lease is gone or was not
    /// renewed in time, or somebody has deleted the key. Begin anew.
    #[error("it is not held any more: the lease was lost, or its key deleted")]
    Lost,
    /// Somebody else has this name at present.
    #[error("the name is taken at present")]
    Taken,
    /// What was asked for is gone: everything up to this revision was dropped from the topic.
    #[error("the messages up to revision {0} were dropped: read on from there")]
    Dropped(Revision),
}

impl RecipeError {
    /// A refusal by the fence says that what was held is lost.
    fn of_fenced(error: ClientError) -> Self {
        match error {
            ClientError::Refused(KvError::Fenced { .. }) => Self::Lost,
            error => Self::Client(error),
        }
    }
}

/// `name` and what comes below it.
fn below(name: &[u8], rest: &[u8]) -> Bytes {
    [name, b"/", rest].concat().into()
}

/// Holds while `key` is the one that was created at `revision`; 0: while there is none.
fn created_at(key: &Bytes, revision: Revision) -> Compare {
    let target = Target::CreateRevision(revision);
    Compare { keys: Keys::One(key.clone()), operator: Operator::Equal, target }
}
