//! put, get, del, cas, txn, status, transfer: what they print and how they end.

use crate::fake::{Cluster, Faults, printed};
use crate::parse;
use raft_cli::args::Verb;
use raft_cli::failure::{Failure, Kind};
use raft_cli::output::Format;
use raft_cli::verbs;
use std::io::Write;

/// Runs a command line of words against a cluster.
pub(crate) fn run(
    cluster: &Cluster,
    format: Format,
    words: &[&str],
) -> (String, Result<(), Failure>) {
    use clap::Parser;
    let cli = raft_cli::args::Cli::try_parse_from(["raft"].iter().chain(words)).expect("right");
    let store = cluster.client();
    printed(format, async |output| match &cli.verb {
        Verb::Put(args) => verbs::put::run(&store, args, output).await,
        Verb::Get(args) => verbs::get::run(&store, args, output).await,
        Verb::Del(args) => verbs::del::run(&store, args, output).await,
        Verb::Cas(args) => verbs::cas::run(&store, args, output).await,
        Verb::Txn(args) => verbs::txn::run(&store, args, output).await,
        Verb::Status(_) => verbs::status::run(&store, output).await,
        Verb::Member(args) => verbs::member::run(&store, args, output).await,
        Verb::Transfer(args) => verbs::transfer::run(&store, args, output).await,
        Verb::Completion(args) => verbs::completion::run(args, output),
        other => panic!("not a verb of a client: {other:?}"),
    })
}

pub(crate) fn table(cluster: &Cluster, words: &[&str]) -> String {
    let (text, outcome) = run(cluster, Format::Table, words);
    outcome.expect("done");
    text
}

pub(crate) fn json(cluster: &Cluster, words: &[&str]) -> String {
    let (text, outcome) = run(cluster, Format::Json, words);
    outcome.expect("done");
    text
}

#[test]
fn put_and_get() {
    let cluster = Cluster::new(Faults::default());
    assert_eq!(table(&cluster, &["put", "greeting", "hello"]), "put at revision 2\n");
    assert_eq!(json(&cluster, &["put", "-e", "bin\\x00", "\\xff"]), "{\"revision\":3}\n");
    assert_eq!(
        table(&cluster, &["get", "greeting"]),
        "KEY       VALUE  REVISION  CREATED  VERSION\n\
         greeting  hello         2        2        1\n"
    );
    assert_eq!(
        json(&cluster, &["get", "--prefix", ""]),
        "{\"revision\":3,\"count\":2,\"more\":false,\"kvs\":[\
         {\"key\":\"bin\\u0000\",\"value_b64\":\"/w==\",\"create_revision\":3,\
         \"mod_revision\":3,\"version\":1},\
         {\"key\":\"greeting\",\"value\":\"hello\",\"create_revision\":2,\
         \"mod_revision\":2,\"version\":1}]}\n"
    );
    assert_eq!(table(&cluster, &["get", "--raw", "greeting"]), "hello");
    assert_eq!(
        table(&cluster, &["get", "-e", "bin\\x00", "--keys-only"]).lines().last(),
        Some("bin\\x00         3        3        1")
    );
    assert_eq!(table(&cluster, &["get", "--prefix", "", "--count-only"]), "2\n");
    assert_eq!(table(&cluster, &["get", "a", "c", "--keys-only"]).lines().count(), 2);
    assert_eq!(table(&cluster, &["get", "--prefix", "none"]), "");
}

#[test]
fn a_missing_key_is_exit_code_1() {
    let cluster = Cluster::new(Faults::default());
    let (text, outcome) = run(&cluster, Format::Table, &["get", "a"]);
    let failure = outcome.expect_err("missing");
    assert_eq!((text.as_str(), failure.kind), ("", Kind::No));
    assert_eq!(failure.message, "no such key: a");
    let (text, outcome) = run(&cluster, Format::Json, &["get", "a"]);
    assert_eq!(outcome.expect_err("missing").kind, Kind::No);
    assert_eq!(text, "{\"revision\":1,\"count\":0,\"more\":false,\"kvs\":[]}\n");
    let (text, outcome) = run(&cluster, Format::Table, &["del", "a"]);
    assert_eq!(outcome.expect_err("missing").kind, Kind::No);
    assert_eq!(text, "deleted 0 keys at revision 1\n");
    assert_eq!(table(&cluster, &["del", "--prefix", "a"]), "deleted 0 keys at revision 1\n");
}

#[test]
fn get_reads_the_past_and_all_pages() {
    let cluster = Cluster::new(Faults::default());
    let value = "v".repeat(100_000);
    for number in 0..30 {
        table(&cluster, &["put", &format!("k{number:02}"), &value]);
    }
    table(&cluster, &["put", "k00", "new"]);
    assert_eq!(table(&cluster, &["get", "--prefix", "k", "--raw"]).len(), 29 * 100_000 + 3);
    assert_eq!(table(&cluster, &["get", "k00", "--raw", "--rev", "31"]).len(), 100_000);
    let limited = table(&cluster, &["get", "--prefix", "k", "--keys-only", "--limit", "25"]);
    assert_eq!(limited.lines().count(), 27);
    assert_eq!(limited.lines().last(), Some("25 of 30 keys"));
    let failure = run(&cluster, Format::Table, &["get", "k00", "--rev", "99"]).1;
    assert_eq!(failure.expect_err("to come").kind, Kind::Refused);
}

#[test]
fn delete_counts() {
    let cluster = Cluster::new(Faults::default());
    for key in ["a1", "a2", "b"] {
        table(&cluster, &["put", key, ""]);
    }
    assert_eq!(table(&cluster, &["del", "b"]), "deleted 1 key at revision 5\n");
    assert_eq!(json(&cluster, &["del", "-p", "a"]), "{\"deleted\":2,\"revision\":6}\n");
}

#[test]
fn compare_and_swap() {
    let cluster = Cluster::new(Faults::default());
    assert_eq!(table(&cluster, &["cas", "owner", "ann", "--if-absent"]), "set at revision 2\n");
    let (text, outcome) = run(&cluster, Format::Table, &["cas", "owner", "bob", "--if-absent"]);
    let failure = outcome.expect_err("it is there");
    assert_eq!(failure.kind, Kind::No);
    assert_eq!(failure.message, "condition not met: owner is at revision 2");
    assert!(text.contains("owner  ann "), "{text}");
    assert_eq!(
        json(&cluster, &["cas", "owner", "bob", "--if-value", "ann"]),
        "{\"revision\":3,\"succeeded\":true}\n"
    );
    let (text, outcome) = run(&cluster, Format::Json, &["cas", "owner", "x", "--if-rev", "2"]);
    assert_eq!(outcome.expect_err("changed").kind, Kind::No);
    assert!(text.contains("\"current\":{"), "{text}");
    assert_eq!(table(&cluster, &["cas", "owner", "x", "--if-rev", "3"]), "set at revision 4\n");
    let (text, outcome) = run(&cluster, Format::Table, &["cas", "none", "x", "--if-value", "y"]);
    assert_eq!(outcome.expect_err("absent").message, "condition not met: none does not exist");
    assert_eq!(text, "no such key\n");
}

#[test]
fn a_transaction_from_a_file() {
    let cluster = Cluster::new(Faults::default());
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be had");
    let text = r#"{"if": [{"key": "a", "version": 0}],
        "then": [{"put": {"key": "a", "value": "1"}}, {"delete": {"key": "b"}}],
        "else": [{"get": {"key": "a"}}]}"#;
    file.write_all(text.as_bytes()).expect("written");
    let name = file.path().to_str().expect("text").to_owned();
    assert_eq!(
        json(&cluster, &["txn", &name]),
        "{\"succeeded\":true,\"revision\":2,\
         \"replies\":[{\"put\":{}},{\"delete\":{\"deleted\":0}}]}\n"
    );
    let (text, outcome) = run(&cluster, Format::Table, &["txn", &name]);
    assert_eq!(outcome.expect_err("not met").kind, Kind::No);
    assert_eq!(
        text,
        "conditions not met: else, revision 2\n\
         1: get\n\
         KEY  VALUE  REVISION  CREATED  VERSION\n\
         a    1             2        2        1\n"
    );
    std::fs::write(&name, "{").expect("written");
    let failure = run(&cluster, Format::Table, &["txn", &name]).1.expect_err("malformed");
    assert_eq!(failure.kind, Kind::Usage);
}

#[test]
fn status_shows_every_member_once() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["put", "a", "1"]);
    let text = table(&cluster, &["status"]);
    let names: Vec<_> = text.lines().map(|line| line.split("  ").next().expect("one")).collect();
    assert_eq!(names[..4], ["NODE", "n1", "n2", "n3"], "{text}");
    let row: Vec<_> = text.lines().nth(3).expect("n3").split_whitespace().collect();
    assert_eq!(row[..4], ["n3", "n3:3", "unreachable", "-"], "{text}");
    assert!(text.lines().nth(2).expect("n2").contains("replicate"), "{text}");
    assert_eq!(text.lines().nth(4), Some("n3 at n3:3: connection refused"), "{text}");

    let json: serde_json::Value = serde_json::from_str(&json(&cluster, &["status"])).expect("JSON");
    let members = json["members"].as_array().expect("a list");
    assert_eq!(members.len(), 3);
    assert_eq!(members[0]["role"], "leader");
    assert_eq!(members[1]["progress"]["flow"], "replicate");
    assert_eq!(members[2]["reachable"], false);
    assert_eq!(members[2]["error"], "connection refused");
}

#[test]
fn no_member_is_exit_code_4() {
    let cluster = Cluster::new(Faults::default());
    let endpoints = vec!["nowhere:1".to_owned()];
    let connector = std::sync::Arc::new(cluster);
    let deadline = std::time::Duration::from_secs(60);
    let store = raft_cli::client::Store::new(connector, endpoints, deadline);
    let (text, outcome) =
        printed(Format::Table, async |output| verbs::status::run(&store, output).await);
    assert_eq!(outcome.expect_err("nobody").kind, Kind::Unavailable);
    assert!(text.contains("nowhere:1"), "{text}");
}

#[test]
fn no_quorum_is_said() {
    let cluster = Cluster::new(Faults { no_quorum: true, ..Faults::default() });
    let store = cluster.patient_client(std::time::Duration::from_millis(50));
    let args = parse!(Put, "put", "a", "1");
    let (_, outcome) =
        printed(Format::Table, async |output| verbs::put::run(&store, &args, output).await);
    let failure = outcome.expect_err("no quorum");
    assert_eq!(failure.kind, Kind::Unavailable);
    assert!(failure.message.contains("no quorum 1/3"), "{failure}");
}

#[test]
fn a_key_over_the_limit_is_refused_with_the_limit() {
    let cluster = Cluster::new(Faults::default());
    let failure = run(&cluster, Format::Table, &["put", &"k".repeat(40_000), "v"]).1;
    let failure = failure.expect_err("too long");
    assert_eq!(failure.kind, Kind::Refused);
    assert_eq!(failure.message, "key is 40000 bytes, over the limit of 32768");
    let failure = run(&cluster, Format::Table, &["put", "", "v"]).1.expect_err("empty");
    assert_eq!((failure.kind, failure.message.as_str()), (Kind::Refused, "key is empty"));
}

#[test]
fn transfer_and_completion() {
    let cluster = Cluster::new(Faults::default());
    assert_eq!(table(&cluster, &["transfer", "n2"]), "leadership handed to n2\n");
    assert_eq!(json(&cluster, &["transfer"]), "{\"to\":null}\n");
    assert!(table(&cluster, &["completion", "bash"]).contains("complete"));
}
