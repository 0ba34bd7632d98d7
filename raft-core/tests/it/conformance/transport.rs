//! The kit of transports.

use super::faulty::{Bug, Faulty};
use raft_core::testing::Breach;
use raft_core::testing::transport::check;

#[tokio::test]
async fn the_network_in_memory_passes() {
    let report = check(&Faulty::new(Bug::None)).await.unwrap();
    println!("{report}");
    assert!(report.messages > 1000 && report.snapshots == 5, "{report}");
    assert!(report.requests > 400 && report.streams == 4, "{report}");
}

async fn breach(bug: Bug) -> Breach {
    check(&Faulty::new(bug)).await.expect_err(&format!("{bug:?}"))
}

#[tokio::test]
async fn every_bug_breaks_its_rule() {
    let bugs = [
        (Bug::LosesEverything, "arrives"),
        (Bug::LosesLargeMessages, "arrives"),
        (Bug::CorruptsCommands, "unaltered"),
        (Bug::CorruptsBoundaries, "unaltered"),
        (Bug::MisroutesMessages, "addressed"),
        (Bug::MixesUpGroups, "addressed"),
        (Bug::HoldsMessagesBack, "order"),
        (Bug::KeepsWhatCannotBeSent, "bounded"),
        (Bug::CutsSnapshotsShort, "snapshot"),
        (Bug::DeliversBrokenSnapshots, "snapshot"),
        (Bug::SaysNothingOfSnapshots, "snapshot"),
        (Bug::DoublesRequests, "once"),
        (Bug::CorruptsReplies, "reply"),
        (Bug::MisroutesRequests, "reply"),
        (Bug::AnswersOneAfterTheOther, "reply"),
        (Bug::WaitsForTheGone, "ends"),
        (Bug::EndsBrokenStreamsCleanly, "ends"),
        (Bug::NeverMakesASenderWait, "bounded"),
        (Bug::LosesFrames, "stream"),
        (Bug::NeverReconnects, "reconnects"),
        (Bug::ChecksNoIdentity, "unaltered"),
    ];
    let mut wrong = Vec::new();
    for (bug, rule) in bugs {
        let breach = breach(bug).await;
        println!("{bug:?}: {breach}\n");
        if breach.rule != rule {
            wrong.push(format!("{bug:?} is not told by `{rule}`: {breach}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn a_breach_says_what_to_fix() {
    let text = breach(Bug::DoublesRequests).await.to_string();
    let expected = "the rule `once` is broken
  when:     3 requests of 8 bytes at once to n2
  expected: each of them runs once
  found:    it ran 2 times";
    assert_eq!(text, expected);
}
