//! Names that belong to one.

use super::created_at;
use crate::Client;
use crate::api::{KeyValue, Keys, Op, OpReply, Put, Range, Revision, Txn};
use crate::client::ClientError;
use bytes::Bytes;

/// What a claim comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// All names are the claimant's now, since this revision.
    Granted(Revision),
    /// Somebody was earlier: the names that are taken, and by whom. None was given.
    Taken(Vec<KeyValue>),
}

/// Claims names for `owner`: all of them, or none if one is taken. Of all who claim a name, through
/// whatever nodes, one gets it, because the log has one of the claims first. A name is a key, and
/// its value is the owner; deleting the key gives the name back.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::client::ClientError;
/// use raft_kv::recipes::{Claim, claim};
///
/// async fn register(client: &Client) -> Result<bool, ClientError> {
///     let names = ["users/anna", "mail/anna@example.org"];
///     Ok(matches!(claim(client, names, "account 7").await?, Claim::Granted(_)))
/// }
/// ```
///
/// # Errors
/// See [`ClientError`]. After [`ClientError::Unknown`] read the names: if they are the owner's, the
/// claim was granted.
pub async fn claim<N: Into<Bytes>>(
    client: &Client,
    names: impl IntoIterator<Item = N>,
    owner: impl Into<Bytes>,
) -> Result<Claim, ClientError> {
    let names: Vec<Bytes> = names.into_iter().map(Into::into).collect();
    let owner = owner.into();
    let put = |name: &Bytes| Op::Put(Put::new(name.clone(), owner.clone()));
    let look = |name: &Bytes| Op::Range(Range::of(Keys::One(name.clone())));
    let txn = Txn {
        compares: names.iter().map(|name| created_at(name, Revision(0))).collect(),
        success: names.iter().map(put).collect(),
        failure: names.iter().map(look).collect(),
    };
    let reply = client.txn(txn).await?;
    if reply.succeeded {
        return Ok(Claim::Granted(reply.revision));
    }
    let found = reply.replies.into_iter().flat_map(|reply| match reply {
        OpReply::Range(range) => range.kvs,
        _ => Vec::new(),
    });
    Ok(Claim::Taken(found.collect()))
}
