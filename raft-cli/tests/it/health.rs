//! health: who is well, and what the exit code says.

use crate::fake::{Cluster, Faults};
use crate::verbs::{json, run};
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use raft_core::types::NodeId;
use raft_kv::api::{AlarmKind, MemberAlarm, NoQuorum};

#[test]
fn one_member_that_does_not_answer_is_named() {
    let cluster = Cluster::new(Faults::default());
    let (text, outcome) = run(&cluster, Format::Table, &["health"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "NODE  ADDRESS  HEALTHY  REMARKS");
    assert_eq!(lines[1], "n1    n1:1     yes      -");
    assert_eq!(lines[3], "n3    n3:3     no       connection refused");
    assert!(lines[4].starts_with("a linearizable read took "), "{text}");
    assert_eq!(outcome.expect_err("n3").kind, Kind::No);
    let (simple, _) = run(&cluster, Format::Simple, &["health"]);
    let lines = "n1:1 is healthy\nn2:2 is healthy\nn3:3 is unhealthy: connection refused\n";
    assert_eq!(simple, lines);
}

#[test]
fn a_warning_alone_makes_nobody_ill() {
    let cluster = Cluster::new(Faults::default());
    cluster.with_health(|health| health.timing = Some("the election timeout is short".into()));
    let report = |cluster: &Cluster| -> serde_json::Value {
        serde_json::from_str(&run(cluster, Format::Json, &["health"]).0).expect("JSON")
    };
    let warned = report(&cluster);
    assert_eq!(warned["members"][0]["healthy"], true);
    assert_eq!(warned["members"][0]["remarks"][0], "the election timeout is short");
    assert_eq!(warned["read"]["done"], true);
    cluster.with_health(|health| {
        let (reachable, needed, voters, absent) = (1, 2, 3, Vec::new());
        let text = "no quorum 1/3".into();
        health.no_quorum = Some(NoQuorum { reachable, needed, voters, absent, text });
    });
    let ill = report(&cluster);
    assert_eq!(ill["members"][0]["healthy"], false);
    assert_eq!(ill["healthy"], false);
}

#[test]
fn status_tells_what_is_known_of_the_data() {
    let cluster = Cluster::new(Faults::default());
    cluster.with_health(|health| {
        (health.integrity.scrubs, health.integrity.scrubs_incomplete) = (3, 2);
    });
    let parsed: serde_json::Value =
        serde_json::from_str(&json(&cluster, &["status"])).expect("JSON");
    let integrity = &parsed["members"][0]["health"]["integrity"];
    assert_eq!((&integrity["scrubs"], &integrity["scrubs_incomplete"]), (&3.into(), &2.into()));
    assert!(integrity["alarm"].is_null());
    let remark = &parsed["members"][0]["remarks"][0];
    assert_eq!(remark["serious"], false);
    // It makes nobody ill, but is said.
    let says = "each of the last 2 looks at all data left out what fewer than a quorum answered \
                for: see `raft scrub`";
    assert_eq!(remark["text"], says);
    let (text, _) = run(&cluster, Format::Json, &["health"]);
    let health: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&health["members"][0]["healthy"], &health["members"][0]["remarks"][0]),
        (&true.into(), &says.into())
    );
}

/// Alarms that somebody has raised are part of what all members keep: each tells of them.
#[test]
fn alarms_that_are_raised_are_told_of_each_member() {
    let cluster = Cluster::new(Faults::default());
    let alarm = |kind, member| MemberAlarm { kind, member: NodeId(member) };
    cluster.with_health(|health| {
        health.alarms = vec![alarm(AlarmKind::NoSpace, 0), alarm(AlarmKind::Corrupt, 7)];
    });
    let says = "alarms raised: NOSPACE, CORRUPT of n7; `etcdctl alarm disarm` clears them";
    let (text, _) = run(&cluster, Format::Table, &["status"]);
    for node in ["n1", "n2"] {
        assert!(text.contains(&format!("\n{node}: {says}\n")), "{text}");
    }
    let parsed: serde_json::Value =
        serde_json::from_str(&json(&cluster, &["status"])).expect("JSON");
    let alarms = serde_json::json!([
        {"kind": "NOSPACE", "member": 0}, {"kind": "CORRUPT", "member": 7}
    ]);
    for member in [0, 1] {
        assert_eq!(parsed["members"][member]["health"]["alarms"], alarms);
    }
    let (text, outcome) = run(&cluster, Format::Table, &["health"]);
    assert!(text.contains(&format!("n1    n1:1     no       {says}")), "{text}");
    assert_eq!(outcome.expect_err("it is not well").kind, Kind::No);
    let (text, _) = run(&cluster, Format::Json, &["health"]);
    let health: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(health["members"][1]["remarks"][0], says);
    assert_eq!(health["healthy"], false);
    cluster.with_health(|health| health.alarms = vec![alarm(AlarmKind::NoSpace, 1); 10]);
    let (text, _) = run(&cluster, Format::Table, &["status"]);
    assert!(text.contains("NOSPACE of n1, 2 more; `etcdctl alarm disarm`"), "{text}");
}
