//! What a watcher takes of a node's memory while nothing happens, and what a stream takes that has
//! much to catch up with and is not read: `cargo run --release -p benches --example watch_memory`.
//!
//! A node with a store in memory serves streams of watches within the process. The other ends keep
//! nothing but their stream. Memory is what the system says the process holds, before and after.

use bytes::Bytes;
use raft_core::log_store::MemoryLog;
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::Config;
use raft_core::transport::{Caller, ConnectionId, Duplex, MemoryNetwork, Service};
use raft_core::types::{GroupId, Member, NodeId};
use raft_kv::api::{
    Action, Command, Keys, Op, Put, Revision, StreamRequest, Watch, WatchId, WatchReply,
    WatchRequest,
};
use raft_kv::codec::{decode_sequence, encode, encode_sequence};
use raft_kv::service::{KvService, ServiceConfig};
use raft_kv::store::KvStore;
use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAGE_BYTES: u64 = 4096;

/// Bytes of memory that the process holds.
fn resident() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).ok_or("statm has a second number")?;
    Ok(pages.parse::<u64>()? * PAGE_BYTES)
}

fn serve() -> Result<(Node, Arc<KvService>), Box<dyn Error>> {
    let id = NodeId(1);
    let raft = Config { id, initial: [(id, Member::default())].into(), ..Config::default() };
    let (store, transport) = (KvStore::in_memory(), MemoryNetwork::new().transport(id));
    let handle = store.handle();
    let config = NodeConfig { raft, ..NodeConfig::default() };
    let node = Node::start(config, MemoryLog::new(), store, transport.clone())?;
    let group = GroupId(0);
    let config = ServiceConfig::new(node.clone(), handle, group, transport, "bench".into());
    Ok((node, KvService::new(config)))
}

/// Opens a stream and begins watches on it; waits until they have begun.
async fn watch(
    service: &KvService,
    keys: impl Iterator<Item = Keys>,
) -> Result<Duplex, Box<dyn Error>> {
    let (mut near, far) = Duplex::pair(64 * 1024);
    let request = StreamRequest::Watch { require_leader: false };
    service.serve_stream(Caller::Client(ConnectionId(0)), encode(&request), far);
    let mut begun = 0;
    let creates: Vec<_> = keys
        .enumerate()
        .map(|(number, keys)| WatchRequest::Create(WatchId(number as u64), Watch::of(keys)))
        .collect();
    for some in creates.chunks(32) {
        near.sink.send(encode_sequence(some)).await?;
        begun += some.len();
        while begun > 0 {
            let frame = near.source.receive().await?.ok_or("the stream ended")?;
            for reply in decode_sequence::<WatchReply>(&frame) {
                match reply? {
                    WatchReply::Created(..) => begun -= 1,
                    WatchReply::Opened(_) => {}
                    other => return Err(format!("{other:?}").into()),
                }
            }
        }
    }
    Ok(near)
}

/// Bytes that an idle watcher may take.
const WATCHER_BYTES_MAX: u64 = 1024;

async fn measure(watchers: usize, keys: usize, streams: usize) -> Result<(), Box<dyn Error>> {
    let (_node, service) = serve()?;
    let one = |number: usize| Keys::One(Bytes::from(format!("some/key/{number:08}")));
    // What is made once is not the watchers'.
    while watch(&service, [one(0)].into_iter()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = resident()?;
    let mut open = Vec::with_capacity(streams);
    let each = watchers / streams;
    for stream in 0..streams {
        let numbers = stream * each..(stream + 1) * each;
        open.push(watch(&service, numbers.map(|number| one(number % keys))).await?);
    }
    let taken = resident()?.saturating_sub(before);
    println!(
        "{watchers} watchers of {keys} keys on {streams} streams: {:.1} MiB, {} bytes each",
        taken as f64 / 1024.0 / 1024.0,
        taken / watchers as u64
    );
    // A stream of its own for each is no small thing, and not what is asked about.
    if streams < watchers && taken > WATCHER_BYTES_MAX * watchers as u64 {
        return Err(format!("a watcher takes more than {WATCHER_BYTES_MAX} bytes").into());
    }
    Ok(())
}

/// Streams that watch from the first of many large changes on, and are not read. Everything is on
/// one thread, as in `raft serve`: how long does it stand still?
async fn measure_stalled(streams: usize) -> Result<(), Box<dyn Error>> {
    const CHANGES: usize = 200;
    const VALUE_BYTES: usize = 1_000_000;
    let (node, service) = serve()?;
    for number in 0..CHANGES {
        let put = Put::new(format!("key/{}", number % 10), vec![number as u8; VALUE_BYTES]);
        let command = Command { request: None, fence: None, action: Action::Op(Op::Put(put)) };
        while node.propose(encode(&command)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let longest = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&longest);
    tokio::spawn(async move {
        loop {
            let before = Instant::now();
            tokio::task::yield_now().await;
            seen.fetch_max(before.elapsed().as_micros() as u64, Ordering::Relaxed);
            // Others have the thread more often than this.
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    });
    let before = resident()?;
    let mut open = Vec::new();
    for _ in 0..streams {
        let (mut near, far) = Duplex::pair(64 * 1024);
        let request = StreamRequest::Watch { require_leader: false };
        service.serve_stream(Caller::Client(ConnectionId(0)), encode(&request), far);
        let everything = Watch { from: Some(Revision(2)), ..Watch::of(Keys::all()) };
        let everything = Watch { prev_kv: true, ..everything };
        near.sink.send(encode_sequence([&WatchRequest::Create(WatchId(1), everything)])).await?;
        open.push(near);
    }
    // Until whatever is read ahead was read.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = resident()?.saturating_sub(before);
    println!(
        "{streams} streams that are not read, behind by {CHANGES} changes of 1 MB: {:.1} MiB, \
         {:.1} MiB each; the thread stood still for {:.1} ms at most",
        taken as f64 / 1024.0 / 1024.0,
        taken as f64 / 1024.0 / 1024.0 / streams as f64,
        longest.load(Ordering::Relaxed) as f64 / 1000.0
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    const STALLED: usize = 5;
    let cases =
        [(10_000, 100, 1), (100_000, 100, 10), (100_000, 100_000, 10), (10_000, 100, 10_000)];
    let wanted = std::env::args().nth(1).map(|number| number.parse::<usize>()).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if wanted == Some(cases.len()) {
        return runtime.block_on(measure_stalled(STALLED));
    }
    if let Some(wanted) = wanted {
        let (watchers, keys, streams) = *cases.get(wanted).ok_or("there are fewer cases")?;
        return runtime.block_on(measure(watchers, keys, streams));
    }
    // A process each, or memory given back by one would be taken by the next unseen.
    for case in 0..=cases.len() {
        let own = std::env::current_exe()?;
        let ended = std::process::Command::new(own).arg(case.to_string()).status()?;
        if !ended.success() {
            return Err("a case failed".into());
        }
    }
    Ok(())
}
