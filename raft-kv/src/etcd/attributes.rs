//! What members tell of themselves that the cluster does not need to know: names, and where their
//! doors are. Each is asked; of one that does not answer, what it last said is told.

use super::core::Core;
use crate::api::Published;
use raft_core::types::{Membership, NodeId};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a member has to answer.
const PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    /// What each member tells of itself, as far as it was ever heard.
    pub(super) async fn attributes(&self, membership: &Membership) -> BTreeMap<NodeId, Published> {
        let own = self.status().identity.node;
        let mut asking = JoinSet::new();
        for id in membership.members().keys().copied().filter(|id| *id != own) {
            let service = self.service.clone();
            asking.spawn(async move { (id, service.published_by(id, PATIENCE).await) });
        }
        let mut heard = vec![(own, self.service.published().cloned())];
        heard.extend(asking.join_all().await);
        // Nothing under it can fail.
        let mut known = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| membership.contains(*id));
        known.extend(heard.into_iter().filter_map(|(id, published)| Some((id, published?))));
        known.clone()
    }
}
