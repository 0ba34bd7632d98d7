//! What is measured, and how much better than etcd it has to be.

/// What a cell is judged by.
#[derive(Clone, Copy)]
pub(super) enum Judged {
    /// Operations in a second.
    Rate,
    /// The median of the latencies.
    P50,
    /// Their 99th percentile.
    P99,
}

/// One workload.
pub(super) struct Cell {
    pub(super) name: &'static str,
    /// Arguments of `raft bench`.
    pub(super) words: &'static str,
    /// Whether ours is asked by its own protocol, and only etcd by etcd's API.
    pub(super) native: bool,
    pub(super) judged: Judged,
    /// How many times better it has to be.
    pub(super) at_least: f64,
    /// How many times better it is meant to be.
    pub(super) aim: f64,
}

const fn etcd(name: &'static str, words: &'static str, at_least: f64, aim: f64) -> Cell {
    Cell { name, words, native: false, judged: Judged::Rate, at_least, aim }
}

const fn native(name: &'static str, words: &'static str, at_least: f64, aim: f64) -> Cell {
    Cell { name, words, native: true, judged: Judged::Rate, at_least, aim }
}

/// All of them.
pub(super) const CELLS: [Cell; 14] = [
    etcd("put 1", "put --clients 1", 1.5, 2.5),
    etcd("put 64", "put --clients 64", 2.0, 3.0),
    etcd("put 256", "put --clients 256", 2.0, 3.0),
    etcd("put 1000", "put --clients 1000", 2.0, 3.0),
    native("native put 256", "put --clients 256", 4.0, 8.0),
    native("native put 1000", "put --clients 1000", 5.0, 8.0),
    Cell { judged: Judged::P50, ..native("native put 1, latency", "put --clients 1", 1.75, 3.0) },
    Cell {
        judged: Judged::P99,
        ..etcd("put 256, latency", "put --clients 256 --rate 5000", 3.0, 10.0)
    },
    etcd("get 256", "get --clients 256", 1.5, 2.5),
    native("native get 256", "get --clients 256", 5.0, 13.0),
    etcd("txn 64", "txn --clients 64", 3.0, 6.0),
    etcd("mixed 256", "mixed --clients 256", 3.0, 5.0),
    etcd("watch", "watch --clients 16 --watchers 100", 2.0, 3.0),
    native("native watch", "watch --clients 16 --watchers 100", 2.0, 5.0),
];
