//! The last look at the nodes of a test: those that run have come to one state, entry by entry.
//!
//! The runtime of the test may have no thread left while it ends, so it is done in one of its own.

use super::support::{GUARD, ask, connector};
use raft_cli::demo::Cluster;
use raft_core::transport::{Channel, Connector};
use raft_core::types::{Index, NodeId};
use raft_kv::api::{
    Finding, HASHES_MAX, Hashes, Inquiry, KvError, NodeStatus, ReplyBody, RequestBody,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

/// How long a node that was paused, or has ended by itself, is waited for; the others answer.
const ANSWERS_MAX: Duration = Duration::from_secs(20);

/// A node that answers.
struct Living {
    id: NodeId,
    channel: Arc<dyn Channel>,
    status: NodeStatus,
}

/// Compares the nodes that run: how many were compared, and up to which entry.
///
/// # Errors
/// Who differs, or does not come as far as the others.
pub(super) fn at_the_end(processes: &Cluster) -> Result<(usize, Index), String> {
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())?.block_on(compare(processes))
        });
        looking.join().map_err(|_| "the last look panicked".to_owned())?
    })
}

async fn compare(processes: &Cluster) -> Result<(usize, Index), String> {
    let mut living = Vec::new();
    for id in processes.folder().ids().filter(|id| processes.is_running(*id)) {
        living.extend(timeout(ANSWERS_MAX, meet(processes, id)).await.ok().flatten());
    }
    let newest = living.iter().max_by_key(|one| one.status.last_applied);
    let Some(members) = newest.map(|one| one.status.members.clone()) else {
        return Ok((0, Index::ZERO));
    };
    living.retain(|one| members.iter().any(|member| member.id == one.id));
    let voters = members.iter().filter(|member| member.voter).count();
    let lives = |id| living.iter().any(|one| one.id == id);
    let goes_on = members.iter().filter(|member| member.voter && lives(member.id)).count();
    let (oldest, newest) = common(&living, goes_on * 2 > voters).await?;
    let all: Vec<Index> = (oldest..=newest).map(Index).collect();
    let mut known: BTreeMap<Index, (NodeId, u64)> = BTreeMap::new();
    for one in &living {
        for at in all.chunks(HASHES_MAX) {
            for (index, hash) in at.iter().zip(hashes(one, at.to_vec()).await?.at) {
                let Some(hash) = hash else { continue };
                let (other, equal) = *known.entry(*index).or_insert((one.id, hash));
                if hash != equal {
                    return Err(format!("{} and {other} after entry {index}", one.id));
                }
            }
        }
        no_alarm(one).await?;
    }
    Ok((living.len(), Index(newest)))
}

/// Connects to a node; `None` if it does not answer.
async fn meet(processes: &Cluster, id: NodeId) -> Option<Living> {
    let folder = processes.folder();
    let channel = connector(folder.dir()).connect(folder.address(id)).await.ok()?;
    match ask(channel.clone(), ANSWERS_MAX, RequestBody::Status).await {
        Ok(ReplyBody::Status(status)) => Some(Living { id, channel, status: *status }),
        _ => None,
    }
}

/// The entries that all of them keep the hash of: up to the newest of any, if `goes_on`.
async fn common(living: &[Living], goes_on: bool) -> Result<(u64, u64), String> {
    let mut target = 0;
    let reached = async {
        loop {
            let mut extents = Vec::new();
            for one in living {
                extents.push(hashes(one, Vec::new()).await?);
            }
            let oldest = extents.iter().map(|hashes| hashes.oldest.0.max(1)).max().unwrap_or(1);
            let newest = extents.iter().map(|hashes| hashes.newest.0).min().unwrap_or(0);
            if target == 0 {
                target = extents.iter().map(|hashes| hashes.newest.0).max().unwrap_or(0);
            }
            if !goes_on || newest >= target.max(oldest) || target == 0 {
                return Ok((oldest, newest));
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GUARD, reached).await.unwrap_or_else(|_| Err("they do not come to one entry".into()))
}

async fn hashes(one: &Living, at: Vec<Index>) -> Result<Hashes, String> {
    let inquiry = RequestBody::Integrity(Inquiry::Hashes(at));
    match ask(one.channel.clone(), GUARD, inquiry).await {
        Ok(ReplyBody::Integrity(Finding::Hashes(hashes))) => Ok(hashes),
        other => Err(format!("{} says {other:?}", one.id)),
    }
}

async fn no_alarm(one: &Living) -> Result<(), String> {
    match ask(one.channel.clone(), GUARD, RequestBody::Health).await {
        Ok(ReplyBody::Health(health)) => match health.integrity.alarm {
            Some(alarm) => Err(format!("{}: {alarm}", one.id)),
            None => Ok(()),
        },
        Ok(other) => Err(format!("{} says {other:?}", one.id)),
        Err(KvError::Unavailable(_)) => Ok(()),
        Err(error) => Err(format!("{} says {error}", one.id)),
    }
}
