//! scrub: who has begun, what has come of it, and what the exit code says.

use crate::fake::{Cluster, Faults};
use crate::verbs::run;
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use raft_kv::api::Alarm;
use serde_json::Value;

fn outcomes(cluster: &Cluster, words: &[&str]) -> (Vec<Value>, Kind) {
    let (text, outcome) = run(cluster, Format::Json, words);
    let parsed: Value = serde_json::from_str(&text).expect("JSON");
    let members = parsed["members"].as_array().expect("a list").clone();
    (members, outcome.expect_err("n3 is not there").kind)
}

#[test]
fn all_members_are_asked_at_once() {
    let cluster = Cluster::new(Faults::default());
    let (text, outcome) = run(&cluster, Format::Table, &["scrub"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "NODE  ADDRESS  KEYS  OUTCOME");
    assert_eq!(lines[1], "n1    n1:1        0  begun");
    assert_eq!(lines[2], "n2    n2:2        0  begun");
    assert!(lines[3].starts_with("?     n3:3        -  not begun: "), "{text}");
    let failure = outcome.expect_err("n3 is not there");
    assert_eq!((failure.kind, &*failure.message), (Kind::No, "not all data was compared"));
}

#[test]
fn what_has_come_of_it_is_waited_for() {
    let cluster = Cluster::new(Faults::default());
    let names = |members: &[Value]| -> Vec<String> {
        members.iter().map(|member| member["outcome"].as_str().expect("text").into()).collect()
    };
    let (members, kind) = outcomes(&cluster, &["scrub", "--wait"]);
    assert_eq!(
        (names(&members), kind),
        (vec!["equal"; 2].into_iter().chain(["not_begun"]).map(String::from).collect(), Kind::No)
    );
    assert_eq!((&members[0]["id"], &members[0]["keys"]), (&1.into(), &0.into()));
    cluster.set_faults(Faults { scrubs_alone: true, ..Faults::default() });
    let (members, _) = outcomes(&cluster, &["scrub", "--wait"]);
    assert_eq!(names(&members)[..2], ["incomplete"; 2]);
    cluster.with_health(|health| {
        health.integrity.alarm = Some(Alarm::Corrupt("the states differ".into()));
    });
    let (members, kind) = outcomes(&cluster, &["scrub", "--wait"]);
    assert_eq!(kind, Kind::No);
    assert_eq!(members[1]["reason"], "CORRUPT: the states differ");
    assert_eq!(members[1]["outcome"], "alarm");
}
