//! What the watches of one stream are called: by the client, which may choose and use a name again,
//! and towards the node, where each watch has another.

use crate::api::{Event, WatchId};
use crate::etcd::memory::Held;
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    /// By the client's names: those that it has not ended, and that have not ended by themselves.
    by_client: BTreeMap<i64, WatchId>,
    /// By the node's, until it has said that they ended.
    by_node: BTreeMap<WatchId, Named>,
    /// The next name for a client that has none in mind.
    next: i64,
    next_own: u64,
}

/// A watch.
pub(super) struct Named {
    /// What the client calls it.
    pub(super) id: i64,
    /// Whether the client was told that it has begun.
    pub(super) begun: bool,
    /// The highest revision that the client was told with it.
    pub(super) told: u64,
    /// Whether the client takes the changes of one revision in pieces.
    pub(super) in_pieces: bool,
    /// The pieces of a revision that is to be told at once, and what they take.
    pub(super) pieces: Option<(Vec<Event>, Held)>,
}

impl Names {
    /// A name for a new watch: 0 has one chosen. `None` if there is a watch of that name.
    pub(super) fn create(&mut self, id: i64, in_pieces: bool) -> Option<WatchId> {
        let id = match id {
            0 => self.choose(),
            id if self.by_client.contains_key(&id) => return None,
            id => id,
        };
        let own = WatchId(self.next_own);
        self.next_own += 1;
        self.by_client.insert(id, own);
        let named = Named { id, begun: false, told: 0, in_pieces, pieces: None };
        self.by_node.insert(own, named);
        Some(own)
    }

    fn choose(&mut self) -> i64 {
        while self.by_client.contains_key(&self.next) {
            self.next += 1;
        }
        let chosen = self.next;
        self.next += 1;
        chosen
    }

    /// The client ends a watch, and may use its name again. `None` if there is none.
    pub(super) fn cancel(&mut self, id: i64) -> Option<WatchId> {
        self.by_client.remove(&id)
    }

    /// A watch that the node tells of.
    pub(super) fn named(&mut self, own: WatchId) -> Option<&mut Named> {
        self.by_node.get_mut(&own)
    }

    /// Those of which pieces are kept.
    pub(super) fn kept(&mut self) -> impl Iterator<Item = &mut Named> {
        self.by_node.values_mut().filter(|named| named.pieces.is_some())
    }

    /// The node has ended a watch.
    pub(super) fn ended(&mut self, own: WatchId) -> Option<Named> {
        let named = self.by_node.remove(&own)?;
        if self.by_client.get(&named.id) == Some(&own) {
            self.by_client.remove(&named.id);
        }
        Some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_around_those_in_use() {
        let mut names = Names::default();
        let mut chosen = |id| {
            let own = names.create(id, false)?;
            names.named(own).map(|named| named.id)
        };
        assert_eq!(chosen(0), Some(0));
        assert_eq!(chosen(1), Some(1));
        assert_eq!(chosen(1), None);
        assert_eq!(chosen(-5), Some(-5));
        assert_eq!(chosen(0), Some(2));
    }

    #[test]
    fn the_late_end_of_a_watch_is_not_that_of_the_next_one_by_its_name() {
        let mut names = Names::default();
        let first = names.create(7, false).unwrap();
        assert_eq!(names.cancel(7), Some(first));
        assert_eq!(names.cancel(7), None);
        let second = names.create(7, false).unwrap();
        assert_eq!(names.ended(first).map(|named| named.id), Some(7));
        assert!(names.ended(first).is_none());
        assert_eq!(names.create(7, false), None, "the second watch has the name");
        assert_eq!(names.cancel(7), Some(second));
    }
}
