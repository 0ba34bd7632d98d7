//! What people write: transactions, records to import, settings, command lines; and what programs
//! leave behind: histories to be judged, how far an import came.

use super::target::Target;
use bytes::Bytes;
use clap::Parser;
use raft_cli::args::Cli;
use raft_cli::check::history::History;
use raft_cli::config::Config;
use raft_cli::records::{Format, Record, unescape};
use raft_cli::serve::etcd_flags;
use raft_cli::verbs::import::ledger::{Ledger, Resume};
use raft_cli::{output, transaction};
use raft_kv::api::Txn;
use raft_kv::codec::{decode, encode};
use std::cell::OnceCell;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "cli_transaction", run: transaction, mutants: 500 },
    Target { name: "cli_records", run: records, mutants: 500 },
    Target { name: "cli_config", run: config, mutants: 20 },
    Target { name: "cli_line", run: line, mutants: 20 },
    Target { name: "cli_yaml", run: yaml, mutants: 500 },
    Target { name: "cli_history", run: history, mutants: 500 },
    Target { name: "cli_ledger", run: ledger, mutants: 50 },
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

/// Gives `read` a file of these bytes.
fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| TempDir::new().expect("a directory"));
        let path = folder.path().join("file");
        fs::write(&path, bytes).expect("room on disk");
        read(&path)
    })
}

/// A file of settings.
fn config(bytes: &[u8]) -> bool {
    with_file(bytes, |path| Config::load(Some(path), |_| None).is_ok())
}

/// etcd's configuration file. Every setting stands in some line and has a value.
fn yaml(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match etcd_flags::read_text(text) {
        Ok(lines) => {
            let last = text.split(['\n', '\r']).count();
            assert!(lines.iter().all(|it| (1..=last).contains(&it.line)), "{lines:?}");
            assert!(lines.iter().all(|it| it.values.iter().all(|value| !value.is_empty())));
            assert!(lines.iter().all(|it| !it.values.is_empty()), "{lines:?}");
            true
        }
        Err(_) => false,
    }
}

/// A history. What is read is written so that it is read again; every operation can be shown.
fn history(bytes: &[u8]) -> bool {
    match History::read(bytes, "history") {
        Ok(history) => {
            let mut written = Vec::new();
            history.write(&mut written).expect("memory takes it");
            assert_eq!(History::read(&written[..], "written").as_ref().ok(), Some(&history));
            let (first, last) = history.span();
            assert!(history.operations.is_empty() || first <= last);
            assert!(history.operations.iter().all(|operation| !operation.to_string().is_empty()));
            true
        }
        Err(failure) => {
            assert!(!failure.message.contains('\n'), "{}", failure.message);
            false
        }
    }
}

/// How far an import came. What goes on from there is found again.
fn ledger(bytes: &[u8]) -> bool {
    let resume = |path: &Path| Resume { path: path.to_owned(), source: "source".into() };
    with_file(bytes, |path| {
        let Ok(lines) = resume(path).load() else { return false };
        let mut ledger = Ledger::open(None, Some(resume(path))).expect("it was read before");
        assert_eq!(ledger.leading(), lines);
        if let Some(next) = lines.checked_add(1) {
            ledger.done(next);
            assert_eq!(ledger.leading(), next);
            ledger.save().expect("room on disk");
            assert_eq!(resume(path).load().ok(), Some(next));
        }
        true
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
