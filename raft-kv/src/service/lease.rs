//! Leases: kept alive by the leader, described by any node.

use super::clock::KeepAlive;
use super::replica::Replica;
use super::write::Try;
use super::{Clock, Door, not_understood};
use crate::api::{KEEP_ALIVE_MAX, KvError, LeaseAnswer, LeaseId, Query, Reply, ReplyBody};
use crate::{codec, wire};
use raft_core::node::ReadMode;
use tokio::sync::{mpsc, oneshot};

impl<N: Replica> Door<N> {
    /// One try to keep leases alive on this node, which leads.
    pub(super) async fn renew(&self, leases: &[LeaseId]) -> Try {
        let (answer, answered) = oneshot::channel();
        let asked = KeepAlive { leases: leases.to_vec(), answer };
        match self.keep_alives.try_send(asked) {
            // Without an answer the clock has stopped, and with it the node.
            Ok(()) => answered.await.unwrap_or_else(|_| Try::InDoubt("the node stopped".into())),
            Err(mpsc::error::TrySendError::Full(_)) => Try::NotDone(KvError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Try::Answered(wire::encode_reply(&Err(KvError::Unavailable("stopped".into()))))
            }
        }
    }

    /// Describes a lease: as of a linearizable read of this node.
    pub(super) async fn lease(&self, id: LeaseId, keys: bool, clock: Clock) -> Reply {
        let read = self.query(&Query::Lease { id, keys }, ReadMode::Lease, clock).await?;
        let answer = codec::decode::<LeaseAnswer>(&read.reply);
        let answer = answer.map_err(|error| not_understood(&error))?;
        Ok(ReplyBody::Lease(answer.map(Box::new)))
    }

    /// Which leases there are: as of a linearizable read of this node.
    pub(super) async fn leases(&self, clock: Clock) -> Reply {
        let read = self.query(&Query::Leases, ReadMode::Lease, clock).await?;
        let leases = codec::decode(&read.reply).map_err(|error| not_understood(&error))?;
        Ok(ReplyBody::Leases(leases))
    }
}

/// Checks what is to be kept alive.
///
/// # Errors
/// [`KvError::TooManyOps`] if it is more than one stamp renews.
pub(super) const fn check_keep_alive(leases: &[LeaseId]) -> Result<(), KvError> {
    if leases.len() > KEEP_ALIVE_MAX {
        let (count, limit) = (leases.len() as u64, KEEP_ALIVE_MAX as u64);
        return Err(KvError::TooManyOps { count, limit });
    }
    Ok(())
}
