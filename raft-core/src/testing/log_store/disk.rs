//! A disk in memory that remembers what was done to it.
//!
//! It hands out files, records every write and flush, fails when told to, and says what a power
//! loss may leave behind at any point of what it recorded. It never decides what a store must make
//! of that.

use crate::testing::Random;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The unit that a disk writes as a whole, in bytes: a write may be torn at its multiples.
const SECTOR_BYTES: u64 = 512;

type Files = BTreeMap<Arc<str>, Vec<u8>>;

/// A disk in memory, for a store that does its input and output through [`DiskFile`]. A clone is
/// another handle to the same disk.
///
/// What it models: the bytes of files, flushed file by file; a power loss keeps everything that was
/// flushed and any part of the rest, in any order, torn between sectors of 512 bytes. What it does
/// not model: names. A file is there from its first write on, or from [`Disk::create`], and cannot
/// be renamed or removed.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Files,
    /// What happened so far, if it is being recorded.
    trace: Option<Vec<Event>>,
    fault: Option<Fault>,
    operations: u64,
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Every such operation fails.
    Lasting(Operation, ErrorKind),
    /// The operation with this number fails; the next one succeeds.
    Once(u64),
}

/// What can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// [`DiskFile::read`].
    Read,
    /// [`DiskFile::write`].
    Write,
    /// [`DiskFile::set_len`].
    SetLen,
    /// [`DiskFile::flush`].
    Flush,
}

#[derive(Clone, Debug)]
enum Event {
    Create {
        file: Arc<str>,
        data: Vec<u8>,
    },
    Write {
        file: Arc<str>,
        offset: u64,
        data: Vec<u8>,
    },
    SetLen {
        file: Arc<str>,
        len: u64,
    },
    Flush(Arc<str>),
    /// What was not flushed before will not be by a later flush: so systems behave.
    FailedFlush(Arc<str>),
    /// Whoever uses the disk has got this far.
    Mark(usize),
}

impl Disk {
    /// A blank disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these files.
    fn of(files: Files) -> Self {
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    /// The file `name`. It is there from its first write on; an absent one has length 0.
    pub fn file(&self, name: &str) -> DiskFile {
        DiskFile { disk: self.clone(), name: name.into() }
    }

    /// Makes the file `name` hold `data`, at once as a whole and durably: what writing a temporary
    /// file, flushing it, renaming it and flushing the directory comes to.
    ///
    /// # Errors
    /// If the disk was told to fail; nothing has changed then.
    pub fn create(&self, name: &str, data: Vec<u8>) -> io::Result<()> {
        self.operate(Operation::Write, |state, fails| {
            outcome(fails)?;
            state.change(Event::Create { file: name.into(), data });
            Ok(())
        })
    }

    /// Names and lengths of the files.
    pub fn files(&self) -> Vec<(String, u64)> {
        let files = &self.lock().files;
        files.iter().map(|(name, bytes)| (name.to_string(), bytes.len() as u64)).collect()
    }

    /// A disk of its own with the same contents: what the end of a process leaves behind.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::of(self.lock().files.clone())
    }

    /// Changes the bytes of the file `name` behind the back of whoever uses it.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.lock().files.entry(name.into()).or_default());
    }

    /// From now on every `operation` fails with `kind`, until [`heal`](Self::heal). A write that
    /// fails may be done in part, by sectors.
    pub fn fail(&self, operation: Operation, kind: ErrorKind) {
        self.lock().fault = Some(Fault::Lasting(operation, kind));
    }

    /// The operation after the next `after` ones fails, once: a flush or read with an input/output
    /// error, a write or growth for want of space.
    pub fn fail_once(&self, after: u64) {
        let mut state = self.lock();
        state.fault = Some(Fault::Once(state.operations + after));
    }

    /// The disk works again.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// How many operations there were, failed ones included.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many writes, changes of length and flushes there were, failed ones included.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Begins to record, taking what is there as flushed.
    pub fn record(&self) -> Recording {
        let mut state = self.lock();
        state.trace = Some(Vec::new());
        Recording { disk: self.clone(), before: state.files.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation, and does it unless it is to fail.
    fn operate<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Option<ErrorKind>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let number = state.operations;
        state.operations += 1;
        state.changes += u64::from(operation != Operation::Read);
        let fails = match state.fault {
            Some(Fault::Lasting(which, kind)) => (which == operation).then_some(kind),
            Some(Fault::Once(which)) => (which == number).then_some(match operation {
                Operation::Read | Operation::Flush => ErrorKind::Other,
                Operation::Write | Operation::SetLen => ErrorKind::StorageFull,
            }),
            None => None,
        };
        work(&mut state, fails)
    }
}

impl State {
    fn change(&mut self, event: Event) {
        apply(&mut self.files, &event, |_| true);
        if let Some(trace) = &mut self.trace {
            trace.push(event);
        }
    }
}

/// One file of a [`Disk`].
#[derive(Clone, Debug)]
pub struct DiskFile {
    disk: Disk,
    name: Arc<str>,
}

impl DiskFile {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.disk.lock().files.get(&self.name).map_or(0, |bytes| bytes.len() as u64)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it.
    ///
    /// # Errors
    /// If the disk was told to fail.
    pub fn contents(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len() as usize];
        self.read(0, &mut bytes).map(|()| bytes)
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the file ends before; and if the disk was told to fail.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.operate(Operation::Read, |state, fails| {
            outcome(fails)?;
            let bytes = state.files.get(&self.name).map_or(&[][..], Vec::as_slice);
            let end = offset as usize + out.len();
            let found = bytes.get(offset as usize..end).ok_or(ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    /// Writes `data` at `offset`; a gap before it is filled with zeros. It need not survive a power
    /// loss before the next flush.
    ///
    /// # Errors
    /// If the disk was told to fail. Its first sectors may be there then.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.operate(Operation::Write, |state, fails| {
            let half = (offset + data.len() as u64 / 2) / SECTOR_BYTES * SECTOR_BYTES;
            let kept = match fails {
                Some(_) => half.saturating_sub(offset) as usize,
                None => data.len(),
            };
            let (file, data) = (Arc::clone(&self.name), data[..kept].to_vec());
            state.change(Event::Write { file, offset, data });
            outcome(fails)
        })
    }

    /// Cuts the file off at `len`, or extends it by zeros.
    ///
    /// # Errors
    /// If the disk was told to fail; nothing has changed then.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate(Operation::SetLen, |state, fails| {
            outcome(fails)?;
            state.change(Event::SetLen { file: Arc::clone(&self.name), len });
            Ok(())
        })
    }

    /// Makes every write to this file so far durable.
    ///
    /// # Errors
    /// If the disk was told to fail. What was written before can still be read, but no later flush
    /// makes it durable.
    pub fn flush(&self) -> io::Result<()> {
        self.disk.operate(Operation::Flush, |state, fails| {
            let file = Arc::clone(&self.name);
            state.change(match fails {
                Some(_) => Event::FailedFlush(file),
                None => Event::Flush(file),
            });
            outcome(fails)
        })
    }
}

/// What has happened to a [`Disk`] since [`Disk::record`].
#[derive(Debug)]
pub struct Recording {
    disk: Disk,
    before: Files,
}

impl Recording {
    /// Notes how far whoever uses the disk has got: see [`CrashPoint::mark`].
    pub fn mark(&self, mark: usize) {
        self.disk.lock().change(Event::Mark(mark));
    }

    /// Ends the recording and visits every point at which the power may go: before the first change
    /// of the disk, after each, in order, and at the end.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn replay<E>(self, mut visit: impl FnMut(&CrashPoint) -> Result<(), E>) -> Result<(), E> {
        let trace = self.disk.lock().trace.take().unwrap_or_default();
        let mut point =
            CrashPoint { number: 0, flushed: self.before, pending: Vec::new(), mark: None };
        for event in trace {
            if matches!(event, Event::Mark(_)) {
                // What is done next is done after it.
                point.advance(event);
                continue;
            }
            visit(&point)?;
            point.advance(event);
            point.number += 1;
        }
        visit(&point)
    }
}

/// A point at which the power may go.
#[derive(Debug)]
pub struct CrashPoint {
    number: usize,
    flushed: Files,
    /// What was done since, and not flushed.
    pending: Vec<Event>,
    mark: Option<usize>,
}

/// What a power loss takes of what was not flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Loss {
    /// All of it.
    All,
    /// Everything after some write, which is torn.
    Tail,
    /// Any writes, and any sectors of others.
    Scattered,
    /// Nothing: only the process has ended.
    Nothing,
}

impl Loss {
    /// Every kind of loss.
    pub const EACH: [Self; 4] = [Self::All, Self::Tail, Self::Scattered, Self::Nothing];
}

impl CrashPoint {
    /// How many changes of the disk came before.
    pub const fn number(&self) -> usize {
        self.number
    }

    /// The last mark before it, if there is one.
    pub const fn mark(&self) -> Option<usize> {
        self.mark
    }

    /// Whether something was done that is not flushed: if not, every loss leaves the same.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// What a power loss leaves here.
    pub fn image(&self, loss: Loss, random: &mut Random) -> Disk {
        let mut files = self.flushed.clone();
        let kept = match loss {
            Loss::All => 0,
            Loss::Tail => random.below(self.pending.len() as u64 + 1) as usize,
            Loss::Scattered | Loss::Nothing => self.pending.len(),
        };
        for (position, event) in self.pending[..kept].iter().enumerate() {
            match loss {
                Loss::Scattered => {
                    let (keeps, tears) = (random.once_in(2), random.once_in(3));
                    apply(&mut files, event, |_| if tears { random.once_in(2) } else { keeps });
                }
                Loss::Tail if position + 1 == kept => {
                    let mut whole = true;
                    apply(&mut files, event, |_| {
                        whole = whole && !random.once_in(3);
                        whole
                    });
                }
                _ => apply(&mut files, event, |_| true),
            }
        }
        Disk::of(files)
    }

    fn advance(&mut self, event: Event) {
        match &event {
            Event::Mark(mark) => self.mark = Some(*mark),
            Event::Flush(file) => {
                let flushed = self.pending.extract_if(.., |event| event.file() == Some(file));
                flushed.for_each(|event| apply(&mut self.flushed, &event, |_| true));
            }
            Event::Create { file, .. } => {
                self.pending.retain(|event| event.file() != Some(file));
                apply(&mut self.flushed, &event, |_| true);
            }
            Event::FailedFlush(file) => self.pending.retain(|event| event.file() != Some(file)),
            Event::Write { .. } | Event::SetLen { .. } => self.pending.push(event),
        }
    }
}

impl Event {
    const fn file(&self) -> Option<&Arc<str>> {
        match self {
            Self::Write { file, .. } | Self::SetLen { file, .. } => Some(file),
            Self::Create { .. } | Self::Flush(_) | Self::FailedFlush(_) | Self::Mark(_) => None,
        }
    }
}

fn outcome(fails: Option<ErrorKind>) -> io::Result<()> {
    fails.map_or(Ok(()), |kind| Err(kind.into()))
}

/// Does `event` to `files`; of a write only the sectors that `keeps` says, which is asked in order.
fn apply(files: &mut Files, event: &Event, mut keeps: impl FnMut(u64) -> bool) {
    match event {
        Event::Create { file, data } => drop(files.insert(Arc::clone(file), data.clone())),
        // The length is metadata: a write beyond the old end needs it.
        Event::SetLen { file, len } => {
            files.entry(Arc::clone(file)).or_default().resize(*len as usize, 0);
        }
        Event::Write { file, offset, data } => {
            let bytes = files.entry(Arc::clone(file)).or_default();
            let mut at = *offset;
            let end = offset + data.len() as u64;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if keeps(at / SECTOR_BYTES) {
                    if bytes.len() < next as usize {
                        bytes.resize(next as usize, 0);
                    }
                    let part = (at - offset) as usize..(next - offset) as usize;
                    bytes[at as usize..next as usize].copy_from_slice(&data[part]);
                }
                at = next;
            }
        }
        Event::Flush(_) | Event::FailedFlush(_) | Event::Mark(_) => {}
    }
}
