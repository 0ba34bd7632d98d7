//! Who is right: the verdict on what members have answered, and the search for the entry at which
//! two of them parted.

use super::ring::STRIDE;
use crate::api::{HASHES_MAX, Hashes};
use raft_core::types::{Index, Membership, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// What comes of comparing one thing on several members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// All that answered agree.
    Equal,
    /// A quorum of the voters agrees; some others do not agree with it.
    Differ {
        /// The voters that agree.
        right: Vec<NodeId>,
        /// Those that do not agree with them, voters or not.
        wrong: Vec<NodeId>,
    },
    /// Members differ, and no quorum of the voters agrees: who agrees with whom, in order.
    Split(Vec<Vec<NodeId>>),
}

/// The verdict on what members have answered. Whoever did not answer agrees with nobody.
pub(crate) fn judge<T: Ord>(membership: &Membership, answers: &BTreeMap<NodeId, T>) -> Verdict {
    let mut camps: BTreeMap<&T, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, answer) in answers {
        camps.entry(answer).or_default().insert(*node);
    }
    if camps.len() <= 1 {
        return Verdict::Equal;
    }
    let quorum = |camp: &&BTreeSet<NodeId>| membership.is_quorum(|node| camp.contains(&node));
    let Some(right) = camps.values().find(quorum) else {
        let camps = camps.into_values().map(|camp| camp.into_iter().collect());
        let mut camps: Vec<Vec<NodeId>> = camps.collect();
        // By nodes: hashes would have them in another order each time.
        camps.sort();
        return Verdict::Split(camps);
    };
    let wrong = answers.keys().copied().filter(|node| !right.contains(node)).collect();
    let right = right.iter().copied().filter(|node| membership.is_voter(*node)).collect();
    Verdict::Differ { right, wrong }
}

/// The indexes to compare members at: the last that all have, and the last that a part of them has,
/// where some lag behind; and with each one that is kept for long.
pub(crate) fn common<'a>(extents: impl Iterator<Item = &'a Hashes>) -> Vec<Index> {
    let newest: BTreeSet<Index> = extents.map(|extent| extent.newest).collect();
    let mut at: BTreeSet<Index> = newest.iter().copied().collect();
    at.extend(newest.iter().map(|index| Index(index.0 - index.0 % STRIDE)));
    at.into_iter().filter(|index| *index != Index::ZERO).rev().take(HASHES_MAX).collect()
}

/// Looks for the first entry after which two members differ. As each hash is made from the one
/// before, they are equal before it and differ from it on.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The last entry known to be equal.
    pub(crate) equal: Option<Index>,
    /// The first known to differ.
    pub(crate) differs: Index,
    /// Nothing is known by one of them before this.
    oldest: u64,
    /// From here on both know all.
    dense: u64,
    /// Whether entries before `dense`, of which few are known, are still looked at.
    sparse: bool,
}

impl Search {
    /// They differ at `differs`; both know what `extents` say.
    pub(crate) fn new(differs: Index, extents: [&Hashes; 2]) -> Self {
        let [one, other] = extents;
        let (oldest, dense) = (one.oldest.max(other.oldest).0, one.dense.max(other.dense).0);
        Self { equal: None, differs, oldest, dense, sparse: true }
    }

    /// Where to look next; nothing if all is known that can be.
    pub(crate) fn next(&mut self) -> Vec<Index> {
        let from = self.equal.map_or(self.oldest, |equal| equal.0 + 1);
        if self.sparse {
            let mut at = spread(from.next_multiple_of(STRIDE), self.differs.0, STRIDE);
            let rims = [self.oldest, self.dense].into_iter();
            at.extend(rims.filter(|rim| (from..self.differs.0).contains(rim)).map(Index));
            if !at.is_empty() {
                return at;
            }
            self.sparse = false;
        }
        spread(from.max(self.dense), self.differs.0, 1)
    }

    /// Takes in both members' hashes at the indexes asked for; whether to go on.
    pub(crate) fn learn(&mut self, at: &[Index], one: &Hashes, other: &Hashes) -> bool {
        let before = (self.equal, self.differs);
        for (index, pair) in at.iter().zip(one.at.iter().zip(&other.at)) {
            match pair {
                (Some(one), Some(other)) if one == other => {
                    self.equal = self.equal.max(Some(*index));
                }
                (Some(_), Some(_)) => self.differs = self.differs.min(*index),
                _ => {}
            }
        }
        let learned = before != (self.equal, self.differs);
        learned || std::mem::replace(&mut self.sparse, false)
    }
}

/// Indexes from `from` on and below `to`, multiples of `step` apart, as many as may be asked for
/// beside two others.
fn spread(from: u64, to: u64, step: u64) -> Vec<Index> {
    const MOST: u64 = HASHES_MAX as u64 - 2;
    let places = to.saturating_sub(from).div_ceil(step);
    let every = places.div_ceil(MOST).max(1) * step;
    (0..places.min(MOST))
        .map(|place| Index(from + place * every))
        .take_while(|at| at.0 < to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::INTEGRITY_VERSION;
    use crate::integrity::HashRing;
    use raft_core::types::Member;

    fn voters(count: u64) -> Membership {
        Membership::of_voters((1..=count).map(|id| (NodeId(id), Member::new("a:1"))).collect())
    }

    fn verdict(count: u64, answers: &[(u64, u64)]) -> Verdict {
        let answers = answers.iter().map(|(node, answer)| (NodeId(*node), *answer)).collect();
        judge(&voters(count), &answers)
    }

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn only_a_quorum_of_voters_is_right() {
        assert_eq!(verdict(3, &[(1, 7), (2, 7), (3, 7)]), Verdict::Equal);
        assert_eq!(verdict(3, &[(2, 7)]), Verdict::Equal);
        let differs = |right: &[u64], wrong: &[u64]| {
            let (right, wrong) = (nodes(right), nodes(wrong));
            Verdict::Differ { right, wrong }
        };
        assert_eq!(verdict(3, &[(1, 7), (2, 8), (3, 7)]), differs(&[1, 3], &[2]));
        // Half of them is no quorum, nor are those that happen to answer.
        let alone = || Verdict::Split(vec![nodes(&[1]), nodes(&[2])]);
        assert_eq!(verdict(3, &[(1, 7), (2, 8)]), alone());
        assert_eq!(verdict(3, &[(1, 8), (2, 7)]), alone());
        assert_eq!(
            verdict(4, &[(1, 7), (2, 7), (3, 8), (4, 8)]),
            Verdict::Split(vec![nodes(&[1, 2]), nodes(&[3, 4])])
        );
        assert_eq!(
            verdict(5, &[(1, 7), (2, 7), (3, 9)]),
            Verdict::Split(vec![nodes(&[1, 2]), nodes(&[3])])
        );
        // Nodes 4 to 6 are no voters: they may be wrong, and make nobody right.
        assert_eq!(verdict(3, &[(1, 7), (2, 7), (3, 7), (4, 8)]), differs(&[1, 2, 3], &[4]));
        let crowd = verdict(3, &[(1, 7), (2, 8), (4, 8), (5, 8), (6, 8)]);
        assert_eq!(crowd, Verdict::Split(vec![nodes(&[1]), nodes(&[2, 4, 5, 6])]));
    }

    /// What a member with this ring answers.
    fn hashes(ring: &HashRing, at: &[Index]) -> Hashes {
        Hashes {
            version: INTEGRITY_VERSION,
            sound: true,
            oldest: ring.oldest(),
            dense: ring.dense_from(),
            newest: ring.newest(),
            at: at.iter().map(|index| ring.at(*index)).collect(),
        }
    }

    /// A ring of `count` entries from `from` on, with other hashes from `differs` on.
    fn ring(from: u64, count: u64, differs: u64) -> HashRing {
        let hash = |index: u64| if index >= differs { index << 20 } else { index };
        let mut ring = HashRing::starting_at(Index(from), hash(from));
        for index in from + 1..from + count {
            ring.push(Index(index), hash(index));
        }
        ring
    }

    fn search(one: &HashRing, other: &HashRing) -> (Option<u64>, u64) {
        let newest = one.newest().min(other.newest());
        let mut search = Search::new(newest, [&hashes(one, &[]), &hashes(other, &[])]);
        for _ in 0..8 {
            let at = search.next();
            assert!(at.len() <= HASHES_MAX);
            if at.is_empty() || !search.learn(&at, &hashes(one, &at), &hashes(other, &at)) {
                return (search.equal.map(|index| index.0), search.differs.0);
            }
        }
        panic!("it takes too many rounds: {search:?}");
    }

    #[test]
    fn the_first_entry_that_differs_is_found() {
        let none = u64::MAX;
        for differs in [1_050_000, 1_050_001, 1_049_999, 1_100_000, 1_000_001] {
            // The last 65,536 of each are all there.
            let (one, other) = (ring(1_000_000, 70_000, none), ring(1_000_000, 70_900, differs));
            let (newest, dense) = (1_069_999, 1_070_900 - 65_536);
            let (equal, found) = search(&one, &other);
            match differs {
                _ if differs > newest => assert_eq!((equal, found), (Some(newest - 1), newest)),
                _ if differs > dense => assert_eq!((equal, found), (Some(differs - 1), differs)),
                _ => assert!(
                    equal.is_some_and(|equal| equal < differs)
                        && differs <= found
                        && found <= dense
                ),
            }
        }
        // One was restored later; all that both know differs.
        let (one, other) = (ring(500, 3_000, none), ring(1, 5_000, 400));
        assert_eq!(search(&one, &other), (None, 500));
        // Far back, it is known to within a few thousand.
        let (one, other) = (ring(1, 400_000, none), ring(1, 400_000, 50_000));
        assert_eq!(search(&one, &other), (Some(49_152), 53_248));
        let (one, other) = (ring(1, 3_000_000, none), ring(1, 3_000_000, 50_000));
        assert_eq!(search(&one, &other), (Some(49_152), 53_248));
    }

    #[test]
    fn members_are_compared_where_several_have_come() {
        let (one, other) = (ring(1, 10, u64::MAX), ring(1, 5000, u64::MAX));
        let at = common([hashes(&one, &[]), hashes(&other, &[])].iter());
        assert_eq!(at, [Index(5000), Index(4096), Index(10)]);
        let nothing = HashRing::starting_at(Index::ZERO, 0);
        assert_eq!(common([hashes(&nothing, &[])].iter()), []);
    }
}
