//! Locks and leadership held by processes that are paused, cut off and told to stop.

use super::support::{GUARD, Raft, TestCluster, raft};
use nix::sys::signal::Signal;
use raft_core::types::NodeId;

async fn one_node() -> TestCluster {
    let mut cluster = TestCluster::new(1);
    cluster.processes.start_all().await.unwrap();
    cluster
}

/// A shell that says what fence it has, and then waits for input that does not come.
const TELL: &str = "echo \"$RAFT_LOCK_KEY:$RAFT_LOCK_TOKEN\"; exec cat";

/// The holder is paused past its lease, its command is not: the lock goes to another, what the
/// command writes is refused, and when the holder wakes it ends the command.
#[tokio::test]
async fn a_holder_that_was_paused_has_lost_the_lock() {
    let cluster = one_node().await;
    let mut first = raft(&cluster, &["lock", "report", "--ttl", "2s", "--", "sh", "-c", TELL]);
    let fence = first.line().await;
    let put = |fence: String| {
        let words = ["put", "report", "mine", "--fence", &fence].map(str::to_owned);
        raft(&cluster, &words.each_ref().map(String::as_str)).ended()
    };
    assert_eq!(put(fence.clone()).await.code, 0);

    first.signal(Signal::SIGSTOP);
    let mut second = raft(&cluster, &["-o", "simple", "lock", "report"]);
    let (key, token) = (second.line().await, second.line().await);
    assert!(key.starts_with("report/") && !fence.starts_with(&key), "{key} {fence}");
    let late = put(fence).await;
    assert_eq!(late.code, 3, "{late:?}");
    assert!(late.stderr.contains("is not held any more"), "{late:?}");
    assert_eq!(put(format!("{key}:{token}")).await.code, 0);

    first.signal(Signal::SIGCONT);
    // That its output ends says that the command has ended, too.
    let first = first.ended().await;
    assert_eq!(first.code, 5, "{first:?}");
    assert!(first.stderr.starts_with("error: the lock report was lost"), "{first:?}");
    second.signal(Signal::SIGTERM);
    assert_eq!(second.ended().await.code, 0);
}

/// Nobody can be reached for the time of the lease: a command that does not listen is killed, and
/// what it has started.
#[tokio::test]
async fn a_command_that_ignores_the_loss_is_killed() {
    let mut cluster = one_node().await;
    let script = "trap '' TERM; echo ready; cat; while :; do sleep 1000; done";
    let words = ["lock", "report", "--ttl", "2s", "--grace", "10ms", "--", "sh", "-c", script];
    let mut holder = raft(&cluster, &words);
    assert_eq!(holder.line().await, "ready");
    cluster.processes.kill(NodeId(1)).await;
    let holder = holder.ended().await;
    assert_eq!(holder.code, 5, "{holder:?}");
}

#[tokio::test]
async fn a_command_ends_as_it_likes() {
    let cluster = one_node().await;
    for (script, code) in [("exit 0", 0), ("exit 77", 77), ("kill -KILL $$", 137)] {
        let ended = raft(&cluster, &["lock", "report", "--", "sh", "-c", script]).ended().await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert_eq!(ended.stderr, "");
    }
    let absent = raft(&cluster, &["lock", "report", "--", "/nonexistent"]).ended().await;
    assert_eq!(absent.code, 6, "{absent:?}");
    assert!(absent.stderr.starts_with("error: cannot run /nonexistent: "), "{absent:?}");
}

/// What is to stop the holder stops the command, and the lock is free at once.
#[tokio::test]
async fn sigterm_is_passed_on() {
    let cluster = one_node().await;
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let long = ["lock", "report", "--ttl", "1h", "--", "sh", "-c", script];
    let mut holder = raft(&cluster, &long);
    assert_eq!(holder.line().await, "ready");
    let busy = raft(&cluster, &["lock", "report", "--try", "--", "true"]).ended().await;
    assert_eq!(busy.code, 1, "{busy:?}");
    assert_eq!(busy.stderr, "error: the lock report is held by another one\n");
    let busy = raft(&cluster, &["lock", "report", "--wait", "10ms", "--", "true"]).ended().await;
    assert_eq!(busy.code, 1, "{busy:?}");
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.ended().await.code, 3);
    let free = raft(&cluster, &["lock", "report", "--try", "--", "true"]).ended().await;
    assert_eq!(free.code, 0, "{free:?}");
}

/// The same for SIGHUP, as of a terminal that is closed, unless `nohup` has it ignored.
#[tokio::test]
async fn sighup_is_passed_on() {
    let cluster = one_node().await;
    let script = "trap 'exit 4' HUP; echo ready; while :; do sleep 0.01; done";
    let mut holder = raft(&cluster, &["lock", "report", "--ttl", "1h", "--", "sh", "-c", script]);
    assert_eq!(holder.line().await, "ready");
    holder.signal(Signal::SIGHUP);
    assert_eq!(holder.ended().await.code, 4);
    let free = raft(&cluster, &["lock", "report", "--try", "--", "true"]).ended().await;
    assert_eq!(free.code, 0, "{free:?}");
}

/// Nobody is left to end the command: the system does.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_does_not_outlive_a_killed_holder() {
    let cluster = one_node().await;
    let script = "trap '' TERM; echo ready; exec cat";
    let mut holder = raft(&cluster, &["lock", "report", "--", "sh", "-c", script]);
    assert_eq!(holder.line().await, "ready");
    holder.signal(Signal::SIGKILL);
    // The command has it open, too.
    holder.until_output_ends().await;
}

/// Somebody deletes the key of the lock while it is held.
#[tokio::test]
async fn a_holder_whose_key_is_deleted_has_lost_the_lock() {
    let cluster = one_node().await;
    let words = ["lock", "report", "--ttl", "1h", "--", "sh", "-c", TELL];
    let mut holder = raft(&cluster, &words);
    holder.line().await;
    let deleted = raft(&cluster, &["del", "--prefix", "report/"]).ended().await;
    assert_eq!(deleted.code, 0, "{deleted:?}");
    let holder = holder.ended().await;
    assert_eq!(holder.code, 5, "{holder:?}");
    assert!(holder.stderr.starts_with("error: the lock report was lost"), "{holder:?}");
}

/// That nobody answers does not mean that somebody holds it.
#[tokio::test]
async fn without_a_quorum_waiting_in_vain_says_so() {
    let mut cluster = TestCluster::start().await;
    let leader = cluster.leader().await;
    for id in cluster.others(leader) {
        cluster.processes.kill(id).await;
    }
    // From when on the one that is left knows that it is alone.
    let late = raft(&cluster, &["put", "key", "value", "--deadline", "6s"]).ended().await;
    assert!(late.stderr.contains("no quorum 1/3"), "{late:?}");
    let waited = raft(&cluster, &["lock", "report", "--wait", "3s", "--", "true"]).ended().await;
    assert_eq!(waited.code, 4, "{waited:?}");
    assert!(waited.stderr.contains("no quorum 1/3"), "{waited:?}");
    let mut watch = raft(&cluster, &["watch", "key"]);
    let said = watch.error_line().await;
    assert!(said.starts_with("the watch waits for a node that can serve it: "), "{said}");
    assert!(said.contains("no quorum 1/3"), "{said}");
}

#[tokio::test]
async fn a_candidate_has_a_name_if_nobody_gives_it_one() {
    let cluster = one_node().await;
    let mut observer = raft(&cluster, &["elect", "primary", "--observe"]);
    assert_eq!(observer.line().await, "nobody leads");
    let leader = raft(&cluster, &["elect", "primary", "--", "true"]).ended().await;
    assert_eq!(leader.code, 0, "{leader:?}");
    let told = observer.line().await;
    let (name, _) = told.split_once(" leads; token ").unwrap_or_else(|| panic!("{told}"));
    let (host, process) = name.split_once(':').unwrap();
    assert!(!host.is_empty() && process.parse::<u32>().is_ok(), "{told}");
}

#[tokio::test]
async fn members_of_a_group_come_and_go() {
    let cluster = one_node().await;
    let mut watch = raft(&cluster, &["group", "watch", "search"]);
    let join = |words: &[&str]| raft(&cluster, &[&["group", "join", "search"], words].concat());
    let mut one = join(&["h1:80", "--id", "one", "-o", "simple"]);
    assert!(one.line().await.starts_with("search/one"));
    assert_eq!(watch.line().await, "joined  one  h1:80");
    let again = join(&["--id", "one", "--", "true"]).ended().await;
    assert_eq!(again.code, 1, "{again:?}");
    let two = join(&["--id", "two", "--", "sh", "-c", "exit 7"]).ended().await;
    assert_eq!(two.code, 7, "{two:?}");
    assert_eq!(watch.line().await, "joined  two");
    assert_eq!(watch.line().await, "left  two");
    let list = raft(&cluster, &["group", "list", "search", "-o", "simple"]).ended().await;
    assert_eq!(list.stdout, "one\nh1:80\n");
    one.signal(Signal::SIGINT);
    assert_eq!(one.ended().await.code, 0);
    assert_eq!(watch.line().await, "left  one  h1:80");
}

/// Each partition has one command at a time; the fences of those that have moved are void.
#[tokio::test]
async fn work_is_shared_out_among_workers() {
    let cluster = one_node().await;
    let script = "echo \"$RAFT_PARTITION $RAFT_LOCK_KEY:$RAFT_LOCK_TOKEN\"; exec cat";
    let work = |id: &str, script: &str| {
        let words = ["partition", "work", "index", "--count", "2", "--id", id];
        raft(&cluster, &[&words[..], &["--", "sh", "-c", script]].concat())
    };
    let mut one = work("one", script);
    let mut mine = [one.line().await, one.line().await];
    mine.sort();
    assert!(mine[0].starts_with("0 index/owners/") && mine[1].starts_with("1 index/"), "{mine:?}");
    let mut two = work("two", script);
    let moved = two.line().await;
    let (partition, fence) = moved.split_once(' ').unwrap();
    let (_, void) = mine
        .iter()
        .find_map(|line| line.split_once(' ').filter(|(number, _)| *number == partition))
        .unwrap();
    let put =
        async |fence: &str| raft(&cluster, &["put", "x", "", "--fence", fence]).ended().await.code;
    assert_eq!((put(void).await, put(fence).await), (3, 0));
    let list = ["partition", "list", "index", "--count", "2", "-o", "simple"];
    let list = raft(&cluster, &list).ended().await.stdout;
    assert!(list.contains("one\n") && list.contains(&format!("{partition} two\n")), "{list}");

    // A worker that fails gives up its share.
    let two_ends = two.ended_by(Signal::SIGTERM).await;
    assert_eq!(two_ends.code, 143, "{two_ends:?}");
    let back = one.line().await;
    assert!(back.starts_with(&format!("{partition} ")) && back != *void, "{back}");
    let one = one.ended_by(Signal::SIGTERM).await;
    assert_eq!(one.code, 143, "{one:?}");
    let failed = work("three", "[ $RAFT_PARTITION = 0 ] && exit 9; exec cat").ended().await;
    assert_eq!(failed.code, 9, "{failed:?}");
}

/// Whoever is interrupted while waiting leaves the line, and holds up nobody behind.
#[tokio::test]
async fn one_that_gives_up_waiting_leaves_the_line() {
    let cluster = one_node().await;
    let mut holder = raft(&cluster, &["elect", "primary", "a", "-o", "json"]);
    assert!(holder.line().await.starts_with("{\"key\":\"primary/"));
    let waiting = raft(&cluster, &["elect", "primary", "b", "--ttl", "1h"]);
    in_line(&cluster, "2").await;
    waiting.signal(Signal::SIGINT);
    let waited = waiting.ended().await;
    assert_eq!(waited.code, 1, "{waited:?}");
    assert!(waited.stderr.contains("gave up waiting for the leadership of primary"), "{waited:?}");
    in_line(&cluster, "1").await;
    holder.signal(Signal::SIGINT);
    assert_eq!(holder.ended().await.code, 0);
    in_line(&cluster, "0").await;
}

/// Waits until so many are in the line of `primary`.
async fn in_line(cluster: &TestCluster, count: &str) {
    let there = async {
        loop {
            let got = raft(cluster, &["get", "--prefix", "primary/", "--count-only"]).ended().await;
            if got.stdout.trim_end() == count {
                return;
            }
        }
    };
    tokio::time::timeout(GUARD, there).await.expect("in time");
}

#[tokio::test]
async fn whoever_observes_sees_every_leader() {
    let cluster = one_node().await;
    let mut observer = raft(&cluster, &["elect", "primary", "--observe"]);
    assert_eq!(observer.line().await, "nobody leads");
    let leader = raft(&cluster, &["elect", "primary", "host-7", "--", "true"]).ended().await;
    assert_eq!(leader.code, 0, "{leader:?}");
    let told = observer.line().await;
    assert!(told.starts_with("host-7 leads; token "), "{told}");
    assert_eq!(observer.line().await, "nobody leads");
}

/// A key hangs on its lease: it stays while that is kept alive, and goes when nobody does.
#[tokio::test]
async fn a_key_goes_with_its_lease() {
    let cluster = one_node().await;
    let done = |words: &'static [&'static str]| {
        let run = raft(&cluster, words);
        async move {
            let ended = run.ended().await;
            assert_eq!(ended.code, 0, "{ended:?}");
            ended.stdout
        }
    };
    let mut watch = raft(&cluster, &["watch", "here", "--rev", "1"]);
    done(&["lease", "grant", "2s", "--id", "5ca1ab1e"]).await;
    let mut keeper = raft(&cluster, &["lease", "keep-alive", "5ca1ab1e"]);
    done(&["put", "here", "host-7", "--lease", "5ca1ab1e"]).await;
    assert_eq!(watch.line().await, "2  put  here  host-7");
    // Each comes after a third of the time of the lease: it has outlived itself then.
    for _ in 0..5 {
        let told = keeper.line().await;
        assert_eq!(told, "lease 000000005ca1ab1e kept alive: lives for 2s");
    }
    assert_eq!(done(&["get", "here", "--raw"]).await, "host-7\n");
    drop(keeper);
    assert_eq!(watch.line().await, "3  del  here");
    assert_eq!(done(&["lease", "list"]).await, "no leases\n");
}

/// The watch goes on at another node when its own dies, from where it was, and says so.
#[tokio::test]
async fn a_watch_outlives_its_node() {
    let mut cluster = TestCluster::start().await;
    let leader = cluster.leader().await;
    let node = cluster.others(leader)[0];
    let address = cluster.processes.folder().address(node).to_owned();
    // Whoever names one node means that node.
    let words = ["--endpoints", &address, "watch", "--prefix", "key/", "--rev", "1"];
    let mut watch: Raft = raft(&cluster, &words);
    cluster.put("key/1", "a").await;
    assert_eq!(watch.line().await, "2  put  key/1  a");
    cluster.processes.kill(node).await;
    cluster.put("key/2", "b").await;
    cluster.put("other", "").await;
    cluster.put("key/3", "c").await;
    assert_eq!(watch.line().await, "3  put  key/2  b");
    assert_eq!(watch.line().await, "5  put  key/3  c");
    let mut said = watch.error_line().await;
    if said.starts_with(&address) {
        assert_eq!(said, format!("{address} does not answer: looking for another node"));
        said = watch.error_line().await;
    }
    let next = said.strip_prefix("the watch goes on at ").unwrap_or_else(|| panic!("{said}"));
    assert_ne!(next, address);
}
