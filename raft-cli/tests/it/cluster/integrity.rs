//! A member whose data is not like the others', with all checksums right: found, and replaced.

use super::damage::{NEEDLE, comes_back, damaged};
use super::support::{GUARD, TestCluster, ask};
use raft_core::types::{Index, NodeId};
use raft_kv::api::{Finding, HASHES_MAX, Hashes, Health, Inquiry, Reply, ReplyBody, RequestBody};
use redb::{Database, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use xxhash_rust::xxh3::xxh3_64;

const CHANGES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("changes");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Flips a bit of one value in the checkpoint, and makes every checksum right again: what a broken
/// memory would have written.
fn flip_a_bit_unnoticed(dir: &Path) {
    let database = Database::open(dir.join("kv.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut changes = transaction.open_table(CHANGES).unwrap();
        let (mut digest, mut found) = (0, None);
        for row in changes.iter().unwrap() {
            let (position, row) = row.unwrap();
            let row = row.value();
            digest ^= checksum(row);
            let needle = row.windows(NEEDLE.len()).position(|part| part == NEEDLE.as_bytes());
            found = found.or_else(|| needle.map(|at| (position.value(), row.to_vec(), at)));
        }
        let (position, mut row, at) = found.expect("the checkpoint holds the value");
        let other = digest ^ checksum(&row);
        row[at] ^= 1;
        seal(&mut row);
        changes.insert(position, &row[..]).unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        let mut header = meta.get("checkpoint").unwrap().unwrap().value().to_vec();
        // The digest of all rows stands somewhere in it.
        let (old, new) = (varint(digest), varint(other ^ checksum(&row)));
        let at = header.windows(old.len()).position(|part| part == old).unwrap();
        header.splice(at..at + old.len(), new);
        seal(&mut header);
        meta.insert("checkpoint", &header[..]).unwrap();
    }
    transaction.commit().unwrap();
}

fn checksum(row: &[u8]) -> u64 {
    u64::from_le_bytes(row[..8].try_into().unwrap())
}

fn seal(row: &mut [u8]) {
    let checksum = xxh3_64(&row[8..]);
    row[..8].copy_from_slice(&checksum.to_le_bytes());
}

/// An integer as postcard writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

async fn inquire(cluster: &TestCluster, id: NodeId, inquiry: Inquiry) -> Finding {
    match asked(cluster, id, RequestBody::Integrity(inquiry)).await {
        Ok(ReplyBody::Integrity(finding)) => finding,
        other => panic!("{other:?}"),
    }
}

async fn health(cluster: &TestCluster, id: NodeId) -> Health {
    match asked(cluster, id, RequestBody::Health).await {
        Ok(ReplyBody::Health(health)) => *health,
        other => panic!("{other:?}"),
    }
}

async fn asked(cluster: &TestCluster, id: NodeId, body: RequestBody) -> Reply {
    ask(cluster.channel(id).await, GUARD, body).await
}

async fn hashes(cluster: &TestCluster, id: NodeId, at: Vec<Index>) -> Hashes {
    match inquire(cluster, id, Inquiry::Hashes(at)).await {
        Finding::Hashes(hashes) => hashes,
        other => panic!("{other:?}"),
    }
}

/// Has a node look at all data, and waits until it has; there must be nothing wrong.
async fn scrub_finds_nothing(cluster: &TestCluster, id: NodeId) {
    let before = health(cluster, id).await.integrity.scrubs;
    inquire(cluster, id, Inquiry::Scrub).await;
    let looked = async {
        loop {
            let integrity = health(cluster, id).await.integrity;
            assert_eq!((integrity.alarm, integrity.divergent), (None, vec![]), "{id}");
            if integrity.scrubs > before {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GUARD, looked).await.expect("the pass comes to its end");
}

/// The hashes of all nodes at every index that two of them know.
async fn all_hashes_agree(cluster: &TestCluster) {
    let mut known = BTreeMap::new();
    for id in cluster.processes.folder().ids() {
        let extent = hashes(cluster, id, Vec::new()).await;
        let all: Vec<Index> = (extent.oldest.0..=extent.newest.0).map(Index).collect();
        for at in all.chunks(HASHES_MAX) {
            let found = hashes(cluster, id, at.to_vec()).await;
            for (index, hash) in at.iter().zip(found.at) {
                let hash = hash.expect("so few are all kept");
                assert_eq!(*known.entry(*index).or_insert(hash), hash, "{id} at {index}");
            }
        }
    }
    assert!(!known.is_empty());
}

/// One flipped bit in one member: the first look at all data finds it, and the member gets its
/// data from the others, in the same process, without anybody's help.
#[tokio::test]
async fn a_member_that_differs_restores_itself() {
    let (mut cluster, id, life) = damaged(flip_a_bit_unnoticed).await;
    cluster.processes.start(id).await.unwrap();
    let process = cluster.processes.process_id(id);
    cluster.observer.converged(GUARD).await.unwrap();
    // No hash tells of it, and nothing at the start did.
    all_hashes_agree(&cluster).await;
    assert!(!cluster.log_of(id).contains("damaged-1"));
    inquire(&cluster, id, Inquiry::Scrub).await;
    comes_back(&cluster, id, life).await;
    assert_eq!(cluster.processes.process_id(id), process, "in the same process");
    let log = cluster.log_of(id);
    let told = log.lines().find(|line| line.contains("is not to be trusted")).expect("it is told");
    assert!(told.contains("\"key") && told.contains("at revision"), "{told}");
    assert!(log.contains("damaged-1"), "{log}");
    assert!(cluster.processes.folder().data_dir(id).join("damaged-1").join("kv.redb").exists());
    for id in cluster.processes.folder().ids().collect::<Vec<_>>() {
        scrub_finds_nothing(&cluster, id).await;
    }
    all_hashes_agree(&cluster).await;
    // It counts: with it, one of the others may fail.
    cluster.processes.kill(cluster.others(id)[0]).await;
    cluster.put("after", "written").await;
}

/// Told to stop on damage, it stops, and touches nothing.
#[tokio::test]
async fn a_member_that_differs_stops_if_it_is_told_to() {
    let (mut cluster, id, _) = damaged(flip_a_bit_unnoticed).await;
    cluster.processes.start_with(id, &["--on-damage", "stop"]).await.unwrap();
    cluster.observer.converged(GUARD).await.unwrap();
    inquire(&cluster, id, Inquiry::Scrub).await;
    let ended = timeout(GUARD, cluster.processes.wait(id)).await.expect("it ends");
    assert_eq!(ended.and_then(|status| status.code()), Some(6));
    let log = cluster.log_of(id);
    assert!(log.contains("error: ") && log.contains("--on-damage rejoin"), "{log}");
    assert!(!cluster.processes.folder().data_dir(id).join("damaged-1").exists());
    cluster.put("still", "here").await;
}
