//! The client against a cluster of fakes, on a paused clock: time passes only where all wait.

use crate::fake::{Cluster, FakeConnector, Fault};
use raft_core::transport::CallError;
use raft_core::types::{Change, NodeId};
use raft_kv::api::{
    Absence, Absent, Consistency, Keys, KvError, LeaseId, NoQuorum, Position, Put, Range, Revision,
    SESSION_WINDOW_MAX,
};
use raft_kv::client::{Cause, Client, ClientError, ClientOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(1);

fn client(cluster: &Arc<Cluster>, endpoints: &[&str]) -> Client {
    let options = ClientOptions::new(endpoints.iter().copied());
    assert_eq!((options.deadline, options.attempt), (DEADLINE, ATTEMPT));
    Client::new(Arc::new(FakeConnector(Arc::clone(cluster))), options)
}

fn no_quorum() -> KvError {
    KvError::NoQuorum { may_have_run: false, why: Box::new(why()) }
}

fn why() -> NoQuorum {
    let absent = Absent { node: NodeId(2), why: Absence::Unreachable, for_ms: 4100 };
    let text = "no quorum 1/3: n2 unreachable 4.1 s".into();
    NoQuorum { reachable: 1, needed: 2, voters: 3, absent: vec![absent], text }
}

/// Lets everything run until all tasks wait: only then does a paused clock move.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]);
    assert_eq!(client.put("a", "1").await.unwrap().revision, Revision(2));
    let replaced = client.replace("a", "2").await.unwrap();
    assert_eq!(replaced.prev_kv.unwrap().value, "1");
    let found = client.get_one("a").await.unwrap().unwrap();
    assert_eq!((found.value, found.mod_revision), ("2".into(), Revision(3)));
    assert_eq!(client.get_one("b").await.unwrap(), None);

    let swapped = client.compare_and_swap("a", Revision(3), "3").await.unwrap();
    assert!(swapped.swapped && swapped.found.is_none());
    let stale = client.compare_and_swap("a", Revision(3), "4").await.unwrap();
    assert!(!stale.swapped);
    assert_eq!(stale.found.unwrap().value, "3");
    assert!(client.compare_and_swap("new", Revision(0), "1").await.unwrap().swapped);

    let all = client.get(Range::of(Keys::all()), Consistency::Serializable).await.unwrap();
    assert_eq!(all.count, 2);
    assert_eq!(client.delete(Keys::prefix("n")).await.unwrap().deleted, 1);
    client.transfer_leadership(Some(NodeId(2))).await.unwrap();
    assert_eq!(cluster.with(|state| (state.opened, state.transfers)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn every_write_runs_once_although_every_first_reply_is_lost() {
    let cluster = Cluster::new(3);
    for node in 1..=3 {
        cluster.set(node, Fault::LosesFirstReply);
    }
    let client = client(&cluster, &["1:1", "2:1", "3:1"]);
    let mut writes = JoinSet::new();
    for number in 0..500 {
        let client = client.clone();
        writes.spawn(async move { client.put(format!("key{number}"), "value").await });
    }
    let replies = writes.join_all().await;
    let revisions: BTreeSet<_> = replies.into_iter().map(|put| put.unwrap().revision).collect();
    assert_eq!(revisions.len(), 500, "two writes were given one answer");
    cluster.with(|state| {
        let names: BTreeSet<_> = state.executed.iter().map(|name| name.seq).collect();
        assert_eq!((names.len(), state.executed.len()), (500, 500));
        assert_eq!(state.opened, 1, "one session is enough");
    });
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_passed_over_at_once() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::Gone);
    let client = client(&cluster, &["1:1", "2:1"]);
    let started = Instant::now();
    client.put("a", "1").await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_connected_does_not_cost_an_attempt() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::Unreachable);
    let client = client(&cluster, &["1:1", "2:1"]);
    let started = Instant::now();
    client.put("a", "1").await.unwrap();
    assert!(started.elapsed() < ATTEMPT, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_long_comes_to_its_end() {
    let cluster = Cluster::new(1);
    cluster.set(1, Fault::SlowToConnect(ATTEMPT * 2));
    let client = client(&cluster, &["1:1"]);
    let started = Instant::now();
    client.put("a", "1").await.unwrap();
    assert_eq!(started.elapsed(), ATTEMPT * 2);
}

/// It has all the time that those begun beside it take: a node to which thousands connect at once
/// needs it, and so many more handshakes as are broken off.
#[tokio::test(start_paused = true)]
async fn no_handshake_is_broken_off_soon() {
    let cluster = Cluster::new(1);
    cluster.set(1, Fault::SlowToConnect(ATTEMPT * 14));
    let client = client(&cluster, &["1:1"]).with_deadline(ATTEMPT * 20);
    let started = Instant::now();
    client.put("a", "1").await.unwrap();
    assert_eq!(started.elapsed(), ATTEMPT * 14);
    assert!(cluster.with(|state| state.asked_to_connect) <= 4);
}

/// Of several handshakes that were begun one may tell what is wrong, though others never end.
#[tokio::test(start_paused = true)]
async fn what_ended_one_handshake_is_told() {
    let cluster = Cluster::new(1);
    cluster.set(1, Fault::Unreachable);
    let client = client(&cluster, &["1:1"]).with_deadline(ATTEMPT * 20);
    let trouble = async {
        tokio::time::sleep(ATTEMPT / 2).await;
        cluster.set(1, Fault::Distrusts);
        tokio::time::sleep(ATTEMPT).await;
        cluster.set(1, Fault::Unreachable);
    };
    let (put, ()) = tokio::join!(client.put("a", "1"), trouble);
    let told = put.unwrap_err().to_string();
    assert!(told.contains("one handshake ended with: ") && told.contains("certificate"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_mute_node_is_left_within_the_attempt_and_for_good() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    settle().await;
    cluster.set(1, Fault::Mute);
    let started = Instant::now();
    client.put("a", "2").await.unwrap();
    assert_eq!(started.elapsed(), ATTEMPT);
    client.put("a", "3").await.unwrap();
    assert_eq!(started.elapsed(), ATTEMPT, "the mute node was asked again");
    assert_eq!(cluster.with(|state| state.executed.len()), 3, "the write ran twice");
}

/// Another node would have to begin anew, and would not end either.
#[tokio::test(start_paused = true)]
async fn a_read_of_everything_is_waited_for() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    settle().await;
    (1..=3).for_each(|node| cluster.set(node, Fault::Laden(DEADLINE / 2 - ATTEMPT / 10)));
    cluster.with(|state| state.asked.clear());
    let count = Range { count_only: true, ..Range::of(Keys::all()) };
    assert_eq!(client.get(count, Consistency::Linearizable).await.unwrap().count, 1);
    assert_eq!(cluster.with(|state| state.asked.len()), 1);
    let page = client.get(Range::of(Keys::all()), Consistency::Linearizable).await;
    assert!(matches!(page, Err(ClientError::NotDone { .. })), "{page:?}");
}

/// It is asked whether it is there; half of the deadline is for a node that is.
#[tokio::test(start_paused = true)]
async fn a_read_of_everything_is_not_waited_for_at_a_mute_node() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]).with_deadline(DEADLINE * 10);
    client.put("a", "1").await.unwrap();
    settle().await;
    cluster.set(1, Fault::Mute);
    let started = Instant::now();
    let count = Range { count_only: true, ..Range::of(Keys::all()) };
    assert_eq!(client.get(count, Consistency::Linearizable).await.unwrap().count, 1);
    assert_eq!(started.elapsed(), ATTEMPT * 2);
}

/// It has much to do, and answers what costs it nothing: no new connection is made to it.
#[tokio::test(start_paused = true)]
async fn a_busy_node_keeps_its_connections() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    let connections = cluster.with(|state| state.connections);
    cluster.set(1, Fault::Laden(ATTEMPT * 2));
    let error = client.put("a", "2").await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    cluster.set(1, Fault::None);
    client.put("a", "3").await.unwrap();
    assert_eq!(cluster.with(|state| state.connections), connections);
}

#[tokio::test(start_paused = true)]
async fn the_death_of_the_only_endpoint_given_is_survived() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["3:1"]);
    client.put("a", "1").await.unwrap();
    settle().await;
    cluster.set(3, Fault::Gone);
    let started = Instant::now();
    client.put("a", "2").await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    // And of the next one, and the way back.
    cluster.set(1, Fault::Gone);
    client.put("a", "3").await.unwrap();
    cluster.set(2, Fault::Gone);
    cluster.set(3, Fault::None);
    client.put("a", "4").await.unwrap();
    assert_eq!(cluster.with(|state| state.executed.len()), 4);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_quorum_is_left_for_one_that_works() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::Answers(no_quorum()));
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    let asked = cluster.with(|state| std::mem::take(&mut state.asked));
    client.put("a", "2").await.unwrap();
    assert_ne!(asked.last(), Some(&1));
    assert!(!cluster.with(|state| state.asked.contains(&1)), "the node that works is preferred");
}

/// The only node given was too busy to tell of the others when it was asked first.
#[tokio::test(start_paused = true)]
async fn a_client_asks_a_busy_node_again_who_else_there_is() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::Busy(3));
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    tokio::time::sleep(5 * ATTEMPT).await;
    cluster.set(1, Fault::Answers(no_quorum()));
    client.put("a", "2").await.unwrap();
}

/// As above, and the node takes its time to find out: another one is asked within a second.
#[tokio::test(start_paused = true)]
async fn a_node_that_loses_its_quorum_is_left_within_a_second() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    settle().await;
    cluster.set(1, Fault::AnswersLate(no_quorum()));
    let started = Instant::now();
    client.put("a", "2").await.unwrap();
    assert!(started.elapsed() <= ATTEMPT, "{:?}", started.elapsed());
    let moved = Instant::now();
    client.put("a", "3").await.unwrap();
    assert_eq!(moved.elapsed(), Duration::ZERO, "the node without quorum was asked again");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_is_kept_while_no_other_can_be_reached() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::AnswersTimes(no_quorum(), 4));
    cluster.set(2, Fault::Unreachable);
    cluster.set(3, Fault::Unreachable);
    let client = client(&cluster, &["1:1"]);
    let started = Instant::now();
    client.put("a", "1").await.unwrap();
    assert!(started.elapsed() < ATTEMPT, "waited for nodes that are not there");
}

#[tokio::test(start_paused = true)]
async fn no_quorum_is_reported_as_not_done_at_the_deadline() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]).with_deadline(Duration::from_secs(2));
    client.put("a", "1").await.unwrap();
    cluster.set(1, Fault::Answers(no_quorum()));
    cluster.set(2, Fault::Gone);
    cluster.set(3, Fault::Gone);
    let started = Instant::now();
    let error = client.put("a", "2").await.unwrap_err();
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    let ClientError::NotDone { reason, source } = &error else { panic!("{error:?}") };
    assert_eq!(*reason, "1:1: no quorum 1/3: n2 unreachable 4.1 s");
    assert_eq!(*source, Some(Cause::Node(no_quorum())));
    assert!(!error.may_have_run());
}

#[tokio::test(start_paused = true)]
async fn a_first_write_without_quorum_says_so_to_all_who_wait_for_the_session() {
    let cluster = Cluster::new(1);
    cluster.set(1, Fault::Answers(no_quorum()));
    let client = client(&cluster, &["1:1"]);
    let (first, second) = tokio::join!(client.put("a", "1"), client.put("b", "1"));
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(matches!(error, ClientError::NotDone { .. }), "{error:?}");
        assert!(error.to_string().contains("no quorum 1/3"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn overload_is_waited_out() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::AnswersTimes(KvError::Overloaded, 5));
    let client = client(&cluster, &["1:1", "2:1"]);
    let started = Instant::now();
    client.put("a", "1").await.unwrap();
    assert!(started.elapsed() > Duration::ZERO, "sent again without a pause");
    assert_eq!(cluster.with(|state| state.asked.clone()), [1; 7], "one node, session and put");
}

#[tokio::test(start_paused = true)]
async fn silence_is_unknown_to_a_write_and_nothing_to_a_read() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    for node in 1..=3 {
        cluster.set(node, Fault::Mute);
    }
    let started = Instant::now();
    let error = client.put("a", "2").await.unwrap_err();
    assert!(started.elapsed() <= DEADLINE, "{:?}", started.elapsed());
    assert!(matches!(error, ClientError::Unknown { .. }) && error.may_have_run(), "{error:?}");
    assert_eq!(cluster.with(|state| state.executed.len()), 2, "retries ran again");

    let error = client.get_one("a").await.unwrap_err();
    assert!(started.elapsed() <= 2 * DEADLINE, "{:?}", started.elapsed());
    assert!(matches!(error, ClientError::NotDone { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_cannot_be_reached_is_certainly_not_done() {
    let cluster = Cluster::new(3);
    for node in 1..=3 {
        cluster.set(node, Fault::Gone);
    }
    let client = client(&cluster, &["1:1", "2:1"]);
    let started = Instant::now();
    let error = client.put("a", "1").await.unwrap_err();
    assert!(started.elapsed() <= DEADLINE, "{:?}", started.elapsed());
    let refused = Cause::Call(CallError::NotSent("connection refused".into()));
    let ClientError::NotDone { reason, source } = error else { panic!("{error:?}") };
    assert!(reason.ends_with(":1: connection refused"), "{reason}");
    assert_eq!(source, Some(refused));
    // It is there again, and found.
    cluster.set(2, Fault::None);
    client.put("a", "1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_nobody_lets_in_is_told_at_once() {
    let cluster = Cluster::new(3);
    for node in 1..=3 {
        cluster.set(node, Fault::Distrusts);
    }
    let client = client(&cluster, &["1:1", "2:1", "3:1"]);
    // Again, too: the second call finds all of them refused already.
    for _ in 0..2 {
        let started = Instant::now();
        let error = client.put("a", "1").await.unwrap_err();
        assert_eq!(started.elapsed(), Duration::ZERO);
        let ClientError::NotDone { reason, source } = error else { panic!("{error:?}") };
        assert!(reason.ends_with(":1: certificate refused"), "{reason}");
        let refused = CallError::Refused("certificate refused".into());
        assert_eq!(source, Some(Cause::Call(refused)));
    }
    // One that may yet let it in is worth waiting for.
    cluster.set(2, Fault::Gone);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (put, heal) = tokio::join!(client.put("a", "1"), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.set(2, Fault::None);
    });
    put.unwrap();
    let () = heal;
}

#[tokio::test(start_paused = true)]
async fn no_endpoints_is_an_error() {
    let client = client(&Cluster::new(1), &[]);
    let error = client.get_one("a").await.unwrap_err();
    assert_eq!(error.to_string(), "no endpoints given");
}

#[tokio::test(start_paused = true)]
async fn a_write_in_an_expired_session_runs_in_a_new_one() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    cluster.forget_sessions();
    client.put("a", "2").await.unwrap();
    cluster.with(|state| assert_eq!((state.opened, state.executed.len()), (2, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_run_in_an_expired_session_is_unknown() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    cluster.set(1, Fault::Mute);
    let write = tokio::spawn({
        let client = client.clone();
        async move { client.put("a", "2").await }
    });
    settle().await;
    cluster.forget_sessions();
    cluster.set(1, Fault::None);
    let error = write.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
    assert_eq!(cluster.with(|state| state.executed.len()), 2, "it ran again in a new session");
    client.put("a", "3").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_refused_once() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    let attached = Put::new("a", "1").with_lease(LeaseId(5));
    let error = client.put_with(attached).await.unwrap_err();
    assert_eq!(error, ClientError::Refused(KvError::LeaseNotFound(LeaseId(5))));
    assert_eq!(cluster.with(|state| state.asked.len()), 2, "session and put");
}

/// A node that answers nothing would leave it unknown.
#[tokio::test(start_paused = true)]
async fn what_no_node_would_take_is_told_without_asking_any() {
    let cluster = Cluster::new(1);
    cluster.set(1, Fault::Mute);
    let client = client(&cluster, &["1:1"]);
    let error = client.put("", "1").await.unwrap_err();
    assert_eq!(error, ClientError::Refused(KvError::KeyEmpty));
    let error = client.put("a", vec![0; 2 << 20]).await.unwrap_err();
    assert_eq!(error.to_string(), "value is 2097152 bytes, over the limit of 1048576");
    assert_eq!(cluster.with(|state| state.asked.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_window_makes_writes_wait() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "0").await.unwrap();
    cluster.held.send_replace(true);
    let window = usize::try_from(SESSION_WINDOW_MAX).unwrap();
    let mut writes = JoinSet::new();
    for number in 0..window + 100 {
        let client = client.clone();
        writes.spawn(async move { client.put("a", number.to_string()).await });
    }
    settle().await;
    cluster.with(|state| assert_eq!(state.executed.len(), 1 + window));
    cluster.held.send_replace(false);
    assert!(writes.join_all().await.iter().all(Result::is_ok));
    cluster.with(|state| {
        assert_eq!(state.executed.len(), 1 + window + 100);
        assert_eq!(state.widest, SESSION_WINDOW_MAX);
    });
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_counts_as_answered() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    client.put("a", "1").await.unwrap();
    cluster.held.send_replace(true);
    let write = tokio::spawn({
        let client = client.clone();
        async move { client.put("a", "2").await }
    });
    settle().await;
    write.abort();
    assert!(write.await.unwrap_err().is_cancelled());
    cluster.held.send_replace(false);
    client.put("a", "3").await.unwrap();
    assert_eq!(cluster.with(|state| state.unanswered_from), 3);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_without_a_target_is_not_sent_twice() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    cluster.set(1, Fault::Mute);
    let error = client.transfer_leadership(None).await.unwrap_err();
    assert!(error.may_have_run(), "{error:?}");
    assert_eq!(cluster.with(|state| state.transfers), 1);
}

#[tokio::test(start_paused = true)]
async fn statuses_cover_members_that_were_not_given() {
    let cluster = Cluster::new(3);
    cluster.set(2, Fault::Gone);
    let client = client(&cluster, &["3:1"]);
    let statuses = client.statuses().await;
    let found: Vec<_> = statuses
        .iter()
        .map(|one| (&*one.endpoint, one.status.as_ref().ok().map(|node| node.id)))
        .collect();
    let expected = [("3:1", Some(NodeId(3))), ("1:1", Some(NodeId(1))), ("2:1", None)];
    assert_eq!(found, expected);
    let error = client.status("2:1").await.unwrap_err();
    assert_eq!(error.to_string(), "2:1: connection refused");
    assert_eq!(client.status("1:1").await.unwrap().id, NodeId(1));
}

#[tokio::test(start_paused = true)]
async fn members_of_another_cluster_are_not_taken_in() {
    let cluster = Cluster::new(2);
    cluster.set(65, Fault::Foreign);
    // Asked about, or even given by mistake.
    let one = client(&cluster, &["1:1"]);
    one.put("a", "1").await.unwrap();
    assert_eq!(one.status("65:1").await.unwrap().cluster.0, 2);
    assert_eq!(one.statuses().await.len(), 2);
    let mixed = client(&cluster, &["1:1", "65:1"]);
    mixed.put("a", "1").await.unwrap();
    settle().await;
    let found = mixed.statuses().await;
    let endpoints: BTreeSet<_> = found.iter().map(|one| &*one.endpoint).collect();
    assert_eq!(endpoints, BTreeSet::from(["1:1", "2:1", "65:1"]));
}

fn add() -> Vec<Change> {
    vec![Change::Add { node: NodeId(4), address: "4:1".into(), promote: true }]
}

#[tokio::test(start_paused = true)]
async fn members_are_told_and_changed() {
    let cluster = Cluster::new(3);
    let client = client(&cluster, &["1:1"]);
    let members = client.members().await.unwrap();
    assert_eq!(members.summary(), "3 voters: a quorum is 2, 1 may fail");
    let members = client.change_members(add()).await.unwrap();
    assert!(members.fulfil(&add()));
    assert_eq!(members.membership.learners().collect::<Vec<_>>(), [NodeId(4)]);
    let refused = client.change_members(add()).await.unwrap_err();
    let ClientError::Refused(KvError::ChangeRefused { reason, .. }) = refused else { panic!() };
    assert_eq!(reason, "n4 is a member already");
    assert_eq!(cluster.with(|state| state.changes), 2);
}

/// Its reply was lost: that it took effect is seen in the members.
#[tokio::test(start_paused = true)]
async fn a_change_in_doubt_is_sent_once_and_looked_for() {
    let cluster = Cluster::new(3);
    cluster.set(1, Fault::LosesFirstReply);
    let client = client(&cluster, &["1:1"]);
    assert!(client.change_members(add()).await.unwrap().fulfil(&add()));
    assert_eq!(cluster.with(|state| state.changes), 1);

    // It did not take effect, or not yet: who knows.
    for node in 1..=3 {
        cluster.set(node, Fault::AnswersTimes(KvError::Unknown("leadership lost".into()), 1));
    }
    let remove = vec![Change::Remove { node: NodeId(4) }];
    let unknown = client.change_members(remove).await.unwrap_err();
    assert!(unknown.may_have_run(), "{unknown:?}");
    assert_eq!(cluster.with(|state| state.changes), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_tells_its_position() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    let put = client.put("a", "1").await.unwrap();
    let range = Range::of(Keys::all());
    let read = client.read(range, Consistency::Linearizable).await.unwrap();
    assert_eq!(read.position, Position { epoch: 3, revision: put.revision });
    assert_eq!((read.range.count, read.staleness), (1, Some(Duration::ZERO)));
}

/// The reason reaches programs, not only people.
#[tokio::test(start_paused = true)]
async fn no_quorum_is_machine_readable() {
    let cluster = Cluster::new(1);
    let client = client(&cluster, &["1:1"]);
    for may_have_run in [false, true] {
        let error = KvError::NoQuorum { may_have_run, why: Box::new(why()) };
        cluster.set(1, Fault::Answers(error));
        let error = client.change_members(add()).await.unwrap_err();
        assert_eq!((error.may_have_run(), error.no_quorum()), (may_have_run, Some(&why())));
        assert!(error.to_string().ends_with("no quorum 1/3: n2 unreachable 4.1 s"), "{error}");
    }
}
