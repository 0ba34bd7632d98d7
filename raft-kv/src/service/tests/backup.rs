//! Backups: how many at a time, for how long, and of which checkpoint.

use super::super::backup::stream;
use super::*;
use crate::api::{BackupBegun, Command};
use crate::store::{BackupInfo, KvStore};
use raft_core::state_machine::StateMachine;
use raft_core::transport::{Duplex, FrameSource, StreamError};
use raft_core::types::{Entry, Payload, Run};
use std::io::Cursor;
use tempfile::TempDir;

/// What the fake node has applied.
const APPLIED: u64 = 12;

/// A store in a file with the entries up to `last`, each 64 KiB.
fn filled(last: u64) -> (TempDir, KvStore) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = KvStore::open(&directory.path().join("kv.redb")).unwrap();
    apply(&mut store, 1..=last);
    store.checkpoint().unwrap()().unwrap();
    (directory, store)
}

fn apply(store: &mut KvStore, indexes: impl IntoIterator<Item = u64>) {
    for index in indexes {
        let action = Action::Op(Op::Put(Put::new(format!("{index}"), vec![7; 64 * 1024])));
        let command = codec::encode(&Command { request: None, fence: None, action });
        let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
        store.apply(&Run::new(vec![entry]).unwrap());
    }
}

/// The client's end of a backup that has begun; little is sent before it is read.
fn begin(at: &Fixture) -> Duplex {
    let (client, served) = Duplex::pair(1024);
    let door = Arc::clone(&at.door);
    tokio::spawn(async move { stream(&door, false, served).await });
    client
}

async fn begun(source: &mut dyn FrameSource) -> Result<BackupBegun, KvError> {
    let first = source.receive().await.unwrap().expect("it says something");
    codec::decode::<Result<BackupBegun, KvError>>(&first).unwrap()
}

/// All that follows; an error if it ends early.
async fn rest(source: &mut dyn FrameSource) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(piece) = source.receive().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test(start_paused = true)]
async fn two_are_streamed_at_a_time() {
    let (_directory, store) = filled(APPLIED);
    let at = Fixture::of(Some(1), store.handle());
    let (mut one, mut other) = (begin(&at), begin(&at));
    for source in [&mut one.source, &mut other.source] {
        assert_eq!(begun(&mut **source).await.unwrap().last, LogId::new(APPLIED, 1));
    }
    let refused = begun(&mut *begin(&at).source).await.unwrap_err();
    assert!(refused.to_string().contains("try later"), "{refused}");
    // There is room again once one has gone; the other goes on.
    drop(one);
    let mut third = loop {
        let mut next = begin(&at);
        if begun(&mut *next.source).await.is_ok() {
            break next;
        }
        tokio::task::yield_now().await;
    };
    let both = tokio::join!(rest(&mut *other.source), rest(&mut *third.source));
    for bytes in [both.0, both.1] {
        let info = BackupInfo::read(Cursor::new(bytes.unwrap())).unwrap();
        assert_eq!(info.keys, APPLIED);
    }
    assert_eq!(at.node.checkpoints.load(Ordering::Relaxed), 0, "there was one already");
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_nothing_loses_its_place() {
    let (_directory, store) = filled(APPLIED);
    let at = Fixture::of(Some(1), store.handle());
    let mut stalled = [begin(&at), begin(&at)];
    for Duplex { source, .. } in &mut stalled {
        begun(&mut **source).await.unwrap();
    }
    let since = Instant::now();
    let mut taken = loop {
        let mut next = begin(&at);
        if begun(&mut *next.source).await.is_ok() {
            break next;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(since.elapsed() < Duration::from_secs(100_000), "it keeps its place");
    };
    assert!(since.elapsed() >= Duration::from_secs(29), "{:?}", since.elapsed());
    assert!(rest(&mut *taken.source).await.is_ok());
    // Whoever lost its place was not told that it was all.
    let [one, other] = &mut stalled;
    let (one, other) = (rest(&mut *one.source).await, rest(&mut *other.source).await);
    assert!(one.is_err() || other.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_asked_for_once_a_second_and_shared() {
    let (_directory, mut store) = filled(APPLIED - 1);
    let at = Fixture::of(Some(1), store.handle());
    let mut streams = [begin(&at), begin(&at)];
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(at.node.checkpoints.load(Ordering::Relaxed), 3);
    apply(&mut store, [APPLIED]);
    store.checkpoint().unwrap()().unwrap();
    for Duplex { source, .. } in &mut streams {
        assert_eq!(begun(&mut **source).await.unwrap().last, LogId::new(APPLIED, 1));
    }
    assert_eq!(at.node.checkpoints.load(Ordering::Relaxed), 3);
}
