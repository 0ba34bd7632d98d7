//! The conformance kit of [`StateMachine`]: do all replicas stay equal, whatever befalls them?
//!
//! [`check`] takes a function that makes a state machine and some commands of its own. It knows
//! nothing else of it, so it judges by replies: every machine that it makes, feeds, restores and
//! restarts must reply to the same entries alike. Commands that are worth giving change the state,
//! and reply with something that depends on it. Better still, tell it queries and a digest:
//!
//! ```
//! use bytes::Bytes;
//! use raft_core::state_machine::Journal;
//! use raft_core::testing::state_machine::{self, Check};
//!
//! let commands: Vec<Bytes> = (0..30).map(|number| format!("command {number}").into()).collect();
//! state_machine::check(Journal::new, &commands).unwrap();
//!
//! let report = Check::in_memory(Journal::new, &commands)
//!     .queries((1..=30_u64).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())))
//!     .run()
//!     .unwrap();
//! println!("{report}");
//! ```
//!
//! A machine that keeps its state in files is checked by [`Check::durable`], which restarts it too.
//!
//! # Rules
//!
//! | rule | what must hold |
//! |---|---|
//! | `replies` | one reply per entry, empty for an entry without a command |
//! | `deterministic` | sixteen new machines fed the same entries, in runs of any length, with and without queries in between, reply and answer alike: no randomness, no order of a hash map |
//! | `quick` | what `quick_query` answers is what `query` answers |
//! | `clock` | so does one that is fed more than a second later |
//! | `snapshot` | after every entry there is a snapshot, and it says what it covers, with the membership in force there; its stream stays as it was while the machine goes on |
//! | `restore` | restored after any entry, in a new machine and in one that held something else, it goes on as if it had applied all of it |
//! | `stream` | a stream that cannot be read is refused with [`StorageError::Stream`]; whatever is refused has changed nothing, and the machine goes on |
//! | `freeze` | a checkpoint holds what was applied when it was begun, even if it is written while, or after, more is applied |
//! | `restart` | (durable machines) after a restart at any entry, with a checkpoint now and then, `applied` is not below the last one, and what follows is applied exactly once: it goes on as if nothing had happened |
//! | `panics` | the machine does not panic |
//!
//! # What it does not check
//!
//! What the commands mean. What no reply, answer or digest shows. A clock that is looked at in
//! units of more than a second. Loss of power (give the machine a
//! [`Disk`](super::log_store::Disk) for that). Whether a damaged stream is noticed, which the
//! transport's checksum vouches for.
//!
//! [`StorageError::Stream`]: crate::log_store::StorageError::Stream
//! [`StateMachine`]: crate::state_machine::StateMachine

mod rules;
mod trial;

use super::breach::Breach;
use crate::state_machine::StateMachine;
use bytes::Bytes;
use std::fmt;
use std::path::Path;

/// Checks a state machine that lives in memory: `make` makes a new one, which holds nothing.
///
/// # Errors
/// The first rule that is broken.
pub fn check<M: StateMachine>(make: impl Fn() -> M, commands: &[Bytes]) -> Result<Report, Breach> {
    Check::in_memory(make, commands).run()
}

type Digest<'a, M> = dyn Fn(&M) -> u64 + 'a;

/// A check of a state machine, with all that can be told about it.
pub struct Check<'a, M> {
    /// Opens the machine in a directory, which those in memory take no notice of.
    open: Box<dyn Fn(&Path) -> M + 'a>,
    durable: bool,
    commands: Vec<Bytes>,
    queries: Vec<Bytes>,
    digest: Option<Box<Digest<'a, M>>>,
}

impl<'a, M: StateMachine> Check<'a, M> {
    /// Of a state machine that lives in memory: `make` makes a new one, which holds nothing.
    pub fn in_memory(make: impl Fn() -> M + 'a, commands: &[Bytes]) -> Self {
        let open = Box::new(move |_: &Path| make());
        let (commands, queries) = (commands.to_vec(), Vec::new());
        Self { open, durable: false, commands, queries, digest: None }
    }

    /// Of a state machine that lives in files: `open` opens it in a directory, which exists, and is
    /// blank or holds what such a machine has left there.
    pub fn durable(open: impl Fn(&Path) -> M + 'a, commands: &[Bytes]) -> Self {
        let (open, commands, queries) = (Box::new(open), commands.to_vec(), Vec::new());
        Self { open, durable: true, commands, queries, digest: None }
    }

    /// Queries whose answers must agree wherever the same was applied.
    #[must_use]
    pub fn queries(mut self, queries: impl IntoIterator<Item = Bytes>) -> Self {
        self.queries.extend(queries);
        self
    }

    /// A digest of the whole state, which must agree wherever the same was applied.
    #[must_use]
    pub fn digest(mut self, digest: impl Fn(&M) -> u64 + 'a) -> Self {
        self.digest = Some(Box::new(digest));
        self
    }

    /// Runs it. Takes time that grows with the square of the commands; some tens are well.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn run(&self) -> Result<Report, Breach> {
        rules::run(self)
    }
}

impl<M> fmt::Debug for Check<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (durable, commands) = (self.durable, self.commands.len());
        let mut text = f.debug_struct("Check");
        text.field("durable", &durable).field("commands", &commands).finish_non_exhaustive()
    }
}

/// What was tried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Entries of the log that was applied again and again.
    pub entries: usize,
    /// Machines that were made.
    pub machines: usize,
    /// Snapshots that were restored.
    pub restores: usize,
    /// Snapshots that were refused.
    pub refused: usize,
    /// Checkpoints that were written while, or after, more was applied.
    pub freezes: usize,
    /// Restarts.
    pub restarts: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, machines, restores, refused, freezes, restarts } = self;
        write!(f, "{entries} entries, {machines} machines, {restores} restores, ")?;
        write!(f, "{refused} snapshots refused, {freezes} late checkpoints, {restarts} restarts")
    }
}
