//! Exit codes, and errors of one line.

use clap::Parser;
use raft_cli::args::Cli;
use raft_cli::client;
use raft_cli::failure::{Failure, Kind};
use raft_cli::output::Format;
use raft_core::transport::CallError;
use raft_kv::api::{KvError, Revision};
use raft_kv::client::{Cause, ClientError};
use std::io;

fn usage(words: &[&str]) -> String {
    let error = Cli::try_parse_from(["raft"].iter().chain(words)).expect_err("wrong");
    raft_cli::usage(&error).line(Format::Table).expect("said")
}

#[test]
fn codes_are_as_documented() {
    let kinds = [
        (Kind::OutputClosed, 0),
        (Kind::No, 1),
        (Kind::Usage, 2),
        (Kind::Refused, 3),
        (Kind::Unavailable, 4),
        (Kind::Unknown, 5),
        (Kind::Local, 6),
    ];
    for (kind, code) in kinds {
        assert_eq!(kind.exit_code(), code, "{kind:?}");
    }
}

#[test]
fn what_the_client_knows_decides_the_code() {
    let not_done = ClientError::NotDone { reason: "h:1: no quorum".into(), source: None };
    assert_eq!(client::failure(not_done).kind, Kind::Unavailable);
    let source = Some(Cause::Call(CallError::Refused("distrusted".into())));
    let refused = ClientError::NotDone { reason: "h:1: distrusted".into(), source };
    assert_eq!(
        client::failure(refused).line(Format::Table).expect("said"),
        "error: h:1: distrusted; check --ca, --cert and --key"
    );
    let unknown = ClientError::Unknown { reason: "h:1: lost".into(), source: None };
    assert_eq!(client::failure(unknown).kind, Kind::Unknown);
    let future = KvError::FutureRevision { requested: Revision(9), current: Revision(3) };
    let failure = client::failure(ClientError::Refused(future));
    assert_eq!(
        failure.line(Format::Table).expect("said"),
        "error: revision 9 is in the future; the store is at 3; give an earlier --rev"
    );
    assert_eq!(failure.kind, Kind::Refused);
}

#[test]
fn an_error_is_one_line_whatever_its_cause() {
    let failure = Failure::new(Kind::Local, "two\nlines\u{1b}[31m\n").advice("do\r\nthis");
    assert_eq!(failure.line(Format::Table).expect("said"), "error: two lines\\u{1b}[31m; do  this");
}

#[test]
fn json_errors_are_objects() {
    let failure = Failure::new(Kind::No, "no such key: k");
    let line = failure.line(Format::Json).expect("said");
    assert_eq!(
        line,
        r#"{"error":{"advice":null,"code":1,"kind":"no","message":"no such key: k"}}"#
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    let failure = Failure::stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
    assert_eq!(failure.line(Format::Table), None);
    assert_eq!(failure.kind.exit_code(), 0);
    let failure = Failure::stdout(&io::Error::from(io::ErrorKind::StorageFull));
    assert_eq!(failure.kind, Kind::Local);
}

#[test]
fn a_wrong_command_line_is_one_line_too() {
    assert_eq!(
        usage(&["put", "k"]),
        "error: the following required arguments were not provided: <VALUE>; \
         usage: raft put <KEY> <VALUE>"
    );
    let line = usage(&["get", "k", "--limt", "3"]);
    assert!(line.starts_with("error: unexpected argument '--limt' found"), "{line}");
    assert!(line.contains("--limit"), "{line}");
    assert!(!line.contains('\n'), "{line}");
    let line = usage(&["cas", "k", "v"]);
    assert!(line.contains("--if-absent"), "{line}");
}
