//! What waits: watches, locks, elections, leases that are kept alive, mirrors.

use crate::etcd::case::{Case, same, words};
use crate::etcd::compare::Pair;
use tokio::io::AsyncWriteExt;

const WRITES: &[Case] = &[
    same("put w/1 a"),
    same("put w/1 b"),
    same("put w/2 c"),
    same("txn").input("\nput w/3 d\nput w/4 e\ndel w/1\n\n\n"),
    same("put elsewhere x"),
    same("del w/2"),
    same("lease grant 500"),
    same("put w/5 leased --lease {lease1}"),
    same("put w/6 leased --lease {lease1}"),
    same("lease revoke {lease1}"),
    same("put w/1 'a new one'"),
    same("put w/end END"),
];

/// Each is read up to the last write, which all of them see.
const WATCHES: &[&str] = &[
    "watch w --prefix --rev 1",
    "watch w --prefix --rev 3",
    "watch w --prefix --rev 1 --prev-kv",
    "watch w --prefix --rev 2 -w json",
    "watch w --prefix --rev 2 -w fields",
    "watch w/1 w/zzz --rev 2",
    "watch w/2 w/f --rev 1 -w json --prev-kv",
    "watch --rev 1 --prefix w --hex",
    "watch --rev 4 w --prefix -- env",
];

/// What is put so that a watch comes to its end.
const LAST: &str = "END";

const REFUSED: &[Case] = &[
    same("watch"),
    same("watch a --rev x"),
    same("compaction 5"),
    same("watch w --prefix --rev 2"),
    same("watch b a"),
    same("lock"),
    same("lock some/lock -- echo taken"),
    same("lock some/lock echo taken"),
    same("lock some/lock -- false"),
    same("get some/lock --prefix"),
    same("lock some/lock --ttl 5 -- true"),
    same("lock '' -- echo taken"),
    same("elect"),
    same("elect a b c"),
    same("make-mirror"),
];

/// What waits is told the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_told_what_etcd_tells_it() {
    let mut pair = Pair::start().await;
    pair.run(WRITES).await;
    for watch in WATCHES {
        watched(&mut pair, watch).await;
    }
    pair.run(REFUSED).await;
    kept(&mut pair).await;
    asked(&mut pair).await;
    held(&mut pair).await;
    elected(&mut pair).await;
    mirrored(&mut pair).await;
    pair.end();
}

/// What a watch prints up to the last write.
async fn watched(pair: &mut Pair, watch: &str) {
    let words = words(watch);
    let told = async |side: &crate::etcd::side::Side| {
        let mut running = side.start(&words).await;
        let mut lines = Vec::new();
        loop {
            let line = running.line().await;
            // In JSON the value is in base64, in hexadecimal as it is.
            let last = [LAST, "RU5E", "\\x45\\x4e\\x44", "w/end"];
            let ended = last.iter().any(|last| line.contains(last));
            // What a command of the watch finds in its environment, as far as it is the watch's.
            if !watch.ends_with("env") || line.starts_with("ETCD_WATCH") {
                lines.push(line);
            }
            if ended {
                break;
            }
        }
        lines.push(format!("{:?}", running.interrupted().await));
        lines
    };
    let (ours, theirs) = tokio::join!(told(&pair.ours), told(&pair.theirs));
    pair.lines(watch, &ours, &theirs);
}

/// A lease that is kept alive until it is revoked elsewhere.
async fn kept(pair: &mut Pair) {
    pair.run(&[same("lease grant 3")]).await;
    let told = async |side: &crate::etcd::side::Side| {
        let lease = side.names.leases.last().unwrap();
        let mut keeping = side.start(&words(&format!("lease keep-alive {lease:x}"))).await;
        let mut lines = vec![keeping.line().await, keeping.line().await];
        let revoked = side.etcdctl(&words(&format!("lease revoke {lease:x}")), "").await;
        assert_eq!(revoked.code, 0, "{revoked:?}");
        // It may have been answered once more.
        let last = loop {
            let line = keeping.line().await;
            if !line.contains("keepalived with TTL") {
                break line;
            }
        };
        lines.extend([last, format!("{:?}", keeping.ended().await)]);
        lines
    };
    let (ours, theirs) = tokio::join!(told(&pair.ours), told(&pair.theirs));
    pair.lines("lease keep-alive", &ours, &theirs);
}

/// Watches that are asked for line by line, and told how far they are.
async fn asked(pair: &mut Pair) {
    let told = async |side: &crate::etcd::side::Side| {
        let (mut running, mut asking) = side.start_asking(&words("watch -i")).await;
        asking.write_all(b"watch w/end --rev 6\n").await.unwrap();
        let mut lines = running.until(LAST).await;
        asking.write_all(b"progress\n").await.unwrap();
        lines.push(running.line().await);
        lines.push(format!("{:?}", running.interrupted().await));
        lines
    };
    let (ours, theirs) = tokio::join!(told(&pair.ours), told(&pair.theirs));
    pair.lines("watch -i", &ours, &theirs);
}

/// A lock that is held, and one that waits for it.
async fn held(pair: &mut Pair) {
    let both = [words("lock held"), words("get held --prefix --keys-only")];
    let told = async |side: &crate::etcd::side::Side| {
        let mut first = side.start(&both[0]).await;
        let key = first.line().await;
        let (name, lease) = key.rsplit_once('/').unwrap();
        assert!(i64::from_str_radix(lease, 16).is_ok(), "{key}");
        let mut second = side.start(&both[0]).await;
        let keys = async || side.etcdctl(&both[1], "").await.stdout;
        while keys().await.matches("held/").count() < 2 {}
        let code = first.interrupted().await;
        let taken = second.line().await;
        assert_ne!(taken, key);
        let lines = vec![name.to_owned(), format!("{code:?}")];
        let code = second.interrupted().await;
        let left = keys().await;
        [lines, vec![format!("{code:?}"), left]].concat()
    };
    let (ours, theirs) = tokio::join!(told(&pair.ours), told(&pair.theirs));
    pair.lines("lock held", &ours, &theirs);
}

/// An election, one who looks on, and one who comes second.
async fn elected(pair: &mut Pair) {
    let [first, second] = ["one", "two"].map(|value| words(&format!("elect post {value}")));
    let looking = words("elect post --listen");
    let told = async |side: &crate::etcd::side::Side| {
        let mut leading = side.start(&first).await;
        let lines = leading.until("one").await;
        let mut observing = side.start(&looking).await;
        let seen = observing.until("one").await;
        let mut waiting = side.start(&second).await;
        let get = words("get post --prefix --keys-only");
        while side.etcdctl(&get, "").await.stdout.matches("post/").count() < 2 {}
        let code = leading.interrupted().await;
        let then = observing.until("two").await;
        let won = waiting.until("two").await;
        let codes = [code, waiting.interrupted().await, observing.interrupted().await];
        // A key ends with a lease.
        let lines = [lines, seen, then, won].concat();
        let named = lines.iter().map(|line| match line.split_once('/') {
            Some((name, _)) => name.to_owned(),
            None => line.clone(),
        });
        named.chain(codes.iter().map(|code| format!("{code:?}"))).collect::<Vec<_>>()
    };
    let (ours, theirs) = tokio::join!(told(&pair.ours), told(&pair.theirs));
    pair.lines("elect post", &ours, &theirs);
}

/// Each side is mirrored to the other.
async fn mirrored(pair: &mut Pair) {
    pair.run(&[same("put from/1 a"), same("put from/2 b")]).await;
    let mirror = |to: &str| {
        words(&format!(
            "make-mirror {to} --prefix from/ --dest-prefix to/ --dest-insecure-transport"
        ))
    };
    let to_theirs = pair.ours.start(&mirror(&pair.theirs.clients[0])).await;
    let to_ours = pair.theirs.start(&mirror(&pair.ours.clients[0])).await;
    for side in [&pair.ours, &pair.theirs] {
        let get = words("get to/2 --print-value-only");
        while side.etcdctl(&get, "").await.stdout != "b\n" {}
    }
    pair.run(&[same("put from/3 c"), same("del from/1")]).await;
    for side in [&pair.ours, &pair.theirs] {
        let get = words("get to/ --prefix --print-value-only");
        while side.etcdctl(&get, "").await.stdout != "b\nc\n" {}
    }
    let (ours, theirs) = (to_theirs.interrupted().await, to_ours.interrupted().await);
    assert_eq!(ours, theirs);
    pair.run(&[same("get to/ --prefix --keys-only")]).await;
}

/// Whether the store passes what etcd's own tool takes for fast enough: a test of a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn performance_is_checked() {
    if !crate::cluster::support::slow() {
        return;
    }
    let pair = Pair::start().await;
    for side in [&pair.ours, &pair.theirs] {
        let outcome = side.etcdctl(&words("check perf --load s"), "").await;
        // On a busy machine it may be too slow, on both sides.
        println!("{}: {}\n{}", side.name, outcome.stdout, outcome.stderr);
        assert!(outcome.stdout.contains("Throughput"), "{outcome:?}");
        // None of its requests may fail, however slow they are.
        let failed = "FAIL: too many errors";
        assert!(!outcome.stdout.contains(failed), "{}: {outcome:?}", side.name);
    }
}
