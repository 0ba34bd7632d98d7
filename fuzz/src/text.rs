//! What people write: transactions, records to import, settings, command lines.

use super::target::Target;
use bytes::Bytes;
use clap::Parser;
use raft_cli::args::Cli;
use raft_cli::config::Config;
use raft_cli::records::{Format, Record, unescape};
use raft_cli::{output, transaction};
use raft_kv::api::Txn;
use raft_kv::codec::{decode, encode};
use std::cell::OnceCell;
use std::fs;
use tempfile::TempDir;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "cli_transaction", run: transaction, mutants: 500 },
    Target { name: "cli_records", run: records, mutants: 500 },
    Target { name: "cli_config", run: config, mutants: 20 },
    Target { name: "cli_line", run: line, mutants: 20 },
];

/// A transaction that is understood can be sent.
fn transaction(bytes: &[u8]) -> bool {
    let Ok(txn) = transaction::parse(bytes) else { return false };
    assert_eq!(decode::<Txn>(&encode(&txn)), Ok(txn));
    true
}

/// A line of a file to import, its first byte telling the format. What is read is written so that
/// it is read again, and printed so that it can be typed in.
fn records(bytes: &[u8]) -> bool {
    let (format, line) = match bytes.split_first() {
        Some((b'j', line)) => (Format::Jsonl, line),
        Some((b't', line)) => (Format::Tsv, line),
        _ => return false,
    };
    let printed = |bytes: &Bytes| unescape(output::printable(bytes).as_bytes());
    match format.parse(line) {
        Ok(Some(record)) => {
            let Record { key, value } = &record;
            let mut written = Vec::new();
            format.write(key, value, &mut written);
            assert_eq!(written.pop(), Some(b'\n'));
            assert_eq!((printed(key), printed(value)), (Ok(key.to_vec()), Ok(value.to_vec())));
            assert_eq!(format.parse(&written), Ok(Some(record)));
            true
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// A file of settings.
fn config(bytes: &[u8]) -> bool {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| TempDir::new().expect("a directory"));
        let path = folder.path().join("raft.toml");
        fs::write(&path, bytes).expect("room on disk");
        Config::load(Some(&path), |_| None).is_ok()
    })
}

/// A command line, a word a line.
fn line(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Cli::try_parse_from(["raft"].into_iter().chain(text.lines())) {
        Ok(_) => true,
        Err(error) => {
            assert!(!raft_cli::usage(&error).message.contains('\n'), "{error}");
            false
        }
    }
}
