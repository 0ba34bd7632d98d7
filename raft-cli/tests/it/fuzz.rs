//! The fuzz targets of this crate in a short run that is the same every time; see `fuzz/README.md`.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/target.rs"]
mod target;
#[path = "../../../fuzz/src/text.rs"]
mod text;

use replay::{plant, replay};
use text::TARGETS;

#[test]
fn changed_bytes_harm_nothing() {
    replay(TARGETS, |target, bytes| (target.run)(bytes));
}

#[test]
fn the_corpora_are_of_real_texts() {
    let [transaction, records, config, line] = TARGETS else { panic!("other targets") };
    let of = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    plant(transaction, of(&TRANSACTIONS));
    plant(records, of(&RECORDS));
    plant(config, of(&[CONFIG, ""]));
    plant(line, of(&LINES));
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

const LINES: [&str; 4] = [
    "put\nkey\nvalue",
    "get\n--prefix\na",
    "serve\n--data-dir\ndata\n--single",
    "-o\njson\nstatus",
];
