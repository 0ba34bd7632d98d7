//! A disk in memory that remembers every write, so that a crash can be put anywhere, and that can
//! be told to fail.

use crate::support::Rng;
use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex};

/// Shared by the log that writes to it and the test that looks at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// What happened so far, if it is being recorded.
    trace: Option<Vec<Event>>,
    fail: Option<(Operation, io::ErrorKind)>,
    writes: u64,
}

/// What can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Read,
    Write,
    Grow,
    Sync,
}

/// Stands for a panic in place of an error.
pub(crate) const PANIC: io::ErrorKind = io::ErrorKind::Unsupported;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    /// The test had this many writes acknowledged.
    Acknowledged(usize),
}

impl Disk {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    pub(crate) fn recording() -> Self {
        Self(Arc::new(Mutex::new(State { trace: Some(Vec::new()), ..State::default() })))
    }

    /// What is on it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    pub(crate) fn acknowledged(&self, writes: usize) {
        self.note(|| Event::Acknowledged(writes));
    }

    pub(crate) fn take_trace(&self) -> Vec<Event> {
        self.0.lock().unwrap().trace.take().unwrap()
    }

    /// From now on every `operation` fails.
    pub(crate) fn fail(&self, operation: Operation, kind: io::ErrorKind) {
        self.0.lock().unwrap().fail = Some((operation, kind));
    }

    /// The disk works again.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().fail = None;
    }

    pub(crate) fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    fn note(&self, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.0.lock().unwrap().trace {
            trace.push(event());
        }
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        let fail = self.0.lock().unwrap().fail;
        match fail {
            Some((fails, PANIC)) if fails == operation => panic!("{operation:?} is to panic"),
            Some((fails, kind)) if fails == operation => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(Operation::Read)?;
        let state = self.0.lock().unwrap();
        let bytes = state.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(Operation::Grow)?;
        self.note(|| Event::SetLen(len));
        self.0.lock().unwrap().bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check(Operation::Sync)?;
        self.note(|| Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(Operation::Write)?;
        self.note(|| Event::Write(offset, data.to_vec()));
        let mut state = self.0.lock().unwrap();
        state.writes += 1;
        put(&mut state.bytes, offset, data);
        Ok(())
    }
}

/// Which of the writes since the last flush a crash leaves behind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// None of them.
    All,
    /// The first ones, the last of which in part.
    Tail,
    /// Some of them, and some in part.
    Some,
}

/// The disk after a crash that lost what `loss` says of `pending`.
pub(crate) fn crash(durable: &[u8], pending: &[Event], loss: Loss, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    let kept = match loss {
        Loss::All => 0,
        Loss::Tail => rng.below(pending.len() as u64 + 1) as usize,
        Loss::Some => pending.len(),
    };
    for (position, event) in pending[..kept].iter().enumerate() {
        let (keep, tear) = match loss {
            Loss::Some => (rng.below(2) == 0, rng.below(4) == 0),
            _ => (true, position + 1 == kept),
        };
        match event {
            // The length is metadata: without it a write beyond the old end cannot be kept either.
            Event::SetLen(len) => bytes.resize(*len as usize, 0),
            Event::Write(offset, data) if keep => {
                let sectors = (data.len() / 512) as u64;
                let kept = if tear { rng.below(sectors + 1) as usize * 512 } else { data.len() };
                put(&mut bytes, *offset, &data[..kept]);
            }
            _ => {}
        }
    }
    bytes
}

/// Makes `pending` durable.
pub(crate) fn flush(durable: &mut Vec<u8>, pending: &mut Vec<Event>) {
    for event in pending.drain(..) {
        match event {
            Event::SetLen(len) => durable.resize(len as usize, 0),
            Event::Write(offset, data) => put(durable, offset, &data),
            Event::Sync | Event::Acknowledged(_) => {}
        }
    }
}

fn put(bytes: &mut [u8], offset: u64, data: &[u8]) {
    bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
}
