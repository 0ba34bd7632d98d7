//! member list, add, remove, promote, demote, priority, move; and what status tells of members.

use crate::fake::{Cluster, Faults};
use crate::verbs::{json, run, table};
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use raft_core::types::{Change, Incarnation, Member, Membership, NodeId};
use raft_kv::api::NoQuorum;

fn cluster() -> Cluster {
    Cluster::new(Faults::default())
}

/// Why a command line is refused, and what to do about it.
fn refused(cluster: &Cluster, words: &[&str]) -> (String, String) {
    let failure = run(cluster, Format::Table, words).1.expect_err("it makes no sense");
    assert_eq!(failure.kind, Kind::Refused);
    (failure.message, failure.advice.expect("there is something to do"))
}

#[test]
fn members_are_listed_with_what_may_fail() {
    let cluster = cluster();
    assert_eq!(
        table(&cluster, &["member", "list"]),
        "NODE  ROLE   ADDRESS  LEADER  LIFE              PRIORITY\n\
         n1    voter  n1:1     yes     0000000000000007         0\n\
         n2    voter  n2:2     -       0000000000000008         0\n\
         n3    voter  n3:3     -       0000000000000009         0\n\
         3 voters: a quorum is 2, 1 may fail\n"
    );
    let parsed: serde_json::Value =
        serde_json::from_str(&json(&cluster, &["member", "list"])).expect("JSON");
    assert_eq!((&parsed["quorum"], &parsed["may_fail"]), (&2.into(), &1.into()));
    assert_eq!(parsed["cluster"], "000000000000002a");
    assert_eq!(parsed["warning"], serde_json::Value::Null);
    assert_eq!(parsed["members"][0]["leader"], true);
    assert_eq!(parsed["members"][2]["role"], "voter");
}

#[test]
fn a_node_is_added_and_the_command_that_starts_it_told() {
    let cluster = cluster();
    let start = "raft serve --id 4 --data-dir n4 --advertise h:4 --join --cluster-id \
                 000000000000002a --ca ca.pem --cert n4.pem --key n4-key.pem";
    assert_eq!(
        table(&cluster, &["member", "add", "n4=h:4"]),
        format!(
            "n4 added as a learner; it votes once it has caught up\n\
             3 voters: a quorum is 2, 1 may fail\n\
             start it with:\n  {start}\n"
        )
    );
    let text = json(&cluster, &["member", "add", "5=h:5", "--observer"]);
    let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(parsed["start"].as_str().expect("text").contains("--id 5 "), "{text}");
    assert_eq!(parsed["members"]["members"][4]["role"], "observer");
    let list = table(&cluster, &["member", "list"]);
    let row = |line: usize| list.lines().nth(line).expect("a row").split_whitespace();
    assert!(row(4).eq(["n4", "learner", "h:4", "-", "unheard", "0"]), "{list}");
    assert!(row(5).eq(["n5", "observer", "h:5", "-", "unheard", "0"]), "{list}");
    let (why, _) = refused(&cluster, &["member", "add", "n4=h:5"]);
    assert_eq!(why, "n4 is a member already");
    let (why, _) = refused(&cluster, &["member", "promote", "n5"]);
    assert_eq!(why, "n5 was never heard of; start it before it is made a voter");
}

#[test]
fn members_change() {
    let cluster = cluster();
    let two = "2 voters: a quorum is 2, none may fail - as with 1; add or remove one\n";
    let demoted = table(&cluster, &["member", "demote", "n2"]);
    assert_eq!(demoted, format!("n2 is an observer now\n{two}"));
    let promoted = table(&cluster, &["member", "promote", "2"]);
    assert_eq!(promoted, "n2 votes now\n3 voters: a quorum is 2, 1 may fail\n");
    let text = table(&cluster, &["member", "priority", "n2", "10"]);
    assert!(text.starts_with("n2 has priority 10 now\n"), "{text}");
    let text = table(&cluster, &["member", "move", "n2=h:9"]);
    assert!(text.starts_with("n2 is expected at h:9 now: restart it there\n"), "{text}");
    assert_eq!(table(&cluster, &["member", "remove", "n1"]), format!("n1 removed\n{two}"));
    let text = table(&cluster, &["member", "remove", "n2", "--deadline", "9s"]);
    assert_eq!(text, "n2 removed\n1 voter: a quorum is 1, none may fail\n");
    let (why, what) = refused(&cluster, &["member", "remove", "n3"]);
    assert_eq!((&*why, &*what), ("no voter would be left", "do something else"));
    let (why, _) = refused(&cluster, &["member", "remove", "n1"]);
    assert_eq!(why, "n1 is not a member");
}

#[test]
fn an_even_number_of_voters_is_told() {
    let cluster = cluster();
    cluster.with_health(|health| {
        let four = (1..=4).map(|id| (NodeId(id), Member::new(format!("n{id}:1"))));
        health.members.membership = Membership::of_voters(four.collect());
    });
    let list = table(&cluster, &["member", "list"]);
    let warned = "4 voters: a quorum is 3, 1 may fail - as with 3; add or remove one";
    assert_eq!(list.lines().last(), Some(warned));
}

#[test]
fn status_tells_of_members_that_are_not_as_usual() {
    let cluster = cluster();
    let remarks = |cluster: &Cluster| {
        let text = table(cluster, &["status"]);
        text.lines().skip(5).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(remarks(&cluster), ["n3 at n3:3: connection refused"]);
    cluster.with_health(|health| {
        health.bound = false;
        health.waiting_ms = 2000;
        health.timing = Some("the election timeout of 100 ms is too short".into());
        let text = "no quorum 1/3: n3 unreachable 4.1 s".into();
        let (reachable, needed, voters, absent) = (1, 2, 3, Vec::new());
        health.no_quorum = Some(NoQuorum { reachable, needed, voters, absent, text });
        let changes = [Change::Demote { node: NodeId(2) }];
        let joint = health.members.membership.changed(&changes).expect("it makes sense");
        health.members.membership = joint.bound(NodeId(9), Incarnation(1));
    });
    let told = remarks(&cluster);
    assert_eq!(
        told[..4],
        [
            "n1: came back without what it had stored, and waits to be taken back",
            "n1: the disk has completed nothing for 2.0 s",
            "n1: the election timeout of 100 ms is too short",
            "n1: no quorum 1/3: n3 unreachable 4.1 s",
        ]
    );
    assert_eq!(
        told.last().expect("one"),
        "the voters are being changed: n1, n2 and n3 to n1 and n3"
    );
    let text = table(&cluster, &["status"]);
    assert!(text.lines().nth(2).expect("n2").contains("follower (outgoing)"), "{text}");
    let parsed: serde_json::Value =
        serde_json::from_str(&json(&cluster, &["status"])).expect("JSON");
    assert_eq!(parsed["changing"], true);
    assert_eq!(parsed["members"][0]["health"]["disk_waiting_ms"], 2000);
    assert_eq!(parsed["members"][0]["health"]["no_quorum"]["needed"], 2);
}
