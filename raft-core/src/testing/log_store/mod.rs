//! The conformance kit of [`LogStore`]: does a log store keep what it acknowledges?
//!
//! [`check`] takes any store that lives in a directory. [`check_on_disk`] takes one that does its
//! input and output through a [`Disk`] of this kit, and puts it through power loss, failure and
//! damage as well: most stores can, with a small adapter, since engines let one replace what is
//! below them. Both return the first [`Breach`] they find.
//!
//! ```
//! use raft_core::log_store::{LogStore, MemoryLog, StorageError};
//! use raft_core::testing::log_store;
//! use std::path::Path;
//!
//! fn open(_: &Path) -> Result<impl LogStore + use<>, StorageError> {
//!     Ok(MemoryLog::new())
//! }
//!
//! // This one keeps nothing in its directory, and the kit tells:
//! let breach = log_store::check(open).unwrap_err();
//! assert_eq!(breach.rule, "identity");
//! assert!(breach.to_string().contains("the process ends right after write 1 of 3"));
//! ```
//!
//! For the whole of it, write to a [`Disk`] instead of to files:
//!
//! ```no_run
//! # use raft_core::log_store::{LogStore, StorageError};
//! # use raft_core::testing::log_store::{self, Disk, Extent};
//! # struct MyLog;
//! # impl LogStore for MyLog {
//! #     fn load(&mut self, _: raft_core::types::GroupId)
//! #         -> Result<raft_core::raft::Loaded, StorageError> { todo() }
//! #     fn write(&mut self, _: &[raft_core::raft::GroupOp]) -> Result<(), StorageError> { todo() }
//! # }
//! # fn todo() -> ! { panic!() }
//! # impl MyLog { fn on(_: log_store::DiskFile) -> Result<Self, StorageError> { todo() } }
//! let report = log_store::check_on_disk(|disk| MyLog::on(disk.file("log")), &Extent::default());
//! println!("{}", report.unwrap());
//! ```
//!
//! # Rules
//!
//! | rule | what must hold | where |
//! |---|---|---|
//! | `empty` | a new store holds nothing; writing nothing changes nothing | both |
//! | `identity` | the identity is kept | both |
//! | `append` | an append that continues the log drops nothing | both |
//! | `truncate` | an append drops what was at or above its first entry, for good | both |
//! | `term and vote` | they are as last written, whatever else is | both |
//! | `compact`, `reset` | the boundary moves, with its membership; the right entries go | both |
//! | `order` | the operations of a batch take effect in order | both |
//! | `groups` | groups do not see each other | both |
//! | `sizes`, `payloads`, `numbers` | any payload up to 2 MiB, and numbers up to the last | both |
//! | `gap` | an append that leaves a gap is refused, with all of its batch | both |
//! | `write` | random histories: what is loaded is what was written | both |
//! | `durable` | after a power loss at any change of the disk: every acknowledged write, and of the one under way all or nothing; it goes on from there, even if the power goes during recovery | disk |
//! | `failure` | after an operation of the disk fails, every write is refused and the disk left alone; opened again, `durable` holds | disk |
//! | `damage` | of a flipped bit, or a sector zeroed, misdirected or cut off: an error that says corrupt or format, or no effect at all | disk |
//! | `panics` | the store does not panic | both |
//!
//! `both` rules are tried with the process ending after every write (on a copy of the files, made
//! while the store is open) and with closing it. The kit calls a store as the node does: each group
//! is loaded once, before the first write; after an error nothing more is expected of it.
//!
//! # What it does not check
//!
//! Speed; locking against a second process; two faults at once, such as damage to what a power loss
//! left; a disk that confirms a flush it did not do; names: files of a [`Disk`] cannot be renamed.
//! And of a store in plain files nothing about flushes: the end of a process loses nothing that the
//! system was told.

mod contract;
mod disk;
mod hardship;
mod history;

pub(super) use contract::Scratch;
pub use disk::{CrashPoint, Disk, DiskFile, Loss, Operation, Recording};

use super::breach::Breach;
use crate::log_store::{LogStore, StorageError};
use std::fmt;
use std::path::Path;

/// How much is tried out on a [`Disk`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// What the histories follow from.
    pub seed: u64,
    /// Writes of the history whose power losses and damages are tried out; each of one to three
    /// operations.
    pub writes: usize,
    /// The power is lost at every so many changes of the disk: 1 for all of them, 0 for none.
    pub crash_every: usize,
    /// Runs in each of which one operation of the disk fails, spread evenly over a short history.
    pub failures: usize,
    /// Flipped bits; there is some grosser damage beside.
    pub flips: usize,
}

impl Default for Extent {
    /// Seconds for a store of usual speed.
    fn default() -> Self {
        Self { seed: 1, writes: 200, crash_every: 1, failures: 200, flips: 500 }
    }
}

/// What was tried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Scenarios of the contract.
    pub scenarios: usize,
    /// Points at which the power was lost.
    pub crash_points: usize,
    /// Power losses there, of different parts of what was not flushed.
    pub crashes: usize,
    /// Operations of the disk that failed.
    pub failures: usize,
    /// Bits that were flipped.
    pub flips: usize,
    /// Those of them that were noticed; the others had no effect.
    pub flips_noticed: usize,
    /// Grosser damage: sectors zeroed or misdirected, files cut off.
    pub gross: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenarios, crash_points, crashes, failures, flips, flips_noticed, gross } = self;
        write!(f, "{scenarios} scenarios, {crashes} power losses at {crash_points} points, ")?;
        write!(f, "{failures} failures, {flips} flipped bits ({flips_noticed} noticed), ")?;
        write!(f, "{gross} grosser damages")
    }
}

/// How the store under test is opened.
struct Store<'a, P, L> {
    open: &'a dyn Fn(&P) -> Result<L, StorageError>,
}

/// Checks a store that lives in a directory: the rules marked `both`. `open` is given directories
/// that exist, blank or with what such a store has left there.
///
/// # Errors
/// The first rule that is broken.
pub fn check<L: LogStore>(
    open: impl Fn(&Path) -> Result<L, StorageError>,
) -> Result<Report, Breach> {
    let open = |scratch: &Scratch| open(scratch.path());
    let scenarios = contract::check(&Store { open: &open })?;
    Ok(Report { scenarios, ..Report::default() })
}

/// Checks a store that lives on a [`Disk`]: all rules. `open` is given disks, blank or with what
/// such a store has left there.
///
/// # Errors
/// The first rule that is broken.
pub fn check_on_disk<L: LogStore>(
    open: impl Fn(&Disk) -> Result<L, StorageError>,
    extent: &Extent,
) -> Result<Report, Breach> {
    let store = Store { open: &open };
    let mut report = Report { scenarios: contract::check(&store)?, ..Report::default() };
    store.crashes(extent, &mut report)?;
    store.failures(extent, &mut report)?;
    store.damage(extent, &mut report)?;
    Ok(report)
}
