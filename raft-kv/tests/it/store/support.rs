//! A store that is fed like a node feeds it, and short ways to write requests.

use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{Snapshot, StateMachine};
use raft_core::types::{
    Entry, Index, LogId, Member, Membership, NodeId, Payload, Run, SnapshotMeta,
};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;
use std::io::{Cursor, Read};
use std::path::Path;

/// A store with the log it was fed.
pub(super) struct Fed {
    pub(super) store: KvStore,
    pub(super) log: Vec<Entry>,
}

impl Fed {
    pub(super) fn in_memory() -> Self {
        Self { store: KvStore::in_memory(), log: Vec::new() }
    }

    pub(super) fn at(path: &Path) -> Self {
        Self { store: KvStore::open(path).unwrap(), log: Vec::new() }
    }

    /// What a crash leaves: the file as it is and the log, replayed from the checkpoint on.
    pub(super) fn crash(self, path: &Path) -> Self {
        drop(self.store);
        let mut store = KvStore::open(path).unwrap();
        let applied = store.applied().last.index.0 as usize;
        if let Some(run) = Run::new(self.log[applied..].to_vec()) {
            store.apply(&run);
        }
        Self { store, log: self.log }
    }

    pub(super) fn entry(&mut self, payload: Payload) -> Bytes {
        let entry = Entry { id: LogId::new(self.log.len() as u64 + 1, 1), payload };
        self.log.push(entry.clone());
        self.store.apply(&Run::new(vec![entry]).unwrap()).remove(0)
    }

    pub(super) fn command(&mut self, request: Option<RequestId>, action: Action) -> CommandReply {
        let bytes = codec::encode(&Command { request, fence: None, action });
        codec::decode(&self.entry(Payload::Command(bytes))).unwrap()
    }

    pub(super) fn run(&mut self, action: Action) -> CommandReply {
        self.command(None, action)
    }

    pub(super) fn op(&mut self, op: Op) -> Result<(u64, OpReply), KvError> {
        match self.run(Action::Op(op))? {
            ActionReply::Op { revision, reply } => Ok((revision.0, reply)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> u64 {
        self.op(put(key, value)).unwrap().0
    }

    pub(super) fn delete(&mut self, keys: Keys) -> (u64, u64) {
        match self.op(Op::Delete { keys, prev_kv: false }).unwrap() {
            (revision, OpReply::Delete { deleted, .. }) => (revision, deleted),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn txn(&mut self, txn: Txn) -> Result<TxnReply, KvError> {
        match self.run(Action::Txn(txn))? {
            ActionReply::Txn(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn open_session(&mut self) -> SessionId {
        match self.run(Action::OpenSession).unwrap() {
            ActionReply::Session(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn read(&self, range: Range) -> RangeAnswer {
        read(&self.store, range)
    }

    pub(super) fn value(&self, key: &str) -> Option<String> {
        let reply = self.read(Range::of(one(key))).unwrap();
        reply.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
    }

    /// Makes a checkpoint and waits for it.
    pub(super) fn checkpoint(&mut self) -> SnapshotMeta {
        self.store.checkpoint().unwrap()().unwrap()
    }

    pub(super) fn hash(&self) -> u64 {
        self.store.summary().state_hash
    }
}

pub(super) fn read(store: &KvStore, range: Range) -> RangeAnswer {
    codec::decode(&store.query(&codec::encode(&Query::Range(range)))).unwrap()
}

pub(super) fn one(key: &str) -> Keys {
    Keys::One(Bytes::copy_from_slice(key.as_bytes()))
}

pub(super) fn between(start: &str, end: &str) -> Keys {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Keys::Range { start: bytes(start), end: Some(bytes(end)) }
}

pub(super) fn put(key: &str, value: &str) -> Op {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Op::Put(Put::new(bytes(key), bytes(value)))
}

pub(super) fn put_bytes(key: &str, value: Bytes) -> Op {
    Op::Put(Put::new(Bytes::copy_from_slice(key.as_bytes()), value))
}

pub(super) fn membership(address: &str) -> Membership {
    let member = Member { address: address.into(), ..Member::default() };
    Membership::of_voters([(NodeId(1), member)].into())
}

pub(super) fn bytes_of(snapshot: Snapshot) -> (SnapshotMeta, Vec<u8>) {
    let mut bytes = Vec::new();
    let Snapshot { meta, mut data } = snapshot;
    data.read_to_end(&mut bytes).unwrap();
    (meta, bytes)
}

pub(super) fn snapshot_of(meta: &SnapshotMeta, bytes: &[u8]) -> Snapshot {
    Snapshot { meta: meta.clone(), data: Box::new(Cursor::new(bytes.to_vec())) }
}

pub(super) fn restored(store: &KvStore) -> Result<KvStore, StorageError> {
    let mut other = KvStore::in_memory();
    other.restore(store.snapshot()?)?;
    Ok(other)
}

/// Everything a store holds, byte for byte: of a store in memory.
pub(super) fn contents(store: &KvStore) -> Vec<u8> {
    bytes_of(store.snapshot().unwrap()).1
}

/// A store in memory that was fed `log` in one run.
pub(super) fn replayed(log: &[Entry]) -> KvStore {
    let mut store = KvStore::in_memory();
    if let Some(run) = Run::new(log.to_vec()) {
        store.apply(&run);
    }
    store
}

pub(super) fn last_index(store: &KvStore) -> Index {
    store.applied().last.index
}
