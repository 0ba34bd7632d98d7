//! Telling the transport where the others are.

use super::Driver;
use crate::types::{Member, NodeId};
use std::collections::BTreeMap;

/// Whoever is to be reached, as the transport was last told.
pub(super) type Directory = BTreeMap<NodeId, Member>;

impl Driver {
    /// Tells the transport where the others are, if that has changed.
    pub(super) fn announce_peers(&mut self) {
        let directory = self.raft.directory();
        let same = |known: &Directory| {
            known.iter().eq(directory.iter().map(|(node, member)| (node, *member)))
        };
        if self.directory.as_ref().is_some_and(same) {
            return;
        }
        let directory: Directory =
            directory.into_iter().map(|(node, member)| (node, member.clone())).collect();
        let known = self.directory.replace(directory.clone());
        let before = known.as_ref().map(addresses);
        // A member that is bound to no life any more was removed and added again. Another process
        // is to come, and a connection to the earlier one leads nowhere: it is forgotten first.
        let stays = |(node, member): &(&NodeId, &Member)| {
            let before = known.as_ref().and_then(|known| known.get(node));
            member.incarnation.is_some() || before.is_none_or(|it| it.incarnation.is_none())
        };
        let stay = addresses(directory.iter().filter(stays));
        let all = addresses(&directory);
        let group = self.config.group;
        if before.as_ref() != Some(&stay) {
            self.transport.set_peers(group, stay.clone());
        }
        if stay != all {
            self.transport.set_peers(group, all);
        }
    }
}

fn addresses<'a>(
    members: impl IntoIterator<Item = (&'a NodeId, &'a Member)>,
) -> Vec<(NodeId, String)> {
    members.into_iter().map(|(node, member)| (*node, member.address.clone())).collect()
}
