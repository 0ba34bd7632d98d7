//! What is measured, and how much better than another store it has to be.

use benches::zookeeper::Operation;

/// What a cell is judged by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// Operations in a second.
    Rate,
    /// The median of the latencies.
    P50,
    /// Their 99th percentile.
    P99,
    /// Processor time of the servers for one operation.
    Cpu,
}

/// Which store ours is held against, and how ours is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Both by etcd's API.
    Etcd,
    /// etcd by its API, ours by its own protocol.
    NativeEtcd,
    /// ZooKeeper by its protocol, ours by its own.
    ZooKeeper(Operation),
}

/// One workload.
pub(super) struct Cell {
    pub(super) name: &'static str,
    /// Arguments of `raft bench`.
    pub(super) words: &'static str,
    pub(super) clients: u32,
    pub(super) beside: Beside,
    pub(super) judged: Judged,
    /// How many times better it has to be.
    at_least: f64,
    /// How many times better it is meant to be.
    aim: f64,
}

impl Cell {
    /// How many times better it has to be, and is meant to be. Where flushes are slow, what counts
    /// is that they are shared: nobody can be many times faster than the disk.
    pub(super) const fn bounds(&self, slow_flushes: bool) -> (f64, f64) {
        match slow_flushes {
            true => (1.0, 2.0),
            false => (self.at_least, self.aim),
        }
    }

    /// Whether it needs ZooKeeper.
    pub(super) const fn is_of_zookeeper(&self) -> bool {
        matches!(self.beside, Beside::ZooKeeper(_))
    }

    /// Whether each operation is a write.
    pub(super) fn is_of_writes(&self) -> bool {
        self.words.starts_with("put") || self.words == "txn"
    }

    const fn judged(self, judged: Judged) -> Self {
        Self { judged, ..self }
    }
}

const fn cell(
    name: &'static str,
    words: &'static str,
    clients: u32,
    beside: Beside,
    (at_least, aim): (f64, f64),
) -> Cell {
    Cell { name, words, clients, beside, judged: Judged::Rate, at_least, aim }
}

const ETCD: Beside = Beside::Etcd;
const NATIVE: Beside = Beside::NativeEtcd;
const SET: Beside = Beside::ZooKeeper(Operation::Set);
const SYNC_GET: Beside = Beside::ZooKeeper(Operation::SyncGet);

/// All of them.
pub(super) const CELLS: [Cell; 19] = [
    cell("put 1", "put", 1, ETCD, (1.5, 2.5)),
    cell("put 64", "put", 64, ETCD, (2.0, 3.0)),
    cell("put 256", "put", 256, ETCD, (2.0, 3.0)),
    cell("put 1000", "put", 1000, ETCD, (2.0, 3.0)),
    cell("put 256, CPU", "put", 256, ETCD, (3.0, 6.0)).judged(Judged::Cpu),
    cell("native put 256", "put", 256, NATIVE, (4.0, 8.0)),
    cell("native put 1000", "put", 1000, NATIVE, (5.0, 8.0)),
    cell("native put 1, latency", "put", 1, NATIVE, (1.75, 3.0)).judged(Judged::P50),
    cell("put 256, latency", "put --rate 5000", 256, ETCD, (3.0, 10.0)).judged(Judged::P99),
    cell("get 256", "get", 256, ETCD, (1.5, 2.5)),
    cell("native get 256", "get", 256, NATIVE, (5.0, 13.0)),
    cell("txn 64", "txn", 64, ETCD, (3.0, 6.0)),
    cell("mixed 256", "mixed", 256, ETCD, (3.0, 5.0)),
    cell("watch", "watch --watchers 100", 16, ETCD, (2.0, 3.0)),
    cell("native watch", "watch --watchers 100", 16, NATIVE, (2.0, 5.0)),
    cell("setData 1, latency", "put", 1, SET, (1.0, 1.8)).judged(Judged::P50),
    cell("setData 256", "put", 256, SET, (3.0, 6.0)),
    cell("setData 1000", "put", 1000, SET, (3.0, 6.0)),
    cell("sync and getData 256", "get", 256, SYNC_GET, (3.0, 8.0)),
];
