//! The last look at a cluster: its members have come to one state, entry by entry.
//!
//! It waits for an entry that all of them have applied, so that the end is compared, too; only
//! where no quorum of members is left are they compared as they are.

use raft_core::node::{Node, ReadMode};
use raft_core::transport::{Caller, ConnectionId, Service};
use raft_core::types::{Index, NodeId};
use raft_kv::api::{HASHES_MAX, Hashes, Query, ReplyBody, Request, RequestBody};
use raft_kv::codec;
use raft_kv::service::KvService;
use raft_kv::wire::{decode_reply, encode_request};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio::time::timeout;

/// For a node that hangs: it says nothing of how fast they are.
const GUARD: Duration = Duration::from_secs(60);

/// Looks at a cluster that is about to go. Its nodes run in `runtime`, which has several threads.
///
/// # Panics
/// If the members' states differ.
pub(crate) fn at_the_end<'a>(
    runtime: &Handle,
    nodes: impl IntoIterator<Item = &'a Node>,
    services: impl IntoIterator<Item = &'a KvService>,
) {
    let looked = block_in_place(|| runtime.block_on(compare(nodes, services)));
    if let Err(differs) = looked {
        panic!("the states of members differ: {differs}");
    }
}

/// Compares the members, and asks them what they have found out themselves.
///
/// # Errors
/// Who differs, or does not come as far as the others.
pub(crate) async fn compare<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    services: impl IntoIterator<Item = &'a KvService>,
) -> Result<(), String> {
    compare_hashes(nodes).await?;
    for service in services {
        no_alarm(service).await?;
    }
    Ok(())
}

/// Compares the hashes at every entry that all members among `nodes` keep one of.
///
/// # Errors
/// Who differs, or does not come as far as the others.
async fn compare_hashes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Result<(), String> {
    let mut living = Vec::new();
    for node in nodes {
        if let Some(hashes) = hashes_of(node, Vec::new(), ReadMode::Local).await {
            living.push((node, hashes));
        }
    }
    let newest = living.iter().max_by_key(|(_, hashes)| hashes.newest);
    let Some(membership) = newest.map(|(node, _)| node.status().membership.clone()) else {
        return Ok(());
    };
    living.retain(|(node, _)| membership.contains(id_of(node)));
    let lives = |id| living.iter().any(|(node, _)| id_of(node) == id);
    let goes_on = membership.is_quorum(lives);
    loop {
        let oldest = living.iter().map(|(_, hashes)| hashes.oldest.0.max(1)).max().unwrap_or(1);
        let newest = living.iter().map(|(_, hashes)| hashes.newest.0).min().unwrap_or(0);
        let target = living.iter().map(|(_, hashes)| hashes.newest).max().unwrap_or_default();
        if newest == target.0 || !goes_on {
            return compare_between(&living, oldest, newest).await;
        }
        for (node, hashes) in &mut living {
            let reached = hashes_of(node, Vec::new(), ReadMode::AtLeast(target));
            *hashes = timeout(GUARD, reached).await.ok().flatten().ok_or_else(|| {
                format!("{} has not applied {target}: {}", id_of(node), node.status())
            })?;
        }
        if living.iter().all(|(_, hashes)| hashes.oldest <= target) {
            return compare_between(&living, oldest, target.0).await;
        }
    }
}

async fn compare_between(
    living: &[(&Node, Hashes)],
    oldest: u64,
    newest: u64,
) -> Result<(), String> {
    let all: Vec<Index> = (oldest..=newest).map(Index).collect();
    let mut known: BTreeMap<Index, (NodeId, u64)> = BTreeMap::new();
    for (node, _) in living {
        let id = id_of(node);
        for at in all.chunks(HASHES_MAX) {
            // It may stop by itself meanwhile.
            let Some(found) = hashes_of(node, at.to_vec(), ReadMode::Local).await else { break };
            for (index, hash) in at.iter().zip(found.at) {
                let Some(hash) = hash else { continue };
                let (other, equal) = *known.entry(*index).or_insert((id, hash));
                if hash != equal {
                    return Err(format!("{id} and {other} after entry {index}"));
                }
            }
        }
    }
    Ok(())
}

/// The hashes of a node's state; `None` if it does not run.
async fn hashes_of(node: &Node, at: Vec<Index>, mode: ReadMode) -> Option<Hashes> {
    let found = node.query(codec::encode(&Query::Hashes(at)), mode).await.ok()?;
    codec::decode(&found.reply).ok()
}

fn id_of(node: &Node) -> NodeId {
    node.status().identity.node
}

/// What the node has found out itself: also where no quorum agrees.
async fn no_alarm(service: &KvService) -> Result<(), String> {
    let request = encode_request(&Request { deadline_ms: 10_000, body: RequestBody::Health });
    let reply = service.call(Caller::Client(ConnectionId(0)), request).await;
    let Ok(Ok(ReplyBody::Health(health))) = decode_reply(&reply) else { return Ok(()) };
    match health.integrity.alarm {
        Some(alarm) => Err(alarm.to_string()),
        None => Ok(()),
    }
}
