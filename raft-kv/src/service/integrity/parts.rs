//! Comparing one part of all data: a chunk of keys, or some leases or sessions.
//!
//! Members answer for what they have applied, which under load is more on one than on another. Keys
//! are compared at one revision, and what was compacted meanwhile is asked for once more. Leases
//! and sessions have no versions: what has changed since this node looked at its own is left out,
//! and its turn comes in another pass.

use super::super::replica::Replica;
use super::{Comparison, camps_of, is_comparable};
use crate::api::{
    CHUNK_KEYS_MAX, Chunk, ChunkDigest, LeaseId, Place, Point, Revision, Roll, RollDigest,
    RollPart, SessionId,
};
use crate::integrity::{Verdict, judge};
use bytes::Bytes;
use raft_core::types::{Membership, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A part of all data: where it begins.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Keys with their versions.
    Keys(Point),
    /// Leases or sessions.
    Roll(Roll, u64),
}

/// What a look at a part has come to.
pub(super) struct Look {
    pub(super) found: Compared,
    /// Whether a quorum has answered for it.
    pub(super) by_quorum: bool,
    /// Keys in it.
    pub(super) keys: u64,
    /// The part after it.
    pub(super) next: Option<Part>,
    /// Where a chunk of keys ended.
    pub(super) end: Option<Point>,
}

/// What one comparison of a part has found.
pub(super) enum Compared {
    /// Nothing that differs, as far as members answer.
    Equal,
    /// Others differ from a quorum.
    Others(Vec<NodeId>, Place),
    /// This node does; those agree. The place, if it is known already.
    Own(Vec<NodeId>, Option<Place>),
    /// No quorum agrees: where, and who with whom.
    Split(String),
}

impl Part {
    /// The first.
    pub(super) fn first() -> Self {
        Self::Keys(Point::default())
    }

    /// The part that follows one that has ended here.
    fn after_keys(end: Option<Point>) -> Self {
        end.map_or(Self::Roll(Roll::Leases, 0), Self::Keys)
    }

    fn after_roll(of: Roll, end: Option<u64>) -> Option<Self> {
        match (of, end) {
            (_, Some(end)) => Some(Self::Roll(of, end)),
            (Roll::Leases, None) => Some(Self::Roll(Roll::Sessions, 0)),
            (Roll::Sessions, None) => Some(Self::Roll(Roll::Single, 0)),
            (Roll::Single, None) => None,
        }
    }
}

impl Compared {
    fn of<T: Ord>(
        membership: &Membership,
        own: NodeId,
        answers: &BTreeMap<NodeId, T>,
        place: impl Fn() -> Place,
    ) -> Self {
        match judge(membership, answers) {
            Verdict::Equal => Self::Equal,
            Verdict::Differ { right, wrong } if wrong.contains(&own) => Self::Own(right, None),
            Verdict::Differ { wrong, .. } => Self::Others(wrong, place()),
            Verdict::Split(camps) => Self::Split(format!("{}: {}", place(), camps_of(&camps))),
        }
    }
}

/// What members must agree on of a chunk: digest, number of keys, end.
type Digest = (u64, u32, Option<Point>);

fn digest_of(digest: ChunkDigest) -> Digest {
    (digest.digest, digest.keys, digest.end)
}

impl<N: Replica> Comparison<N> {
    /// Compares a part; `None` if this node's own cannot be had.
    pub(super) async fn compare_part(&self, part: &Part) -> Option<Look> {
        match part {
            Part::Keys(start) => self.compare_chunk(start).await,
            Part::Roll(of, start) => self.compare_roll(*of, *start).await,
        }
    }

    async fn compare_chunk(&self, start: &Point) -> Option<Look> {
        let (revision, floor) = (None, None);
        let start = start.clone();
        let whole = Chunk { revision, floor, start, end: None, keys: CHUNK_KEYS_MAX };
        let (own, applied) = self.exchange.own_chunk(&whole).await?;
        let (keys, end) = (own.keys.into(), own.end.clone());
        let next = Some(Part::after_keys(end.clone()));
        let status = self.exchange.node.status();
        let membership = &status.membership;
        if !is_comparable(&status) {
            return Some(Look { found: Compared::Equal, by_quorum: false, keys, next, end });
        }
        let (start, revision) = (whole.start.key.clone(), own.revision);
        let asked = same(whole, &own);
        let others = self.exchange.others(membership);
        let others = self.exchange.chunks(others, &asked, applied).await;
        let mut answers: BTreeMap<NodeId, Digest> =
            others.into_iter().map(|(node, digest)| (node, digest_of(digest))).collect();
        answers.insert(status.identity.node, digest_of(own));
        let place = || keys_between(revision, start.clone(), end.clone());
        let found = Compared::of(membership, status.identity.node, &answers, place);
        let by_quorum = membership.is_quorum(|node| answers.contains_key(&node));
        Some(Look { found, by_quorum, keys, next, end })
    }

    async fn compare_roll(&self, of: Roll, start: u64) -> Option<Look> {
        let whole = RollPart { of, start, end: None, since: None };
        let own = self.exchange.own_roll(&whole).await?;
        let next = Part::after_roll(of, own.end);
        let status = self.exchange.node.status();
        let (membership, own_id) = (&status.membership, status.identity.node);
        if !is_comparable(&status) {
            let found = Compared::Equal;
            return Some(Look { found, by_quorum: false, keys: 0, next, end: None });
        }
        let asked = RollPart { end: own.end, since: Some(own.at), ..whole };
        let others = self.exchange.others(membership);
        let mut answers = self.exchange.rolls(others, &asked, own.at.applied).await;
        answers.insert(own_id, own);
        let answers = comparable(answers, own_id);
        let mut found = Compared::of(membership, own_id, &answers, || {
            place_in(of, first_difference(answers.values()))
        });
        if let Compared::Own(right, place) = &mut found {
            let both = [Some(&own_id), right.first()].into_iter().flatten();
            let both = both.filter_map(|node| answers.get(node));
            *place = Some(place_in(of, first_difference(both)));
        }
        let by_quorum = membership.is_quorum(|node| answers.contains_key(&node));
        Some(Look { found, by_quorum, keys: 0, next, end: None })
    }

    /// The first keys within a chunk that differ from those of another: as few as can be told.
    pub(super) async fn narrowed(
        &self,
        start: Point,
        end: Option<Point>,
        agreeing: &[NodeId],
        mut revision: Revision,
    ) -> Place {
        let (mut start, mut end) = (start, end);
        for keys in [CHUNK_KEYS_MAX / 32, 1] {
            let (mut from, last) = (start.clone(), end.clone());
            loop {
                let (at, floor) = (None, None);
                let (begin, stop) = (from.clone(), last.clone());
                let chunk = Chunk { revision: at, floor, start: begin, end: stop, keys };
                let Some((own, applied)) = self.exchange.own_chunk(&chunk).await else { break };
                let (at, to) = (own.revision, own.end.clone());
                let peers = agreeing.to_vec();
                let theirs = self.exchange.chunks(peers, &same(chunk, &own), applied).await;
                let Some(theirs) = theirs.into_values().next() else { break };
                if digest_of(theirs) != digest_of(own) {
                    (start, end, revision) = (from, to, at);
                    break;
                }
                match to {
                    Some(next) if Some(&next) != last.as_ref() => from = next,
                    _ => break,
                }
            }
        }
        keys_between(revision, start.key, end)
    }
}

/// What others are asked for, so that they look at just what `own` is of.
fn same(asked: Chunk, own: &ChunkDigest) -> Chunk {
    let (revision, floor) = (Some(own.revision), Some(own.floor));
    Chunk { revision, floor, end: own.end.clone(), ..asked }
}

/// The keys from `start` on and before `end`, with the key of which only some versions are.
fn keys_between(revision: Revision, start: Bytes, end: Option<Point>) -> Place {
    let after = |point: Point| match point.change {
        None => point.key,
        Some(_) => [&point.key[..], &[0]].concat().into(),
    };
    Place::Keys { revision, start, end: end.map(after) }
}

/// What can be compared of what members have answered. One that has applied more than node `own`
/// leaves out what has changed since, and has no more what ended since.
fn comparable(
    answers: BTreeMap<NodeId, RollDigest>,
    own: NodeId,
) -> BTreeMap<NodeId, Vec<(u64, u64)>> {
    let applied = answers.get(&own).map(|digest| digest.at.applied);
    let ids = |digest: &RollDigest| -> BTreeSet<u64> {
        digest.entries.iter().map(|(id, _)| *id).collect()
    };
    let all: BTreeSet<u64> = answers.values().flat_map(ids).collect();
    let later = answers.values().filter(|digest| Some(digest.at.applied) > applied);
    let left_out: BTreeSet<u64> = later
        .flat_map(|digest| {
            let there = ids(digest);
            let gone = all.iter().copied().filter(move |id| !there.contains(id));
            gone.chain(digest.changed.iter().copied())
        })
        .collect();
    let kept = |entries: Vec<(u64, u64)>| {
        entries.into_iter().filter(|(id, _)| !left_out.contains(id)).collect()
    };
    answers.into_iter().map(|(node, digest)| (node, kept(digest.entries))).collect()
}

/// The first number at which not all agree; 0 if they do.
fn first_difference<'a>(answers: impl Iterator<Item = &'a Vec<(u64, u64)>>) -> u64 {
    let answers: Vec<_> = answers.collect();
    let mut counts: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for entry in answers.iter().copied().flatten() {
        *counts.entry(*entry).or_default() += 1;
    }
    let differs = |(_, count): &(&(u64, u64), &usize)| **count < answers.len();
    counts.iter().find(differs).map_or(0, |((id, _), _)| *id)
}

const fn place_in(of: Roll, id: u64) -> Place {
    match of {
        Roll::Leases => Place::Lease(LeaseId(id)),
        Roll::Sessions => Place::Session(SessionId(id)),
        Roll::Single if id == 0 => Place::Auth,
        Roll::Single => Place::Alarms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_told_from_users_and_roles() {
        assert_eq!(place_in(Roll::Single, 0), Place::Auth);
        assert_eq!(place_in(Roll::Single, 1), Place::Alarms);
    }
}
