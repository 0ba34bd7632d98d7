//! What is left of data that cannot be used: moved aside within its directory. Only the newest are
//! kept, so that a disk that damages data again and again is not filled with copies of it.
//!
//! A node whose data was moved aside comes back blank, as a new life that the others take back. It
//! must never help to form a cluster again: the one it belonged to may still live, or be made
//! whole from what others hold. So the folder is there, durably, before the first file is moved,
//! and as long as it is there nothing is formed. Wherever a crash strikes, the next start finds
//! the folder, and either nothing, or a log and a checkpoint that again cannot be used together.

use super::SNAPSHOT_DIR;
use super::credentials::MADE_HERE;
use super::etcd_flags::identity::FILE as MEMBER_FILE;
use crate::directory::{failed, names, sync};
use crate::failure::{Failure, Kind};
use raft_storage_redb::{ACK_FILE, FileLock, LOCK_FILE, LOG_FILE, TAIL_FILE};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use tracing::warn;

/// What the folders' names begin with; a number follows.
const FOLDER: &str = "damaged-";
/// How many of the folders are kept: what was found last, and once before.
const FOLDERS_MAX: usize = 2;

/// Whether data was ever moved aside in `dir`.
pub(super) fn was_moved_aside(dir: &Path) -> Result<bool, Failure> {
    Ok(names(dir)?.iter().any(is_folder))
}

/// Moves everything in `dir` into a new folder of it, and says which. Durable on return. Of the
/// folders that are there then, all but the newest [`FOLDERS_MAX`] are removed.
///
/// # Errors
/// Of kind `Local` if another process uses `dir`, or the system refuses: what was moved by then
/// stays moved, and the next start goes on with it.
pub(super) fn move_aside(dir: &Path) -> Result<PathBuf, Failure> {
    let _lock = lock(dir)?;
    let names = names(dir)?;
    let folder = new_folder(dir, &names)?;
    // The log goes first and for good: a log without its checkpoint could look like one that is
    // whole, a checkpoint without its log never does.
    let first = [LOG_FILE, TAIL_FILE, ACK_FILE].map(OsString::from);
    let there = |name: &&OsString| names.contains(*name);
    move_all(dir, &folder, first.iter().filter(there))?;
    // Snapshots that were coming in are nobody's data yet; the transport tidies them up.
    // Nor is who the node is, and what it proves that with.
    let stays = [LOCK_FILE, SNAPSHOT_DIR, MEMBER_FILE, MADE_HERE].map(OsString::from);
    let rest =
        |name: &&OsString| !first.contains(*name) && !stays.contains(*name) && !is_folder(name);
    move_all(dir, &folder, names.iter().filter(rest))?;
    remove_old(dir, names);
    Ok(folder)
}

/// Removes folders of before the one just made. Where that fails the disk is fuller than it need
/// be, and that is all: the next time it is tried again.
fn remove_old(dir: &Path, names: Vec<OsString>) {
    let mut old: Vec<(u64, OsString)> =
        names.into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    old.sort_unstable();
    old.truncate((old.len() + 1).saturating_sub(FOLDERS_MAX));
    for (_, name) in old {
        let folder = dir.join(name);
        match fs::remove_dir_all(&folder) {
            Ok(()) => warn!(
                "{} was removed: of data moved aside only the last {FOLDERS_MAX} are kept",
                folder.display()
            ),
            Err(error) => warn!("{} cannot be removed: {error}", folder.display()),
        }
    }
}

fn move_all<'a>(
    dir: &Path,
    folder: &Path,
    names: impl Iterator<Item = &'a OsString>,
) -> Result<(), Failure> {
    for name in names {
        let (from, to) = (dir.join(name), folder.join(name));
        fs::rename(&from, &to).map_err(|error| failed("move", &from, &error))?;
    }
    sync(folder)?;
    sync(dir)
}

/// A folder that is not there yet, with a number above those of all that are.
fn new_folder(dir: &Path, names: &[OsString]) -> Result<PathBuf, Failure> {
    let last = names.iter().filter_map(number).max().unwrap_or(0);
    let folder = dir.join(format!("{FOLDER}{}", last.saturating_add(1)));
    fs::create_dir(&folder).map_err(|error| failed("make", &folder, &error))?;
    sync(dir)?;
    Ok(folder)
}

/// The number of a folder; `None` of anything else, also of what was renamed to be kept.
fn number(name: &OsString) -> Option<u64> {
    name.to_str()?.strip_prefix(FOLDER)?.parse().ok()
}

fn is_folder(name: &OsString) -> bool {
    name.to_string_lossy().starts_with(FOLDER)
}

/// Keeps nodes out while files are moved; the lock file itself stays where it is.
fn lock(dir: &Path) -> Result<FileLock, Failure> {
    let path = dir.join(LOCK_FILE);
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| failed("open", &path, &error))?;
    match FileLock::exclusive(file) {
        Ok(lock) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let text = format!("{} is in use by another process", dir.display());
            Err(Failure::new(Kind::Local, text))
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
    }
}
