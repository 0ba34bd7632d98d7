//! Asking members, this node among them, about their states. Whoever does not answer in time, or
//! not in this version, is left out.

use super::super::replica::Replica;
use crate::api::{
    Chunk, ChunkAnswer, ChunkDigest, Finding, Hashes, INTEGRITY_VERSION, Inquiry, Query, ReplyBody,
    Request, RequestBody, RollAnswer, RollDigest, RollPart,
};
use crate::{codec, wire};
use bytes::Bytes;
use raft_core::node::ReadMode;
use raft_core::transport::Peers;
use raft_core::types::{GroupId, Index, Membership, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a member has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is asked, and how.
pub(in super::super) struct Exchange<N> {
    pub(in super::super) node: N,
    pub(in super::super) group: GroupId,
    pub(in super::super) peers: Arc<dyn Peers>,
}

impl<N: Replica> Exchange<N> {
    /// This node.
    pub(super) fn own(&self) -> NodeId {
        self.node.status().identity.node
    }

    /// The hashes of all members at `at`, this node's too. Those of others that do not trust
    /// themselves are left out.
    pub(super) async fn hashes(
        &self,
        membership: &Membership,
        at: &[Index],
    ) -> BTreeMap<NodeId, Hashes> {
        let findings = self.ask(self.others(membership), &Inquiry::Hashes(at.into())).await;
        let hashes = |(node, finding)| match finding {
            Finding::Hashes(hashes) if hashes.version == INTEGRITY_VERSION && hashes.sound => {
                Some((node, hashes))
            }
            _ => None,
        };
        let mut found: BTreeMap<_, _> = findings.into_iter().filter_map(hashes).collect();
        if let Some(own) = self.own_hashes(at).await {
            found.insert(self.own(), own);
        }
        found
    }

    /// This node's hashes and those of `peer`.
    pub(super) async fn pair(&self, peer: NodeId, at: &[Index]) -> Option<(Hashes, Hashes)> {
        let mut findings = self.ask(vec![peer], &Inquiry::Hashes(at.into())).await;
        let Some(Finding::Hashes(theirs)) = findings.remove(&peer) else { return None };
        let own = self.own_hashes(at).await?;
        (theirs.version == INTEGRITY_VERSION).then_some((own, theirs))
    }

    /// This node's part of a chunk, and what it had applied then.
    pub(super) async fn own_chunk(&self, chunk: &Chunk) -> Option<(ChunkDigest, Index)> {
        let (reply, applied) = self.own_answer(&Query::Chunk(chunk.clone())).await?;
        let answer: ChunkAnswer = codec::decode(&reply).ok()?;
        Some((answer.ok()?, applied))
    }

    /// The others' part of a chunk.
    pub(super) async fn chunks(
        &self,
        nodes: Vec<NodeId>,
        chunk: &Chunk,
        applied: Index,
    ) -> BTreeMap<NodeId, ChunkDigest> {
        let findings = self.ask(nodes, &Inquiry::Chunk(chunk.clone(), applied)).await;
        let digest = |(node, finding)| match finding {
            Finding::Chunk(digest) if digest.version == INTEGRITY_VERSION => Some((node, digest)),
            _ => None,
        };
        findings.into_iter().filter_map(digest).collect()
    }

    /// This node's part of a roll.
    pub(super) async fn own_roll(&self, part: &RollPart) -> Option<RollDigest> {
        let (reply, _) = self.own_answer(&Query::Roll(part.clone())).await?;
        let answer: RollAnswer = codec::decode(&reply).ok()?;
        answer.ok()
    }

    /// The others' part of a roll.
    pub(super) async fn rolls(
        &self,
        nodes: Vec<NodeId>,
        part: &RollPart,
        applied: Index,
    ) -> BTreeMap<NodeId, RollDigest> {
        let findings = self.ask(nodes, &Inquiry::Roll(part.clone(), applied)).await;
        let digest = |(node, finding)| match finding {
            Finding::Roll(digest) if digest.version == INTEGRITY_VERSION => Some((node, digest)),
            _ => None,
        };
        findings.into_iter().filter_map(digest).collect()
    }

    /// All members but this node.
    pub(super) fn others(&self, membership: &Membership) -> Vec<NodeId> {
        let own = self.own();
        membership.members().keys().copied().filter(|node| *node != own).collect()
    }

    async fn own_hashes(&self, at: &[Index]) -> Option<Hashes> {
        let (reply, _) = self.own_answer(&Query::Hashes(at.into())).await?;
        codec::decode(&reply).ok()
    }

    pub(super) async fn own_answer(&self, query: &Query) -> Option<(Bytes, Index)> {
        let answer = self.node.query(codec::encode(query), ReadMode::Local);
        let answer = timeout(PATIENCE, answer).await.ok()?.ok()?;
        Some((answer.reply, answer.applied))
    }

    /// What each of `nodes` answers.
    async fn ask(&self, nodes: Vec<NodeId>, inquiry: &Inquiry) -> BTreeMap<NodeId, Finding> {
        let deadline_ms = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
        let body = RequestBody::Integrity(inquiry.clone());
        let frame = wire::encode_request(&Request { deadline_ms, body });
        let mut asked = JoinSet::new();
        for node in nodes {
            let answer = self.peers.call(self.group, node, frame.clone());
            asked.spawn(async move {
                let reply = timeout(PATIENCE, answer).await.ok()?.ok()?;
                match wire::decode_reply(&reply) {
                    Ok(Ok(ReplyBody::Integrity(finding))) => Some((node, finding)),
                    _ => None,
                }
            });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }
}
