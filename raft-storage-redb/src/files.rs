//! The files of a log: how they are made, locked, and told to belong together.

use crate::database::OpenDatabase;
use crate::error::{corrupt, engine};
use crate::lock::FileLock;
use crate::side_file::{Acknowledged, Said, SideFile};
use crate::tail::{Image, TailFile};
use raft_core::log_store::StorageError;
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// File name of the database.
pub const LOG_FILE: &str = "log.redb";
/// File name of the newest rows.
pub const TAIL_FILE: &str = "log.tail";
/// File name of the last acknowledged sequence number.
pub const ACK_FILE: &str = "log.ack";
/// File name of the lock.
pub const LOCK_FILE: &str = "log.lock";

/// What is wrong with a log that had a tail.
pub(crate) const TAIL_IS_MISSING: &str = "it is missing, and with it the newest rows perhaps";

/// Makes `dir` if missing and keeps everyone else out.
pub(crate) fn lock(dir: &Path) -> Result<FileLock, StorageError> {
    if !dir.is_dir() {
        fs::create_dir_all(dir)
            .map_err(|error| StorageError::io(format!("making {}", dir.display()), error))?;
        dir.parent().map_or(Ok(()), sync_dir)?;
    }
    let path = dir.join(LOCK_FILE);
    let failed = |error| StorageError::io(format!("locking {}", path.display()), error);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match FileLock::exclusive(file) {
        Ok(lock) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(dir.display().to_string())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes an empty log where there is none: the tail first, then the side file, then the database,
/// each as a whole or not at all. So wherever a crash strikes, a database without one of the others
/// was not left behind by us, but for one without a tail, of when there were none.
pub(crate) fn create(dir: &Path) -> Result<(), StorageError> {
    let [path, tail] = [LOG_FILE, TAIL_FILE].map(|name| dir.join(name));
    if exists(&path)? {
        if !exists(&tail)? {
            may_lack_tail(dir)?;
            create_tail(dir, &tail)?;
        }
        return Ok(());
    }
    match SideFile::peek(&dir.join(ACK_FILE))?.map(|said| said.acknowledged.row) {
        // Whatever tail is there belongs to a log that is gone.
        None => create_tail(dir, &tail)?,
        Some(0) => match Image::find(&tail)? {
            None => create_tail(dir, &tail)?,
            Some(image) => unused(&path, &image)?,
        },
        Some(row) => {
            return Err(corrupt(&path, format_args!("is gone, row {row} was acknowledged")));
        }
    }
    create_side_file(dir)?;
    create_database(dir, &path)
}

/// Refuses to begin a log that its tail shows to have been there.
fn unused(path: &Path, tail: &Image) -> Result<(), StorageError> {
    match tail.is_used() {
        true => Err(corrupt(path, format_args!("is gone, {TAIL_FILE} continues it"))),
        false => Ok(()),
    }
}

fn exists(path: &Path) -> Result<bool, StorageError> {
    let exists = path.try_exists();
    exists.map_err(|error| StorageError::io(format!("opening {}", path.display()), error))
}

/// Refuses a log that had a tail, and has none.
fn may_lack_tail(dir: &Path) -> Result<(), StorageError> {
    match SideFile::peek(&dir.join(ACK_FILE))? {
        Some(Said { has_tail: true, .. }) => Err(corrupt(&dir.join(TAIL_FILE), TAIL_IS_MISSING)),
        _ => Ok(()),
    }
}

fn create_side_file(dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(ACK_FILE);
    if SideFile::peek(&path)?.is_none() {
        SideFile::create(&path)?;
        sync_dir(dir)?;
    }
    Ok(())
}

fn create_tail(dir: &Path, path: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::io(format!("making {}", path.display()), error);
    let partial = path.with_extension("tail.new");
    let mut file = File::create(&partial).map_err(failed)?;
    let made = file.write_all(&TailFile::blank()).and_then(|()| file.sync_all());
    made.and_then(|()| fs::rename(&partial, path)).map_err(failed)?;
    sync_dir(dir)
}

fn create_database(dir: &Path, path: &Path) -> Result<(), StorageError> {
    let partial = path.with_extension("redb.new");
    let failed = |error| StorageError::io(format!("making {}", path.display()), error);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&partial).map_err(failed)?;
    let backend = FileBackend::new(file).map_err(|error| engine(&partial, "making", error))?;
    OpenDatabase::open(&partial, backend, false)?.close()?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    sync_dir(dir)
}

/// The file at `path` as redb takes it.
pub(crate) fn backend(path: &Path) -> Result<FileBackend, StorageError> {
    let failed = |error| StorageError::io(format!("opening {}", path.display()), error);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    forget_cached(&file).map_err(failed)?;
    FileBackend::new(file).map_err(|error| engine(path, "opening", error))
}

/// Has what is read from `file` be what is on the disk: after a flush that failed memory may have
/// more, and call it clean.
fn forget_cached(file: &File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Advice, fadvise};
        fadvise(file, 0, None, Advice::DontNeed)?;
        // Nearly all of it is read now, page by page: the disk brings it in larger pieces. It is
        // no more than advice.
        let _ = fadvise(file, 0, None, Advice::WillNeed);
    }
    Ok(())
}

/// Makes what a log needs beside an empty `database` and an empty `tail`.
pub(crate) fn create_in(
    dir: &Path,
    database: &impl StorageBackend,
    tail: &impl StorageBackend,
) -> Result<(), StorageError> {
    let failed = |error| StorageError::io("opening the log", error);
    let is_new = database.len().map_err(failed)? == 0;
    if is_new {
        create_side_file(dir)?;
    }
    if tail.len().map_err(failed)? > 0 {
        if is_new {
            unused(&dir.join(LOG_FILE), &Image::read(&dir.join(TAIL_FILE), tail)?)?;
        }
    } else {
        if !is_new {
            may_lack_tail(dir)?;
        }
        let blank = TailFile::blank();
        let made = tail.set_len(blank.len() as u64).and_then(|()| tail.write(0, &blank));
        made.and_then(|()| tail.sync_data()).map_err(failed)?;
    }
    Ok(())
}

/// The side file that belongs to the database in `backend`, once it is certain that both are ours.
pub(crate) fn pair(
    dir: &Path,
    path: &Path,
    backend: &impl StorageBackend,
) -> Result<(SideFile, Said), StorageError> {
    const MAGIC: &[u8] = b"redb\x1a\n\xa9\r\n";
    let failed = |error| StorageError::io(format!("reading {}", path.display()), error);
    let len = backend.len().map_err(failed)?;
    let mut magic = [0; MAGIC.len()];
    if len >= MAGIC.len() as u64 {
        backend.read(0, &mut magic).map_err(failed)?;
    }
    let is_redb = magic == MAGIC;
    match SideFile::open(&dir.join(ACK_FILE))? {
        Some((_, Said { acknowledged: Acknowledged { row, .. }, .. })) if row > 0 && len == 0 => {
            Err(corrupt(path, format_args!("is empty, row {row} was acknowledged")))
        }
        Some(_) if len > 0 && !is_redb => Err(corrupt(path, "does not begin as a redb file")),
        Some(opened) => Ok(opened),
        None if is_redb => Err(corrupt(
            path,
            format_args!("{ACK_FILE} is missing beside it, so nobody knows what was acknowledged"),
        )),
        None => Err(StorageError::Format(format!("{} is not a redb file", path.display()))),
    }
}

/// Makes the names in `dir` durable.
fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    // Only Unix lets a directory be opened and flushed.
    if !cfg!(unix) {
        return Ok(());
    }
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| StorageError::io(format!("flushing {}", dir.display()), error))
}
