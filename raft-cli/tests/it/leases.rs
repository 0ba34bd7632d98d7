//! lease and compact: what they print and how they end.

use crate::fake::{Cluster, Faults};
use crate::verbs::{json, run, table};
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use std::time::Duration;

#[test]
fn a_lease_from_grant_to_revoke() {
    let cluster = Cluster::new(Faults::default());
    let granted = table(&cluster, &["lease", "grant", "10s", "--id", "5ca1ab1e"]);
    assert_eq!(granted, "lease 000000005ca1ab1e granted for 10s\n");
    let (second, _) = run(&cluster, Format::Simple, &["lease", "grant", "1s"]);
    let second = second.trim_end();
    assert_eq!(second.len(), 16, "{second}");
    table(&cluster, &["put", "here", "host-7", "--lease", "5ca1ab1e"]);
    table(&cluster, &["put", "here/too", "", "--lease", "0x5ca1ab1e"]);
    assert_eq!(
        table(&cluster, &["get", "here"]),
        "KEY   VALUE   REVISION  CREATED  VERSION  LEASE\n\
         here  host-7         2        2        1  000000005ca1ab1e\n"
    );
    assert!(json(&cluster, &["get", "here"]).contains(r#""lease":"000000005ca1ab1e"}"#));
    assert_eq!(
        table(&cluster, &["lease", "ttl", "5ca1ab1e", "--keys"]),
        "lease 000000005ca1ab1e granted for 10s, lives for 10s at least, with 2 keys\n\
         here\nhere/too\n"
    );
    assert_eq!(
        json(&cluster, &["lease", "ttl", "5ca1ab1e", "--keys"]),
        "{\"id\":\"000000005ca1ab1e\",\"granted_ms\":10000,\"remaining_ms\":10000,\
         \"keys_count\":2,\"keys\":[{\"key\":\"here\"},{\"key\":\"here/too\"}]}\n"
    );
    let mut both = ["000000005ca1ab1e", second];
    both.sort_unstable();
    assert_eq!(table(&cluster, &["lease", "list"]), format!("{}\n{}\n", both[0], both[1]));
    assert_eq!(
        table(&cluster, &["lease", "revoke", "5ca1ab1e"]),
        "lease 000000005ca1ab1e revoked; 2 keys deleted at revision 4\n"
    );
    assert_eq!(table(&cluster, &["get", "-p", "here", "--count-only"]), "0\n");
    assert_eq!(json(&cluster, &["lease", "list"]), format!("{{\"leases\":[\"{second}\"]}}\n"));
}

#[test]
fn a_lease_that_nobody_keeps_alive_ends() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["lease", "grant", "10s", "--id", "1"]);
    table(&cluster, &["put", "here", "", "--lease", "1"]);
    cluster.pass(Duration::from_secs(8));
    assert_eq!(
        json(&cluster, &["lease", "keep-alive", "1", "--once"]),
        "{\"id\":\"0000000000000001\",\"ttl_ms\":10000}\n"
    );
    cluster.pass(Duration::from_secs(8));
    let ttl = table(&cluster, &["lease", "ttl", "1"]);
    assert!(ttl.contains("lives for 2s at least, with 1 key"), "{ttl}");
    cluster.pass(Duration::from_secs(3));
    for what in ["ttl", "keep-alive", "revoke"] {
        let failure =
            run(&cluster, Format::Table, &["lease", what, "1"]).1.expect_err("it is gone");
        assert_eq!(failure.kind, Kind::No, "{failure}");
        assert_eq!(failure.message, "lease 0000000000000001 not found");
    }
    assert_eq!(table(&cluster, &["lease", "list"]), "no leases\n");
    assert_eq!(run(&cluster, Format::Table, &["get", "here"]).1.expect_err("gone").kind, Kind::No);
}

/// Every answer takes longer than a node is given by other requests.
#[test]
fn a_slow_cluster_keeps_leases_alive() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["lease", "grant", "10s", "--id", "1"]);
    cluster.set_faults(Faults { delay: Duration::from_millis(1200), ..Faults::default() });
    let kept = json(&cluster, &["lease", "keep-alive", "1", "--once"]);
    assert_eq!(kept, "{\"id\":\"0000000000000001\",\"ttl_ms\":10000}\n");
}

#[test]
fn leases_that_cannot_be_are_refused_with_advice() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["lease", "grant", "10s", "--id", "1"]);
    let refused: [(&[&str], &str); 3] = [
        (&["lease", "grant", "10s", "--id", "1"], "exists already; leave --id out"),
        (&["put", "a", "b", "--lease", "2"], "lease 0000000000000002 not found; it may"),
        (&["lease", "grant", "1000years"], "over the limit"),
    ];
    for (words, says) in refused {
        let failure = run(&cluster, Format::Table, words).1.expect_err("refused");
        assert_eq!(failure.kind, Kind::Refused, "{failure}");
        assert!(failure.to_string().contains(says), "{failure}");
    }
}

#[test]
fn compaction_says_what_is_left() {
    let cluster = Cluster::new(Faults::default());
    for value in ["1", "2", "3", "4", "5"] {
        table(&cluster, &["put", "key", value]);
    }
    assert_eq!(
        table(&cluster, &["compact", "3"]),
        "forgotten what was before revision 3; the store is at 6\n"
    );
    assert_eq!(table(&cluster, &["get", "--raw", "key", "--rev", "3"]), "2");
    let failure = run(&cluster, Format::Table, &["get", "key", "--rev", "2"]).1;
    let failure = failure.expect_err("forgotten");
    assert_eq!(failure.kind, Kind::Refused);
    assert_eq!(
        failure.to_string(),
        "revision 2 has been compacted; the oldest there is is 3; give a later revision, or none"
    );
    assert_eq!(json(&cluster, &["compact", "--keep", "1"]), "{\"compacted\":5,\"revision\":6}\n");
    let (simple, _) = run(&cluster, Format::Simple, &["compact", "--keep", "0"]);
    assert_eq!(simple, "compacted revision 6\n");
    // A job that comes every night may find that it was done.
    for keep in ["0", "1000000"] {
        let forgotten = "nothing to forget: what was before revision 6 is forgotten\n";
        assert_eq!(table(&cluster, &["compact", "--keep", keep]), forgotten);
    }
    let done = "{\"compacted\":6,\"revision\":null}\n";
    assert_eq!(json(&cluster, &["compact", "--keep", "7"]), done);
    for words in [["compact", "6"], ["compact", "7"]] {
        let failure = run(&cluster, Format::Table, &words).1.expect_err("refused");
        assert_eq!(failure.kind, Kind::Refused, "{failure}");
    }
}

#[test]
fn items_of_a_queue_are_popped_once_in_order() {
    let cluster = Cluster::new(Faults::default());
    let empty = run(&cluster, Format::Table, &["queue", "pop", "jobs", "--no-wait"]).1;
    let empty = empty.expect_err("there is none");
    assert_eq!((empty.kind, &*empty.message), (Kind::No, "the queue jobs is empty"));
    assert_eq!(table(&cluster, &["queue", "list", "jobs"]), "no items\n");
    assert_eq!(table(&cluster, &["queue", "push", "jobs", "b"]), "pushed at revision 2\n");
    let (ok, _) = run(&cluster, Format::Simple, &["queue", "push", "jobs", "c"]);
    assert_eq!(ok, "OK\n");
    table(&cluster, &["queue", "push", "jobs", "a", "--rank", "0"]);
    let (list, _) = run(&cluster, Format::Simple, &["queue", "list", "jobs"]);
    assert_eq!(list, "a\nb\nc\n");
    assert_eq!(table(&cluster, &["queue", "pop", "jobs"]), "a\n");
    assert_eq!(table(&cluster, &["queue", "pop", "jobs", "--raw"]), "b");
    assert_eq!(
        json(&cluster, &["queue", "pop", "jobs", "--no-wait"]),
        "{\"key\":\"jobs/32768/00000000000000000003\",\"revision\":3,\"value\":\"c\"}\n"
    );
}

#[test]
fn a_queue_is_waited_for_as_long_as_one_likes() {
    let cluster = Cluster::new(Faults::default());
    for words in
        [&["queue", "pop", "jobs", "--wait", "10ms"][..], &["queue", "pop", "jobs", "--no-wait"]]
    {
        let failure = run(&cluster, Format::Table, words).1.expect_err("there is nothing");
        assert_eq!((failure.kind, &*failure.message), (Kind::No, "the queue jobs is empty"));
    }
    table(&cluster, &["queue", "push", "jobs", "a"]);
    assert_eq!(table(&cluster, &["queue", "pop", "jobs", "--wait", "1h"]), "a\n");
}

#[test]
fn barriers_are_raised_and_lifted_once() {
    let cluster = Cluster::new(Faults::default());
    let lifted = "the barrier move is lifted\n";
    assert_eq!(table(&cluster, &["barrier", "wait", "move"]), lifted);
    assert_eq!(table(&cluster, &["barrier", "raise", "move"]), "the barrier move is raised\n");
    let again = run(&cluster, Format::Table, &["barrier", "raise", "move"]).1;
    assert_eq!(again.expect_err("it is").kind, Kind::No);
    assert_eq!(table(&cluster, &["barrier", "lift", "move"]), lifted);
    let (text, again) = run(&cluster, Format::Json, &["barrier", "lift", "move"]);
    assert_eq!(again.expect_err("it is").kind, Kind::No);
    assert_eq!(text, "{\"changed\":false,\"state\":\"lifted\"}\n");
}

#[test]
fn messages_come_in_one_order() {
    let cluster = Cluster::new(Faults::default());
    for (message, revision) in [("one", 2), ("two\n", 3), ("three", 4)] {
        let sent = table(&cluster, &["broadcast", "news", message]);
        assert_eq!(sent, format!("message {revision} sent\n"));
    }
    let all = ["subscribe", "news", "--limit", "3"];
    assert_eq!(table(&cluster, &all), "3:2  one\n3:3  two\\n\n3:4  three\n");
    assert_eq!(
        json(&cluster, &["subscribe", "news", "--from", "3", "--limit", "1"]),
        "{\"epoch\":3,\"revision\":3,\"value\":\"two\\n\"}\n"
    );
    let (text, _) =
        run(&cluster, Format::Simple, &["subscribe", "news", "--from", "3:4", "--limit", "1"]);
    assert_eq!(text, "three\n");
}

/// The cluster was made anew since: what others were told is not what this one was told.
#[test]
fn a_place_of_another_history_is_told() {
    let cluster = Cluster::new(Faults::default());
    table(&cluster, &["broadcast", "news", "one"]);
    let late = run(&cluster, Format::Table, &["subscribe", "news", "--from", "2:2"]).1;
    let late = late.expect_err("of another history");
    assert_eq!(late.kind, Kind::Refused);
    let says = "the topic news is of history 3 by now, not 2: others are told other messages";
    assert_eq!(late.message, says);
    for wrong in ["2:", ":2", "x", "1:2:3", "-1"] {
        let words = ["subscribe", "news", "--from", wrong];
        use clap::Parser;
        let line = ["raft"].iter().chain(&words);
        assert!(raft_cli::args::Cli::try_parse_from(line).is_err(), "{wrong}");
    }
}

#[test]
fn old_messages_are_dropped_and_subscribers_told() {
    let cluster = Cluster::new(Faults::default());
    for message in ["one", "two", "three"] {
        table(&cluster, &["broadcast", "news", message]);
    }
    let drop_until = |revision| json(&cluster, &["broadcast", "news", "--drop-until", revision]);
    assert_eq!(drop_until("3"), "{\"dropped\":3}\n");
    assert_eq!(drop_until("2"), "{\"dropped\":3}\n", "what is dropped stays dropped");
    let late = run(&cluster, Format::Table, &["subscribe", "news", "--limit", "1"]).1;
    let late = late.expect_err("some are missing");
    assert_eq!(late.message, "the messages up to revision 3 were dropped: read on from there");
    let all = ["subscribe", "news", "--from", "4", "--limit", "1"];
    assert_eq!(table(&cluster, &all), "3:4  three\n");
    let future = table(&cluster, &["broadcast", "news", "--drop-until", "1000"]);
    assert_eq!(future, "messages up to 5 are dropped\n", "as far as the store has come");
}

#[test]
fn groups_and_owners_are_listed() {
    let cluster = Cluster::new(Faults::default());
    assert_eq!(table(&cluster, &["group", "list", "search"]), "nobody is there\n");
    let nobody = table(&cluster, &["partition", "list", "index", "--count", "4"]);
    assert_eq!(nobody, "nobody works on any\n");
    for (key, value) in [
        ("search/a", "h1:80"),
        ("search/b", ""),
        ("index/owners/0000000003", "a"),
        ("index/owners/0000000004", "a"),
    ] {
        table(&cluster, &["put", key, value]);
    }
    assert_eq!(
        table(&cluster, &["group", "list", "search"]),
        "ID  DATA   SINCE\na   h1:80      2\nb              3\n"
    );
    assert_eq!(
        json(&cluster, &["group", "list", "search"]),
        "{\"members\":[{\"data\":\"h1:80\",\"id\":\"a\",\"since\":2},\
         {\"data\":\"\",\"id\":\"b\",\"since\":3}]}\n"
    );
    let list = ["partition", "list", "index", "--count", "4"];
    assert_eq!(table(&cluster, &list), "PARTITION  WORKER\n        3  a\n");
    assert_eq!(json(&cluster, &list), "{\"partitions\":[{\"partition\":3,\"worker\":\"a\"}]}\n");
    let (simple, _) = run(&cluster, Format::Simple, &list);
    assert_eq!(simple, "3 a\n");
}
