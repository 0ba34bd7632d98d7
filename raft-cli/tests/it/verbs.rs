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
        Verb::Health(_) => verbs::health::run(&store, output).await,
        Verb::Scrub(args) => verbs::scrub::run(&store, args, output).await,
        Verb::Member(args) => verbs::member::run(&store, args, output).await,
        Verb::Auth(args) => verbs::auth::auth(&store, args, output).await,
        Verb::User(args) => verbs::auth::user(&store, args, output).await,
        Verb::Role(args) => verbs::auth::role(&store, args, output).await,
        Verb::Transfer(args) => verbs::transfer::run(&store, args, output).await,
        Verb::Compact(args) => verbs::compact::run(&store, args, output).await,
        Verb::Lease(args) => verbs::lease::run(&store, args, output).await,
        Verb::Queue(args) => verbs::queue::run(&store, args, output).await,
        Verb::Barrier(args) => verbs::barrier::run(&store, args, output).await,
        Verb::Group(args) => verbs::group::run(&store, args, output).await,
        Verb::Partition(args) => verbs::partition::run(&store, args, output).await,
        Verb::Broadcast(args) => verbs::broadcast::broadcast(&store, args, output).await,
        Verb::Subscribe(args) => verbs::broadcast::subscribe(&store, args, output).await,
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

/// To count keys that are not returned the cluster has to go through all of them.
#[test]
fn keys_are_counted_only_where_that_is_printed() {
    let cluster = Cluster::new(Faults::default());
    for number in 0..4 {
        table(&cluster, &["put", &format!("k{number}"), &"v".repeat(400_000)]);
    }
    let get = ["get", "-p", "k", "--keys-only"];
    let limited = [&get[..], &["--limit", "3"]].concat();
    table(&cluster, &get);
    for words in [&get[..], &limited] {
        run(&cluster, Format::Simple, words).1.expect("done");
    }
    run(&cluster, Format::Json, &[&["get", "-p", "k", "--raw", "--limit", "1"][..]].concat())
        .1
        .expect("done");
    let whole = json(&cluster, &["get", "-p", "k"]);
    assert!(whole.contains("\"count\":4,\"more\":false"), "all pages are counted");
    assert_eq!(cluster.counting(), 0);
    assert!(table(&cluster, &limited).ends_with("3 of 4 keys\n"));
    assert!(json(&cluster, &limited).contains("\"count\":4,\"more\":true"));
    let filtered = json(&cluster, &[&get[..], &["--min-mod-rev", "4"]].concat());
    assert!(filtered.contains("\"count\":4,"), "those left out count, too: {filtered}");
    assert_eq!(cluster.counting(), 3);
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

/// Five keys: `k1` to `k4`, `k2` twice, and `other`.
fn five_keys() -> Cluster {
    let cluster = Cluster::new(Faults::default());
    for (key, value) in [("k1", "d"), ("k2", "a"), ("k3", "c"), ("k4", "b"), ("other", "")] {
        table(&cluster, &["put", key, value]);
    }
    table(&cluster, &["put", "k2", "e"]);
    cluster
}

/// The keys that a read printed, in the order printed.
fn keys(cluster: &Cluster, words: &[&str]) -> Vec<String> {
    let words = [&["-o", "simple", "get", "--keys-only", "-p", "k"], words].concat();
    let (text, outcome) = run(cluster, Format::Simple, &words);
    outcome.expect("done");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn get_sorts() {
    let cluster = five_keys();
    assert_eq!(keys(&cluster, &[]), ["k1", "k2", "k3", "k4"]);
    assert_eq!(keys(&cluster, &["--order", "desc"]), ["k4", "k3", "k2", "k1"]);
    assert_eq!(keys(&cluster, &["--sort-by", "value"]), ["k4", "k3", "k1", "k2"]);
    assert_eq!(keys(&cluster, &["--sort-by", "mod", "--order", "desc", "-l", "1"]), ["k2"]);
    assert_eq!(keys(&cluster, &["--sort-by", "create"]), ["k1", "k2", "k3", "k4"]);
    assert_eq!(
        keys(&cluster, &["--sort-by", "version", "--order", "desc", "-l", "2"]),
        ["k2", "k1"]
    );
}

/// What one reply cannot hold is read in the order of keys and sorted here.
#[test]
fn get_sorts_what_no_reply_holds() {
    let cluster = Cluster::new(Faults::default());
    for number in [3, 1, 4, 2, 5] {
        table(&cluster, &["put", &format!("k{number}"), &"v".repeat(400_000)]);
    }
    assert_eq!(table(&cluster, &["get", "-p", "k", "--raw", "--order", "desc"]).len(), 2_000_000);
    let newest = ["get", "-p", "k", "--sort-by", "create", "--limit", "4"];
    let text = run(&cluster, Format::Simple, &newest).0;
    let found: Vec<_> = text.lines().step_by(2).collect();
    assert_eq!(found, ["k3", "k1", "k4", "k2"]);
}

#[test]
fn get_leaves_out_by_revision() {
    let cluster = five_keys();
    assert_eq!(keys(&cluster, &["--min-mod-rev", "4"]), ["k2", "k3", "k4"]);
    assert_eq!(keys(&cluster, &["--min-mod-rev", "4", "--max-mod-rev", "5"]), ["k3", "k4"]);
    assert_eq!(keys(&cluster, &["--max-create-rev", "3"]), ["k1", "k2"]);
    assert_eq!(keys(&cluster, &["--min-create-rev", "6"]), [""; 0]);
    let count = ["get", "-p", "k", "--count-only", "--min-create-rev", "6"];
    assert_eq!(table(&cluster, &count), "4\n", "they count all the same");
}

/// A single key that is there, but is not of the revisions asked for.
#[test]
fn a_single_key_that_is_left_out_is_exit_code_1() {
    let cluster = five_keys();
    let (text, outcome) = run(&cluster, Format::Table, &["get", "k1", "--min-mod-rev", "99999"]);
    let failure = outcome.expect_err("left out");
    assert_eq!((text.as_str(), failure.kind), ("", Kind::No));
    assert_eq!(failure.message, "not of these revisions: k1");
}

#[test]
fn a_range_may_have_no_end() {
    let cluster = five_keys();
    assert_eq!(table(&cluster, &["get", "k3", "", "--count-only"]), "3\n");
    assert_eq!(table(&cluster, &["get", "k1", "k3", "--count-only"]), "2\n");
    let deleted = ["del", "k1", "--range-end", "k3", "--prev-kv"];
    assert_eq!(
        table(&cluster, &deleted),
        "deleted 2 keys at revision 8\n\
         KEY  VALUE  REVISION  CREATED  VERSION\n\
         k1   d             2        2        1\n\
         k2   e             7        3        2\n"
    );
    let rest = ["-o", "simple", "del", "k3", "--range-end", "", "--prev-kv"];
    assert_eq!(run(&cluster, Format::Simple, &rest).0, "3\nk3\nc\nk4\nb\nother\n\n");
}

#[test]
fn reads_that_may_be_old_say_so() {
    let cluster = five_keys();
    let text = table(&cluster, &["get", "k1", "--consistency", "serializable"]);
    assert_eq!(text.lines().last(), Some("as of revision 7, at most 13 ms old"));
    let text = table(&cluster, &["get", "none", "-p", "--serializable", "--print-token"]);
    assert_eq!(text, "as of revision 7, at most 13 ms old\ntoken 3:7\n");
    let text = json(&cluster, &["get", "k1", "--keys-only", "--token", "3:7"]);
    assert!(text.contains(r#""token":"3:7","staleness_ms":13}"#), "{text}");
    let text = table(&cluster, &["get", "k1", "--print-token"]);
    let end: Vec<_> = text.lines().skip(2).collect();
    assert_eq!(end, ["as of revision 7", "token 3:7"]);
    let (text, _) = run(&cluster, Format::Simple, &["get", "k1", "--print-token"]);
    assert_eq!(text, "k1\nd\n3:7\n");
    let (text, _) = run(&cluster, Format::Simple, &["get", "k1", "--serializable"]);
    assert_eq!(text, "k1\nd\n", "shells get what they asked for");
    let count = json(&cluster, &["get", "-p", "k", "--count-only", "--serializable"]);
    assert_eq!(count, "{\"count\":4,\"revision\":7,\"staleness_ms\":13,\"token\":\"3:7\"}\n");

    let failure = run(&cluster, Format::Table, &["get", "k1", "--token", "2:7"]).1;
    let failure = failure.expect_err("of another history");
    assert_eq!(failure.kind, Kind::Refused);
    assert_eq!(failure.advice.as_deref(), Some("read without --token, and print a new one"));
    let failure = run(&cluster, Format::Table, &["get", "k1", "--consistency", "causal"]).1;
    assert_eq!(failure.expect_err("no token").kind, Kind::Usage);
    let both = ["get", "k1", "--consistency", "linearizable", "--token", "3:7"];
    assert_eq!(run(&cluster, Format::Table, &both).1.expect_err("both").kind, Kind::Usage);
}

#[test]
fn put_keeps_and_returns_what_was_there() {
    let cluster = five_keys();
    let text = table(&cluster, &["put", "k2", "f", "--prev-kv"]);
    assert_eq!(
        text,
        "put at revision 8\n\
         KEY  VALUE  REVISION  CREATED  VERSION\n\
         k2   e             7        3        2\n"
    );
    let text = json(&cluster, &["put", "new", "f", "--prev-kv"]);
    assert_eq!(text, "{\"prev_kv\":null,\"revision\":9}\n");
    assert_eq!(run(&cluster, Format::Simple, &["put", "new", "g"]).0, "OK\n");
    table(&cluster, &["put", "new", "--ignore-value"]);
    assert_eq!(table(&cluster, &["get", "--raw", "new"]), "g");
    let failure = run(&cluster, Format::Table, &["put", "absent", "--ignore-value"]).1;
    let failure = failure.expect_err("there is nothing to keep");
    assert_eq!((failure.kind, &*failure.message), (Kind::Refused, "key not found: absent"));
}

#[test]
fn sequential_keys_are_told() {
    let cluster = Cluster::new(Faults::default());
    let first = table(&cluster, &["put", "job/", "a", "--sequential"]);
    assert_eq!(first, "job/00000000000000000002 put at revision 2\n");
    let (second, _) = run(&cluster, Format::Simple, &["put", "job/", "b", "--sequential"]);
    assert_eq!(second, "job/00000000000000000003\n");
    let third = json(&cluster, &["put", "job/", "c", "--sequential"]);
    assert_eq!(third, "{\"key\":\"job/00000000000000000004\",\"revision\":4}\n");
}

#[test]
fn a_write_behind_a_lost_lock_is_refused() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["put", "lock:1", ""]);
    let fenced = ["put", "stock", "7", "--fence", "lock:1:2"];
    assert_eq!(table(&cluster, &fenced), "put at revision 3\n");
    table(&cluster, &["del", "lock:1", "--fence", "lock:1:2"]);
    table(&cluster, &["put", "lock:1", ""]);
    let late: [&[&str]; 3] = [
        &fenced,
        &["del", "stock", "--fence", "lock:1:2"],
        &["cas", "stock", "8", "--if-value", "7", "--fence", "lock:1:2"],
    ];
    for words in late {
        let failure = run(&cluster, Format::Table, words).1.expect_err("too late");
        assert_eq!(failure.kind, Kind::Refused, "{failure}");
        assert!(failure.message.contains("not held any more"), "{failure}");
        assert!(failure.advice.is_some());
    }
    assert_eq!(table(&cluster, &["get", "--raw", "stock"]), "7");
    for wrong in ["lock", "lock:", ":5", "lock:0", "lock:x"] {
        let failure = run(&cluster, Format::Table, &["put", "a", "b", "--fence", wrong]).1;
        assert_eq!(failure.expect_err("malformed").kind, Kind::Usage, "{wrong}");
    }
}

#[test]
fn a_transaction_in_plain_lines() {
    let cluster = five_keys();
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be had");
    let text = r#"{"if": [{"key": "k", "prefix": true, "version": 0, "is": ">"}],
        "then": [{"put": {"key": "k1", "value": "new", "prev_kv": true}},
                 {"txn": {"if": [{"key": "k1", "value": "old"}],
                          "else": [{"get": {"key": "k1"}}]}},
                 {"delete": {"key": "k2", "range_end": "k4"}}]}"#;
    file.write_all(text.as_bytes()).expect("written");
    let name = file.path().to_str().expect("text").to_owned();
    let (lines, outcome) = run(&cluster, Format::Simple, &["txn", &name]);
    outcome.expect("done");
    assert_eq!(lines, "SUCCESS\n\nOK\nk1\nd\n\nFAILURE\n\nk1\nnew\n\n2\n");
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
    let store = "store: 98 B of 2.0 GiB, 1 key at revision 2, nothing compacted, 0 leases";
    assert_eq!(text.lines().nth(4), Some(store), "{text}");
    assert_eq!(text.lines().nth(5), Some("n3 at n3:3: connection refused"), "{text}");
    let (simple, _) = run(&cluster, Format::Simple, &["status"]);
    assert_eq!(
        simple,
        "n1:1, n1, 0.1.0, 98 B, true, false, 1, 2, 2, \n\
         n2:2, n2, 0.1.0, 98 B, false, false, 1, 2, 2, \n\
         n3:3, n3, , , , , , , , connection refused\n"
    );

    let json: serde_json::Value = serde_json::from_str(&json(&cluster, &["status"])).expect("JSON");
    let members = json["members"].as_array().expect("a list");
    assert_eq!(members.len(), 3);
    assert_eq!(members[0]["role"], "leader");
    assert_eq!(members[1]["progress"]["flow"], "replicate");
    assert_eq!(members[0]["bytes"], 98);
    assert_eq!(members[0]["quota"], 1_u64 << 31);
    assert_eq!((&members[0]["compacted"], &members[0]["leases"]), (&0.into(), &0.into()));
    assert_eq!(members[2]["reachable"], false);
    assert_eq!(members[2]["error"], "connection refused");
}

#[test]
fn status_warns_of_a_store_that_is_nearly_full() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["lease", "grant", "10s"]);
    table(&cluster, &["put", "a", "1"]);
    table(&cluster, &["compact", "2"]);
    cluster.with_health(|health| health.space.bytes = health.space.quota / 10 * 9);
    let text = table(&cluster, &["status"]);
    assert!(text.contains("revision 2, compacted up to 2, 1 lease\n"), "{text}");
    assert!(text.contains("\nn1: the store is nearly full, "), "{text}");
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
