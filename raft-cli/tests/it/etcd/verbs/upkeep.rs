//! Members, and what operators do.

use crate::etcd::case::{Case, same, words};
use crate::etcd::compare::Pair;
use crate::etcd::gateway::send;
use std::fs;

const BEFORE: &[Case] = &[
    same("version"),
    same("put a 1"),
    same("member list"),
    same("member list -w json"),
    same("member list -w fields"),
    same("member list -w table"),
    same("endpoint health"),
    same("endpoint health --cluster"),
    same("endpoint health -w json"),
    same("endpoint health -w table"),
    same("endpoint status --endpoints {c1},{c2}"),
    same("endpoint status"),
    same("endpoint status --cluster"),
    same("endpoint status -w json"),
    same("endpoint status -w fields"),
    same("endpoint status -w table"),
    same("endpoint status -w table --cluster"),
    same("endpoint hashkv --endpoints {leader}"),
    same("endpoint hashkv --endpoints {leader} -w json"),
    same("endpoint hashkv --cluster --rev 1"),
    same("endpoint hashkv --endpoints {leader} --rev 1000"),
    same("endpoint hashkv -w table --endpoints {leader}"),
    same("compaction 2"),
    same("endpoint hashkv --endpoints {leader} -w json"),
    same("endpoint hashkv --endpoints {leader} --rev 1"),
    same("alarm list"),
    same("alarm list -w json --endpoints {leader}"),
    same("alarm disarm"),
    same("defrag"),
    same("defrag --cluster"),
    same("defrag --endpoints {leader}"),
    same("snapshot save"),
    same("snapshot save a.db"),
    same("snapshot save a.db --endpoints {leader}"),
    same("snapshot status none.db"),
    same("move-leader {follower-id} --endpoints {follower}"),
    same("move-leader"),
    same("move-leader zz"),
    same("move-leader abcdef --endpoints {leader}"),
    same("member remove abcdef"),
    same("member remove zz"),
    same("member remove"),
    same("member promote abcdef"),
    same("member promote zz"),
    same("member promote {n1}"),
    same("member promote"),
    same("member update abcdef --peer-urls http://127.0.0.1:9"),
    same("member update {n1}"),
    same("member update {n1} --peer-urls nonsense"),
    same("member add"),
    same("member add n4"),
    same("member add n4 --peer-urls nonsense"),
];

/// What is printed of an alarm that somebody has raised, and that it ends.
const ALARMS: &[Case] = &[
    same("alarm list"),
    same("alarm list -w json --endpoints {leader}"),
    same("endpoint status --endpoints {leader}"),
    same("endpoint status -w table"),
    same("put a 1"),
    same("lease grant 100"),
    same("txn").input("\n\nput a 1\n\n"),
    same("get a"),
    same("del a"),
    same("endpoint health"),
    same("alarm disarm"),
    same("alarm disarm"),
    same("alarm list"),
    same("put a 1"),
];

const MEMBERS: &[Case] = &[
    same("member add n4 --peer-urls http://127.0.0.1:9 --learner"),
    same("member list"),
    same("member list -w json"),
    same("member list -w table"),
    same("member add n5 --peer-urls http://{p1} --learner"),
    same("member promote {n4}"),
    same("member update {n4} --peer-urls http://127.0.0.1:11"),
    same("member list").differs("etcd 3.4 forgets of an updated learner that it is one"),
    same("member remove {n4}"),
    same("member list"),
    same("member remove {n4}"),
];

const LEARNERS: &[Case] = &[
    same("member add n5 --peer-urls http://127.0.0.1:12 --learner"),
    same("member add n6 --peer-urls http://127.0.0.1:10 --learner")
        .differs("there may be any number of learners"),
];

/// What operators print, do and are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_find_what_they_know() {
    let mut pair = Pair::start().await;
    pair.run(BEFORE).await;
    for side in [&pair.ours, &pair.theirs] {
        // A file of whole pages, and a checksum.
        let length = fs::metadata(side.dir().join("a.db")).unwrap().len();
        assert_eq!(length % 512, 32, "{}", side.name);
    }
    for side in [&pair.ours, &pair.theirs] {
        let alarm = r#"{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"7"}"#;
        let response = send(&side.clients[0], "POST", "/v3/maintenance/alarm", alarm).await;
        assert_eq!(response.status(), 200, "{}", side.name);
    }
    pair.run(ALARMS).await;
    pair.until_settled().await;
    pair.run(MEMBERS).await;
    pair.run(&[same("move-leader {follower-id} --endpoints {leader}")]).await;
    pair.run(&[same("endpoint health"), same("put a 2"), same("get a -w json")]).await;
    pair.run(LEARNERS).await;
    pair.end();
}

/// Members that are added to vote, one at a time: a second would cost the quorum of four, of which
/// one was never started.
const VOTERS: &[Case] = &[
    same("member add n4 --peer-urls http://127.0.0.1:13"),
    same("member promote {n4}"),
    same("member remove {n4}"),
    same("member list"),
    same("put voters 1"),
];

/// What is printed of members that vote from the beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_to_vote() {
    let mut pair = Pair::start().await;
    pair.until_settled().await;
    pair.run(VOTERS).await;
    pair.end();
}

/// A learner that was started comes to vote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_in_sync_is_promoted() {
    const BEHIND: &str = "can only promote a learner member which is in sync with leader";
    let mut pair = Pair::alone().await;
    pair.until_settled().await;
    for side in [&mut pair.ours, &mut pair.theirs] {
        side.expect_another();
    }
    pair.run(&[
        same("put a 1"),
        same("member add n2 --peer-urls http://{joining} --learner"),
        same("member promote {n2}"),
        same("member list"),
    ])
    .await;
    for side in [&mut pair.ours, &mut pair.theirs] {
        side.start_another();
    }
    pair.once_allowed("member promote {n2}", BEHIND).await;
    // It tells its name when it serves.
    pair.until_printed("member list", ", n2, ").await;
    pair.run(&[
        same("member list"),
        same("member list -w json"),
        same("member list -w fields"),
        same("member list -w table"),
        same("member promote {n2}"),
        same("put a 2"),
        same("endpoint health --cluster"),
        same("endpoint status --cluster"),
    ])
    .await;
    pair.end();
}

/// What etcd's tool finds out about the size of data: it writes a part of what it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scale_of_data_is_checked() {
    if !crate::cluster::support::slow() {
        return;
    }
    let pair = Pair::start().await;
    for side in [&pair.ours, &pair.theirs] {
        let outcome = side.etcdctl(&words("check datascale --load s"), "").await;
        println!("{}: {}\n{}", side.name, outcome.stdout, outcome.stderr);
        assert_eq!(outcome.code, 0, "{}: {outcome:?}", side.name);
        assert!(outcome.stdout.contains("PASS: Approximate system memory used"), "{outcome:?}");
    }
}
