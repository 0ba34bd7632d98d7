//! Directories: their names, and that these are durable.

use crate::failure::Failure;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The names in `dir`, in no order.
pub(crate) fn names(dir: &Path) -> Result<Vec<OsString>, Failure> {
    let read = || -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    read().map_err(|error| failed("read", dir, &error))
}

/// Makes the names in `dir` durable, or what is in the file `dir`.
pub(crate) fn sync(dir: &Path) -> Result<(), Failure> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| failed("flush", dir, &error))
}

/// That `action`, as in `read`, failed on `path`.
pub(crate) fn failed(action: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot {action} {}", path.display()), error)
}
