//! What the verbs do: from parsed arguments to printed results. One file per verb; each asks the
//! cluster through [`Store`](crate::client::Store) only, and prints through
//! [`Output`](crate::output::Output) only.

pub mod auth;
pub mod barrier;
pub mod broadcast;
pub mod cas;
pub mod compact;
pub mod completion;
pub mod config;
pub mod del;
pub mod doctor;
pub mod export;
pub mod get;
pub mod group;
pub mod health;
pub mod hold;
pub mod import;
pub mod lease;
pub mod member;
pub mod pages;
pub mod partition;
pub(crate) mod progress;
pub mod put;
pub mod queue;
pub mod scrub;
pub mod snapshot;
pub mod status;
pub mod transfer;
pub mod txn;
pub mod watch;

use crate::args::text::Escaped;
use crate::failure::Failure;
use bytes::Bytes;
use raft_kv::api::VALUE_BYTES_MAX;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// A value from the command line; `-` stands for stdin, whose bytes are taken as they are.
fn read_value(text: &OsStr, escaped: Escaped) -> Result<Bytes, Failure> {
    if text == "-" {
        return read_stdin(VALUE_BYTES_MAX as u64).map(Bytes::from);
    }
    escaped.bytes(text)
}

fn read_stdin(limit: u64) -> Result<Vec<u8>, Failure> {
    read_up_to(io::stdin().lock(), limit, "stdin")
}

pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let file = File::open(path);
    let file = file.map_err(|error| Failure::local(format!("cannot read {name}"), &error))?;
    read_up_to(file, limit, &name)
}

/// A file in the folder of `path`, to be renamed to it when it is complete; removed if dropped
/// before. Readable for those for whom a new file would be.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let readable = Permissions::from_mode(0o666);
    tempfile::Builder::new().permissions(readable).tempfile_in(folder)
}

/// Everything there is to read; more than `limit` bytes are refused, not cut off.
fn read_up_to(reader: impl Read, limit: u64, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local(format!("cannot read {name}"), &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::usage(format!("{name} is over the limit of {limit} bytes")));
    }
    Ok(bytes)
}
