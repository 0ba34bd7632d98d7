//! Turns what redb and the system report into [`StorageError`], and contains panics.
//!
//! Every corruption names the file and says what to do; nothing here decides whether to go on: an
//! error always stops the store.

use raft_core::log_store::StorageError;
use std::any::Any;
use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Under its old identity the node would count as the full voter it was, without what that voter
/// has promised and acknowledged: committed entries could be lost. On an empty directory it gets a
/// new one.
const ADVICE: &str = "a node must not vote with this log; where others hold the data, start it on \
                      an empty directory, as a new life of it that they take back";

/// A corruption of `path`: what was acknowledged may be missing or altered.
pub(crate) fn corrupt(path: &Path, what: impl Display) -> StorageError {
    StorageError::Corrupt(format!("{}: {what}; {ADVICE}", path.display()))
}

/// `path` begins as none that this version knows, and is whole.
pub(crate) fn newer(path: &Path) -> StorageError {
    let path = path.display();
    StorageError::Format(format!("{path} was written by a newer version of this program"))
}

/// What redb reported while `doing` something to `path`.
pub(crate) fn engine(path: &Path, doing: &str, error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        redb::Error::Io(source) => match source.kind() {
            io::ErrorKind::UnexpectedEof => corrupt(path, "the file ends early"),
            io::ErrorKind::InvalidData => corrupt(path, source),
            _ => StorageError::io(format!("{doing} {}", path.display()), source),
        },
        redb::Error::Corrupted(what) => corrupt(path, what),
        redb::Error::DatabaseAlreadyOpen => StorageError::InUse(path.display().to_string()),
        error @ (redb::Error::UpgradeRequired(_) | redb::Error::TableTypeMismatch { .. }) => {
            StorageError::Format(format!("{}: {error}", path.display()))
        }
        error => StorageError::Engine(format!("{doing} {}: {error}", path.display())),
    }
}

/// Runs `work` on `path`. redb may panic on a file that was damaged in ways its checksums did not
/// catch in time; such a panic is a finding about the file, not a reason to take the process down.
pub(crate) fn contain<T>(
    path: &Path,
    doing: &str,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    // Whatever `work` leaves half done is never used again: the caller drops or poisons it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic_text(panic.as_ref());
        Err(corrupt(path, format_args!("{doing} failed inside the engine ({said})")))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
