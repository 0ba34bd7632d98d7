//! The bytes of a membership, for wire, log and checkpoint alike.
//!
//! They tell their version themselves, because memberships stand within many other formats. Version
//! 1 begins with the voters. From version 2 on they begin with the list `[0]`, which is no list of
//! voters, and the version: whoever knows only version 1 refuses that as malformed. What needs
//! nothing newer is still written as version 1, so that a member of that version can read it.

use super::{Member, Membership};
use crate::types::{Incarnation, NodeId, Version};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes that are no membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("membership: {0}")]
pub struct InvalidMembership(&'static str);

/// Stands where version 1 has its voters.
const NEWER: [NodeId; 1] = [NodeId(0)];

/// A member in bytes of version 1.
#[derive(Serialize, Deserialize)]
struct MemberV1 {
    address: String,
    incarnation: Option<Incarnation>,
    promote: bool,
}

/// A member in bytes of version 2.
#[derive(Serialize, Deserialize)]
struct MemberV2 {
    address: String,
    incarnation: Option<Incarnation>,
    promote: bool,
    priority: u8,
}

/// Everything behind the version, in bytes of version 2.
#[derive(Serialize, Deserialize)]
struct BodyV2 {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    members: BTreeMap<NodeId, MemberV2>,
    leaving: Vec<NodeId>,
    epoch: u64,
}

impl Serialize for Membership {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        if self.version <= Version::OLDEST {
            let member = |(id, member): (&NodeId, &Member)| (*id, MemberV1::from(member.clone()));
            tuple.serialize_element(&self.voters)?;
            tuple.serialize_element(&self.outgoing)?;
            tuple
                .serialize_element(&self.members.iter().map(member).collect::<BTreeMap<_, _>>())?;
        } else {
            tuple.serialize_element(&NEWER[..])?;
            tuple.serialize_element(&self.version)?;
            tuple.serialize_element(&BodyV2::from(self.clone()))?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Membership {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(3, Elements)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Membership;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a membership")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Membership, A::Error> {
        let voters: Vec<NodeId> = next(&mut elements)?;
        let membership = if voters == NEWER {
            let version: Version = next(&mut elements)?;
            if version <= Version::OLDEST || version > Version::CURRENT {
                return Err(A::Error::custom("a membership of an unknown version"));
            }
            let body: BodyV2 = next(&mut elements)?;
            body.into_membership(version)
        } else {
            let outgoing = next(&mut elements)?;
            let members: BTreeMap<NodeId, MemberV1> = next(&mut elements)?;
            let members = members.into_iter().map(|(id, member)| (id, member.into())).collect();
            let version = Version::OLDEST;
            Membership { voters, outgoing, members, version, ..Membership::default() }
        };
        membership.checked().map_err(A::Error::custom)
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(elements: &mut A) -> Result<T, A::Error> {
    elements.next_element()?.ok_or_else(|| A::Error::custom("it ends early"))
}

impl Membership {
    /// Quorums are counted and voters looked up on the strength of what is checked here.
    fn checked(self) -> Result<Self, InvalidMembership> {
        for set in [&self.voters, &self.outgoing, &self.leaving] {
            if !set.is_sorted_by(|a, b| a < b) {
                return Err(InvalidMembership("voters out of order"));
            }
            if !set.iter().all(|node| self.contains(*node)) {
                return Err(InvalidMembership("a voter that is no member"));
            }
        }
        let leaves = |node| {
            self.outgoing.binary_search(node).is_ok() && self.voters.binary_search(node).is_err()
        };
        if !self.leaving.iter().all(leaves) {
            return Err(InvalidMembership("a member leaves that does not stop voting"));
        }
        if self.contains(NodeId(0)) {
            return Err(InvalidMembership("node 0"));
        }
        Ok(self)
    }
}

impl BodyV2 {
    fn into_membership(self, version: Version) -> Membership {
        let Self { voters, outgoing, members, leaving, epoch } = self;
        let members = members.into_iter().map(|(id, member)| (id, member.into())).collect();
        Membership { voters, outgoing, members, leaving, version, epoch }
    }
}

impl From<Membership> for BodyV2 {
    fn from(membership: Membership) -> Self {
        let Membership { voters, outgoing, members, leaving, version: _, epoch } = membership;
        let members = members.into_iter().map(|(id, member)| (id, member.into())).collect();
        Self { voters, outgoing, members, leaving, epoch }
    }
}

impl From<Member> for MemberV1 {
    fn from(member: Member) -> Self {
        let Member { address, incarnation, promote, priority: _ } = member;
        Self { address, incarnation, promote }
    }
}

impl From<MemberV1> for Member {
    fn from(member: MemberV1) -> Self {
        let MemberV1 { address, incarnation, promote } = member;
        Self { address, incarnation, promote, priority: 0 }
    }
}

impl From<Member> for MemberV2 {
    fn from(member: Member) -> Self {
        let Member { address, incarnation, promote, priority } = member;
        Self { address, incarnation, promote, priority }
    }
}

impl From<MemberV2> for Member {
    fn from(member: MemberV2) -> Self {
        let MemberV2 { address, incarnation, promote, priority } = member;
        Self { address, incarnation, promote, priority }
    }
}
