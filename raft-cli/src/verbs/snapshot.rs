//! `raft snapshot save` and `status`: a backup to a file, and what is in one.

use super::progress::Progress;
use super::temporary_beside;
use crate::args::snapshot::{SnapshotSave, SnapshotStatus};
use crate::directory::{failed, sync};
use crate::failure::{Failure, Kind};
use crate::output::Output;
use raft_core::log_store::StorageError;
use raft_core::transport::Connector;
use raft_kv::api::KvError;
use raft_kv::client::{Backup, BackupError};
use raft_kv::store::BackupInfo;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// Writes a backup of whichever of `endpoints` makes one first. A node that says nothing for
/// `patience` is given up.
///
/// # Errors
/// Of kind `Unavailable` if none does, `Local` if the file cannot be written. A file of that name
/// from before is then as it was.
pub async fn save(
    connector: &dyn Connector,
    endpoints: &[String],
    token: Option<&str>,
    patience: Duration,
    args: &SnapshotSave,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let path = &args.file;
    // Renaming over a device would replace it.
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        return Err(Failure::usage(format!("{} is not a file", path.display())));
    }
    let mut why = Vec::new();
    for endpoint in endpoints {
        match save_from(connector, endpoint, token, patience, args).await? {
            Ok(info) => return print(&info, path, "written to", output),
            Err(error) => why.push(format!("{endpoint}: {error}")),
        }
    }
    Err(Failure::new(Kind::Unavailable, format!("no backup was made: {}", why.join("; "))))
}

/// Tries one node; the inner error is its own.
async fn save_from(
    connector: &dyn Connector,
    endpoint: &str,
    token: Option<&str>,
    patience: Duration,
    args: &SnapshotSave,
) -> Result<Result<BackupInfo, BackupError>, Failure> {
    let path = &args.file;
    let write = |error: io::Error| failed("write", path, &error);
    let silent = || KvError::Unavailable(format!("no answer within {} s", patience.as_secs()));
    // Made before anything is asked for: a node need not work for a file that cannot be written.
    let mut file = temporary_beside(path).map_err(write)?;
    let begun = async {
        let channel = timeout(patience, connector.connect(endpoint)).await;
        let channel = channel.map_err(|_| silent())??;
        let begun = Backup::begin_as(channel, token, args.local);
        timeout(patience, begun).await.map_err(|_| silent())?
    };
    let mut backup = match begun.await {
        Ok(backup) => backup,
        Err(error) => return Ok(Err(error)),
    };
    let progress = Progress::of_bytes(backup.begun().bytes);
    let mut written = 0;
    loop {
        match timeout(patience, backup.next()).await {
            Ok(Ok(Some(bytes))) => {
                file.write_all(&bytes).map_err(write)?;
                written += bytes.len() as u64;
                progress.set(written, 0);
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(_) => return Ok(Err(silent().into())),
        }
    }
    drop(progress);
    file.as_file().sync_all().map_err(write)?;
    let again = file.reopen().map_err(write)?;
    let info = match BackupInfo::read(BufReader::new(again)) {
        Ok(info) => info,
        Err(error) => return Ok(Err(BackupError::Broken(error.to_string()))),
    };
    file.persist(path).map_err(|error| write(error.error))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or_else(|| Path::new(".")))?;
    Ok(Ok(info))
}

/// Checks a backup, and prints what is in it.
///
/// # Errors
/// Of kind `Local` if it is damaged or cannot be read.
pub fn status(args: &SnapshotStatus, output: &mut Output<'_>) -> Result<(), Failure> {
    let info = read(&args.file)?;
    print(&info, &args.file, "in", output)
}

/// What is in a backup; all of it is checked.
pub(crate) fn read(path: &Path) -> Result<BackupInfo, Failure> {
    let file = File::open(path).map_err(|error| failed("read", path, &error))?;
    BackupInfo::read(BufReader::new(file)).map_err(|error| damaged(path, &error))
}

pub(crate) fn damaged(path: &Path, error: &StorageError) -> Failure {
    Failure::new(Kind::Local, format!("{}: {error}", path.display()))
        .advice("use another backup; of this one nothing is to be trusted")
}

fn print(
    info: &BackupInfo,
    path: &Path,
    how: &str,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let size = path.metadata().map_err(|error| failed("read", path, &error))?.len();
    output.print(&json(info, size), || {
        let BackupInfo { revision, keys, changes, leases, state_hash, meta, version, .. } = info;
        let epoch = meta.membership.epoch();
        format!(
            "{keys} keys at revision {revision} {how} {}\n  {size} bytes, checksum ok, format \
             version {}\n  {changes} changes, {leases} leases, up to entry {}\n  history epoch \
             {epoch}, state hash {state_hash:016x}",
            path.display(),
            version.0,
            meta.last,
        )
    })
}

fn json(info: &BackupInfo, size: u64) -> Value {
    json!({
        "revision": info.revision,
        "compacted": info.compacted,
        "keys": info.keys,
        "changes": info.changes,
        "leases": info.leases,
        "bytes": size,
        "state_hash": format!("{:016x}", info.state_hash),
        "epoch": info.meta.membership.epoch(),
        "version": info.version.0,
        "last": { "index": info.meta.last.index.0, "term": info.meta.last.term.0 },
        "checksum": "ok",
    })
}
