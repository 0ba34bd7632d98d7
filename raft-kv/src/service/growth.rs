//! What a leader does not put into the log, although the state machine would take it: growth of a
//! full store, and what some member would not understand yet.

use super::Door;
use super::replica::Replica;
use crate::api::{Action, KvError, Space};
use crate::store::grows;
use raft_core::node::Status;
use raft_core::types::Version;

/// The version that all commands of this program belong to, but for those of alarms.
pub(super) const UNDERSTOOD_SINCE: Version = Version(3);

/// The version that changes of alarms belong to.
pub(super) const ALARMS_SINCE: Version = Version(4);

impl<N: Replica> Door<N> {
    /// Refuses an action that makes a full store larger. Deletes, compactions and the end of leases
    /// make room; reads take none. And what would be refused for an alarm where it is applied: the
    /// log, too, takes room.
    pub(super) fn check_growth(&self, action: &Action) -> Result<(), KvError> {
        self.store.alarms().check(action)?;
        let Space { bytes, quota } = self.space();
        if bytes < quota || !grows(action) {
            return Ok(());
        }
        Err(KvError::Full { bytes, quota })
    }

    /// How full the store is.
    pub(super) fn space(&self) -> Space {
        Space { bytes: self.store.gauges().bytes, quota: self.quota_bytes }
    }
}

/// The version that an action belongs to, on whosoever's authority it runs.
pub(super) fn since(action: &Action) -> Version {
    match action.inner() {
        Action::Alarm(_) => ALARMS_SINCE,
        Action::OpenSession
        | Action::Op(_)
        | Action::Txn(_)
        | Action::Compact(_)
        | Action::Grant { .. }
        | Action::Revoke(_)
        | Action::Advance(_)
        | Action::Auth(_)
        | Action::As(..) => UNDERSTOOD_SINCE,
    }
}

/// Why what belongs to the version `since` may not be put into the log yet: some member is of an
/// older one.
pub(super) fn upgrading(status: &Status, since: Version) -> Option<KvError> {
    if status.membership.version() >= since {
        return None;
    }
    let old = status.peers.iter().filter(|peer| peer.version < since);
    let old: Vec<_> = old.map(|peer| peer.id.to_string()).collect();
    let who = match &old[..] {
        [] => "it will be complete in a moment".into(),
        [node] => format!("{node} is of an older version, or was not heard of"),
        nodes => format!("{} are of an older version, or were not heard of", nodes.join(", ")),
    };
    Some(KvError::Unavailable(format!("{UPGRADING}: {who}")))
}

const UPGRADING: &str = "the cluster is being upgraded";

/// Whether a leader has refused a request with [`upgrading`].
pub(super) fn is_upgrading(error: &KvError) -> bool {
    matches!(error, KvError::Unavailable(text) if text.starts_with(UPGRADING))
}
