//! Wherever the power goes while checkpoints are written and compacted changes are taken out of the
//! file, the last checkpoint that was acknowledged is there, or the one under way, whole.

use super::support::{Fed, contents, one, put_bytes, replayed, restored};
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, Payload, Run};
use raft_kv::api::*;
use raft_kv::store::KvStore;
use redb::StorageBackend;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{env, io};

/// A disk in memory that remembers what was done to it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    trace: Vec<Event>,
}

#[derive(Clone, Debug)]
enum Event {
    Write(u64, Vec<u8>),
    SetLength(u64),
    Flush,
    /// A checkpoint that covers so many entries was acknowledged.
    Acknowledged(usize),
}

impl Event {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let from = *offset as usize;
                bytes[from..from + data.len()].copy_from_slice(data);
            }
            Self::SetLength(length) => bytes.resize(*length as usize, 0),
            Self::Flush | Self::Acknowledged(_) => {}
        }
    }
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { bytes, trace: Vec::new() })))
    }

    fn note(&self, event: Event) {
        let mut inner = self.0.lock().unwrap();
        event.apply(&mut inner.bytes);
        inner.trace.push(event);
    }

    fn open(&self) -> KvStore {
        KvStore::with_backend(Path::new("kv.redb"), self.clone()).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock().unwrap();
        let bytes = inner.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Event::SetLength(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Event::Flush);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Event::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// Which of the writes since the last flush are on the disk.
#[derive(Clone, Copy, Debug)]
enum Kept {
    None,
    /// The first ones, and half of the next.
    Front,
    /// Every other.
    Some,
}

/// What a crash leaves of `durable` and what was written since.
fn image(durable: &[u8], since: &[Event], kept: Kept) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    for (number, event) in since.iter().enumerate() {
        match (event, kept) {
            (Event::Write(..), Kept::None) => {}
            (Event::Write(offset, data), Kept::Front) if number + 1 == since.len() => {
                Event::Write(*offset, data[..data.len() / 2].to_vec()).apply(&mut bytes);
            }
            (Event::Write(..), Kept::Some) if number % 2 == 1 => {}
            _ => event.apply(&mut bytes),
        }
    }
    bytes
}

/// A history of overwrites, deletions and compactions with a checkpoint now and then: its log, and
/// what was done to the disk.
fn history() -> (Vec<Entry>, Vec<Event>) {
    let disk = Disk::default();
    let mut fed = Fed { store: disk.open(), log: Vec::new() };
    for step in 0..240_u64 {
        let key = format!("k{}", step * 11 % 30);
        let _ = fed.run(match step % 12 {
            11 => Action::Compact(Revision(step * 2 / 3)),
            5 => Action::Op(Op::Delete { keys: one(&key), prev_kv: false }),
            _ => Action::Op(put_bytes(&key, vec![step as u8; 9000].into())),
        });
        if step % 20 == 19 {
            let covered = fed.checkpoint().last.index.0 as usize;
            disk.note(Event::Acknowledged(covered));
        }
    }
    let trace = std::mem::take(&mut disk.0.lock().unwrap().trace);
    (fed.log, trace)
}

/// Opens what a crash left after `acknowledged` entries were, with a checkpoint of `next` under
/// way.
fn check(bytes: Vec<u8>, log: &[Entry], acknowledged: usize, next: usize) {
    let disk = Disk::of(bytes);
    let store = disk.open();
    let covered = store.applied().last.index.0 as usize;
    assert!(covered == acknowledged || covered == next, "{covered}, not {acknowledged} or {next}");
    let expected = replayed(&log[..covered]);
    if covered > 0 {
        assert!(contents(&restored(&store).unwrap()) == contents(&expected), "at {covered}");
    }
    assert_eq!(store.summary().revision, expected.summary().revision);
    // It goes on from there.
    let mut fed = Fed { store, log: log.to_vec() };
    if let Some(run) = Run::new(log[covered..].to_vec()) {
        fed.store.apply(&run);
    }
    fed.entry(Payload::Noop);
    fed.checkpoint();
    let expected = replayed(&fed.log);
    drop(fed);
    let store = disk.open();
    assert!(contents(&restored(&store).unwrap()) == contents(&expected), "after {covered}");
}

#[test]
fn a_checkpoint_is_there_whole_or_not_at_all() {
    let slow = env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1");
    let (log, trace) = history();
    let next = |at: usize| {
        let acknowledged = trace[at..].iter().find_map(|event| match event {
            Event::Acknowledged(covered) => Some(*covered),
            _ => None,
        });
        acknowledged.unwrap_or(log.len())
    };
    let every = if slow { 1 } else { trace.len() / 16 };
    let (mut bytes, mut durable) = (Vec::new(), Vec::new());
    let (mut since, mut acknowledged) = (0, 0);
    for (at, event) in trace.iter().enumerate() {
        event.apply(&mut bytes);
        match event {
            Event::Flush => {
                durable.clone_from(&bytes);
                since = at + 1;
            }
            Event::Acknowledged(covered) => acknowledged = *covered,
            Event::Write(..) | Event::SetLength(_) => {}
        }
        if at % every == 0 && acknowledged > 0 {
            for kept in [Kept::None, Kept::Front, Kept::Some] {
                check(image(&durable, &trace[since..=at], kept), &log, acknowledged, next(at));
            }
        }
    }
}
