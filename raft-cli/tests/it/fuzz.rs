//! The fuzz targets of this crate in a short run that is the same every time; see `fuzz/README.md`.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/target.rs"]
mod target;
#[path = "../../../fuzz/src/text.rs"]
mod text;

use raft_cli::check::history::{Action, Ending, Fault, History, Operation, Workload};
use replay::{plant, replay};
use text::TARGETS;

#[test]
fn changed_bytes_harm_nothing() {
    replay(TARGETS, |target, bytes| (target.run)(bytes));
}

#[test]
fn the_corpora_are_of_real_texts() {
    let [transaction, records, config, line, yaml, history, ledger] = TARGETS else {
        panic!("other targets")
    };
    let of = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    plant(transaction, of(&TRANSACTIONS));
    plant(records, of(&RECORDS));
    plant(config, of(&[CONFIG, ""]));
    plant(line, of(&LINES));
    plant(yaml, of(&YAML));
    plant(history, histories());
    plant(ledger, of(&[r#"{"source":"source","lines":0}"#, r#"{"source":"source","lines":300}"#]));
}

const TRANSACTIONS: [&str; 4] = [
    r#"{"if":[{"key":"a","value":"1"},{"key":"b","version":0,"is":">"}],
        "then":[{"put":{"key":"a","value":"2","prev_kv":true}}],"else":[{"get":{"key":"a"}}]}"#,
    r#"{"if":[{"key":"a","range_end":"b","mod_revision":7,"is":"<"},
        {"key_b64":"AP8=","lease":"1f"}],"then":[{"delete":{"key":"a","prefix":true}}]}"#,
    r#"{"then":[{"txn":{"if":[{"key":"a","create_revision":0}],
        "then":[{"put":{"key":"a","value_b64":"AAE="}}]}}]}"#,
    "{}",
];

const RECORDS: [&str; 6] = [
    r#"j{"key":"k","value":"v"}"#,
    r#"j{"key_b64":"AP8=","value_b64":""}"#,
    "tkey\tvalue",
    r"tk\x00\t\n\\	\xff\r",
    "j",
    "t\r",
];

const CONFIG: &str = r#"
[serve]
data-dir = "data"
id = 2
cluster = ["n1=10.0.0.1:2380", "n2=10.0.0.2:2380"]
heartbeat-interval = "100ms"
election-timeout = "1s"
lease-reads = true

[client]
endpoints = ["10.0.0.1:2380"]
deadline = "1m 30s"
ca = "ca.pem"
"#;

const YAML: [&str; 4] = [
    "# a comment\nname: 'one'\ndata-dir:\nwal-dir: ~\nheartbeat-interval: 0100 # as written\n",
    "log-outputs: [stderr, default]\nclient-transport-security:\n  cert-file: a.pem\n",
    r#"{"name": "one", "pre-vote": true, "peer-transport-security": {"auto-tls": true}}"#,
    "initial-cluster: one=http://a:1,\n  two=http://b:1\nproxy: off\n",
];

/// Operations of every kind.
fn histories() -> Vec<Vec<u8>> {
    let operation = |workload, action, start, outcome| Operation {
        workload,
        client: start,
        key: "a".into(),
        action,
        start,
        end: start + 2,
        outcome,
        position: (outcome == Ending::Ok).then_some(9),
    };
    let read = |result| Action::Read { result, token: Some(4), revision: Some(7) };
    let write = |value| Action::Write { value, token: Some(4), revision: Some(7) };
    let cas = Action::Cas { expected: 1.into(), value: 2.into(), result: None };
    let of_values = vec![
        operation(Workload::Register, write(1.into()), 1, Ending::Ok),
        operation(Workload::Register, cas, 2, Ending::Unknown),
        operation(Workload::Register, read(1.into()), 3, Ending::Ok),
        operation(Workload::Append, Action::Append { value: "x".into() }, 4, Ending::Failed),
        operation(
            Workload::Set,
            Action::Add { value: 7.into(), result: Some(true) },
            5,
            Ending::Ok,
        ),
    ];
    let event = Action::Event { value: 1.into(), revision: 7 };
    let told = vec![
        operation(Workload::Watch, event, 1, Ending::Ok),
        operation(Workload::Watch, Action::Watched { after: 3, revision: 7 }, 2, Ending::Failed),
        operation(Workload::Lock, Action::Acquire { token: Some(4) }, 3, Ending::Ok),
        operation(Workload::Lock, Action::Release, 6, Ending::Ok),
    ];
    let (fault, what) = ("kill".to_owned(), "n1 is killed".to_owned());
    let faults = vec![Fault { fault, what, start: 5, made: Some(6), end: 9 }];
    let written = |history: History| {
        let mut bytes = Vec::new();
        history.write(&mut bytes).unwrap();
        bytes
    };
    let both = [
        History { seed: Some(7), operations: of_values, faults },
        History { seed: None, operations: told, faults: vec![] },
    ];
    both.map(written).into()
}

const LINES: [&str; 4] = [
    "put\nkey\nvalue",
    "get\n--prefix\na",
    "serve\n--data-dir\ndata\n--single",
    "-o\njson\nstatus",
];
