//! Watches against a model: one writer, whose every change is known by revision, and watches of all
//! kinds, which begin in the past, the present and the future, read slowly, break off and go on at
//! other members, while history is compacted. Each is told exactly what the model says: everything
//! once, in order, revisions whole.

use super::watch::Watching;
use super::{Connection, Doors, put};
use pb::request_op::Request;
use raft_core::testing::Random;
use raft_core::types::NodeId;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::mvccpb::Event;
use raft_kv::etcd::proto::mvccpb::event::EventType;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

const KEYS: u64 = 8;
const OPERATIONS: u64 = 120;
const WATCHES: u64 = 16;
/// Seeds that run at a time.
const AT_ONCE: usize = 8;
/// Bytes of a long value: three are the better part of a request, and more than a piece with what
/// was before.
const LONG: usize = 400 * 1024;

/// A change: of a key, to a value or none; and the value before, if there was one.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Change {
    revision: i64,
    key: String,
    value: Option<String>,
    previous: Option<String>,
}

/// What is known of the store.
#[derive(Default)]
struct Model {
    changes: Vec<Change>,
    values: BTreeMap<String, String>,
    revision: i64,
    /// As far as somebody has asked for.
    compacted: i64,
}

impl Model {
    fn put(&mut self, key: &str, value: &str) {
        let previous = self.values.insert(key.to_owned(), value.to_owned());
        self.change(key, Some(value.to_owned()), previous);
    }

    /// Deletes the keys from `start` on and before `end`.
    fn delete(&mut self, start: &str, end: &str) {
        let within = |key: &&String| start <= key.as_str() && key.as_str() < end;
        let keys: Vec<String> = self.values.keys().filter(within).cloned().collect();
        for key in keys {
            let previous = self.values.remove(&key);
            self.change(&key, None, previous);
        }
    }

    fn change(&mut self, key: &str, value: Option<String>, previous: Option<String>) {
        let (revision, key) = (self.revision, key.to_owned());
        self.changes.push(Change { revision, key, value, previous });
    }
}

fn key(number: u64) -> String {
    format!("k{number}")
}

#[test]
fn watches_are_told_what_the_model_says() {
    let slow = std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1");
    let seeds = if slow { 150 } else { 4 };
    let next = AtomicU64::new(0);
    let one_after_the_other = || {
        let mut all = Told::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return all;
            }
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
            all.add(runtime.block_on(run(seed)));
        }
    };
    let mut all = Told::default();
    // A seed waits most of its time, for watches that read slowly.
    thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one_after_the_other)).collect();
        for told in running {
            all.add(told.join().unwrap());
        }
    });
    println!("{seeds} seeds: told as it should be: {all:?}");
    // Else something was not looked at.
    assert!(all.events > 0 && all.pieces > 0 && all.progress > 0, "{all:?}");
}

/// How much was told.
#[derive(Clone, Copy, Default, Debug)]
struct Told {
    events: usize,
    /// Parts of revisions.
    pieces: usize,
    /// Answers to whoever asked how far its watches are.
    progress: usize,
}

impl Told {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.pieces += other.pieces;
        self.progress += other.progress;
    }
}

/// Runs one seed.
async fn run(seed: u64) -> Told {
    let doors = Arc::new(Doors::start(3).await);
    let model = Arc::new(Mutex::new(Model { revision: 1, ..Model::default() }));
    let (end, ended) = watch::channel(None);
    let mut watches = JoinSet::new();
    for number in 0..WATCHES {
        let random = Random::new(seed * 1000 + number + 1);
        let watcher = Watcher::new(random, Arc::clone(&doors), Arc::clone(&model), ended.clone());
        watches.spawn(watcher.run(seed, number));
    }
    write(&doors, &model, Random::new(seed * 1000)).await;
    // What every watch sees, whatever it leaves out.
    let connection = doors.any().await;
    let puts = (0..KEYS).map(|number| Request::RequestPut(put(&key(number), "end")));
    txn(&connection, puts.collect(), &model).await;
    let first = model.lock().unwrap().revision;
    txn(&connection, vec![deletion("k", "l")], &model).await;
    end.send_replace(Some((first, first + 1)));
    let mut all = Told::default();
    watches.join_all().await.into_iter().for_each(|told| all.add(told));
    all
}

/// Writes, deletes and compacts at random, through all members.
async fn write(doors: &Doors, model: &Mutex<Model>, mut random: Random) {
    let mut connections = Vec::new();
    for id in doors.addresses.keys() {
        connections.push(doors.connect(*id).await);
    }
    for operation in 0..OPERATIONS {
        let connection = random.choose(&connections).clone();
        let requests = match random.below(10) {
            0 => {
                compact(&connection, model, &mut random).await;
                continue;
            }
            1 => vec![deletion(&key(random.below(KEYS)), &key(random.below(KEYS)))],
            2 | 3 => {
                let first = random.below(KEYS - 3);
                // Now and then more than a message has that may come in pieces.
                let bytes = if random.once_in(6) { LONG } else { 0 };
                let value = operation.to_string() + &".".repeat(bytes);
                let put = |number: u64| put(&key(number), &value);
                let mut requests: Vec<Request> =
                    (first..first + 3).map(|number| Request::RequestPut(put(number))).collect();
                requests.push(deletion(&key(first + 3), "l"));
                requests
            }
            _ => {
                let put = put(&key(random.below(KEYS)), &format!("{operation}"));
                vec![Request::RequestPut(put)]
            }
        };
        txn(&connection, requests, model).await;
        if random.once_in(4) {
            sleep(Duration::from_millis(random.below(5))).await;
        }
    }
}

fn deletion(start: &str, end: &str) -> Request {
    let (key, range_end) = (start.to_owned().into(), end.to_owned().into());
    Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: false })
}

/// Does all of it in one revision, and in the model.
async fn txn(connection: &Connection, requests: Vec<Request>, model: &Mutex<Model>) {
    let op = |request: &Request| pb::RequestOp { request: Some(request.clone()) };
    let success = requests.iter().map(op).collect();
    let request = pb::TxnRequest { success, ..Default::default() };
    let reply = connection.kv().txn(request).await.unwrap().into_inner();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut model = model.lock().unwrap();
    let before = model.changes.len();
    model.revision += 1;
    for request in &requests {
        match request {
            Request::RequestPut(put) => model.put(&text(&put.key), &text(&put.value)),
            Request::RequestDeleteRange(range) => {
                model.delete(&text(&range.key), &text(&range.range_end));
            }
            _ => unreachable!("nothing else is asked for"),
        }
    }
    if model.changes.len() == before {
        model.revision -= 1;
    }
    assert_eq!(reply.header.unwrap().revision, model.revision);
}

async fn compact(connection: &Connection, model: &Mutex<Model>, random: &mut Random) {
    let revision = {
        let mut model = model.lock().unwrap();
        let least = model.compacted + 1;
        if model.revision < least {
            return;
        }
        let some = random.below(u64::try_from(model.revision - least).unwrap() + 1);
        model.compacted = least + i64::try_from(some).unwrap() / 2;
        model.compacted
    };
    let request = pb::CompactionRequest { revision, physical: random.once_in(2) };
    connection.kv().compact(request).await.unwrap();
}

/// One watch, as its client sees it.
struct Watcher {
    random: Random,
    doors: Arc<Doors>,
    model: Arc<Mutex<Model>>,
    ended: watch::Receiver<Option<(i64, i64)>>,
    create: pb::WatchCreateRequest,
    /// The revision from which on nothing was told.
    next: i64,
    /// What was told, and by which message.
    told: Vec<(usize, Event)>,
    messages: usize,
    counts: Told,
    /// Revisions that were compacted before they could be told.
    lost: Vec<std::ops::Range<i64>>,
}

impl Watcher {
    fn new(
        mut random: Random,
        doors: Arc<Doors>,
        model: Arc<Mutex<Model>>,
        ended: watch::Receiver<Option<(i64, i64)>>,
    ) -> Self {
        let (start, end) = match random.below(3) {
            0 => (key(random.below(KEYS)), String::new()),
            1 => ("k".into(), "l".into()),
            _ => ("k2".into(), "k6".into()),
        };
        let create = pb::WatchCreateRequest {
            key: start.into(),
            range_end: end.into(),
            prev_kv: random.once_in(2),
            filters: random.choose(&[vec![], vec![], vec![0], vec![1]]).clone(),
            fragment: random.once_in(4),
            ..Default::default()
        };
        let (told, lost, counts) = (Vec::new(), Vec::new(), Told::default());
        Self { random, doors, model, ended, create, next: 0, told, messages: 0, counts, lost }
    }

    async fn run(mut self, seed: u64, number: u64) -> Told {
        // Some begin later than others.
        sleep(Duration::from_millis(self.random.below(300))).await;
        let now = self.model.lock().unwrap().revision;
        self.next = match self.random.below(4) {
            // Where it begins is told by the answer.
            0 => 0,
            1 => now + 1,
            2 => now + 1 + i64::try_from(self.random.below(20)).unwrap(),
            _ => 1 + i64::try_from(self.random.below(now.unsigned_abs())).unwrap(),
        };
        let first = self.watch().await;
        while !self.is_done() {
            self.watch().await;
        }
        self.check(first, seed, number);
        Told { events: self.told.len(), ..self.counts }
    }

    /// Watches at some member, until it breaks off; from which revision on.
    async fn watch(&mut self) -> i64 {
        let ids: Vec<NodeId> = self.doors.addresses.keys().copied().collect();
        let connection = self.doors.connect(*self.random.choose(&ids)).await;
        let mut watching = Watching::start(&connection).await;
        let create = pb::WatchCreateRequest { start_revision: self.next, ..self.create.clone() };
        watching.create(create).await;
        let created = watching.next().await;
        assert!(created.created && !created.canceled, "{created:?}");
        if self.next == 0 {
            self.next = created.header.unwrap().revision + 1;
        }
        let begun = self.next;
        let patience = 1 + self.random.below(12);
        for _ in 0..patience {
            if self.random.once_in(3) {
                sleep(Duration::from_millis(self.random.below(60))).await;
            }
            if self.random.once_in(4) {
                watching.ask_progress().await;
            }
            let mut ended = self.ended.clone();
            let response = tokio::select! {
                response = watching.next() => response,
                // There may be nothing left to be told.
                _ = ended.wait_for(|end| self.is_after(*end)) => break,
            };
            if response.canceled {
                let compacted = response.compact_revision;
                assert!(compacted > self.next, "{} is still there: {response:?}", self.next);
                self.lost.push(self.next..compacted);
                self.next = compacted;
                break;
            }
            self.take(response);
        }
        // Who breaks off within a revision is told all of it again.
        let whole = self.messages;
        self.told.retain(|(message, _)| *message < whole);
        begun
    }

    fn take(&mut self, response: pb::WatchResponse) {
        if response.watch_id == -1 {
            // Whatever happened until then was told: if not, it is missed in the end.
            assert!(response.events.is_empty() && !response.fragment, "{response:?}");
            self.counts.progress += 1;
            self.next = self.next.max(response.header.unwrap().revision + 1);
            return;
        }
        self.counts.pieces += usize::from(response.fragment);
        assert!(self.create.fragment || !response.fragment, "nobody asked for pieces");
        let first = response.events.first().map(|event| event.kv.as_ref().unwrap().mod_revision);
        assert!(first.is_none_or(|first| first >= self.next), "{first:?} before {}", self.next);
        let last = response.events.last().map(|event| event.kv.as_ref().unwrap().mod_revision);
        let revision = response.header.unwrap().revision;
        assert!(last.is_none_or(|last| last <= revision), "{last:?} of {revision}");
        let message = self.messages;
        self.told.extend(response.events.into_iter().map(|event| (message, event)));
        if !response.fragment {
            self.messages += 1;
            self.next = last.map_or(self.next, |last| last + 1);
        }
    }

    /// Whether everything was told.
    fn is_done(&self) -> bool {
        let end = *self.ended.borrow();
        self.is_after(end)
    }

    /// Whether everything was told, should these be the last revisions.
    fn is_after(&self, end: Option<(i64, i64)>) -> bool {
        let Some((put, delete)) = end else { return false };
        let last = if self.create.filters == [1] { put } else { delete };
        self.next > last
    }

    fn check(&self, first: i64, seed: u64, number: u64) {
        let model = self.model.lock().unwrap();
        let what = format!("seed {seed}, watch {number} from {first}: {:?}", self.create);
        let start = String::from_utf8(self.create.key.to_vec()).unwrap();
        let end = String::from_utf8(self.create.range_end.to_vec()).unwrap();
        let wanted = |change: &&Change| {
            let within = match &*end {
                "" => change.key == start,
                end => *start <= *change.key && *change.key < *end,
            };
            let left_out = match change.value {
                Some(_) => self.create.filters == [0],
                None => self.create.filters == [1],
            };
            let is_lost = self.lost.iter().any(|lost| lost.contains(&change.revision));
            within && !left_out && !is_lost && change.revision >= first
        };
        let expected: Vec<&Change> = model.changes.iter().filter(wanted).collect();
        let revisions = |told: &[(usize, Event)]| -> Vec<i64> {
            told.iter().map(|(_, event)| event.kv.as_ref().unwrap().mod_revision).collect()
        };
        assert_eq!(
            revisions(&self.told),
            expected.iter().map(|change| change.revision).collect::<Vec<_>>(),
            "{what}, lost {:?}",
            self.lost
        );
        let mut messages = BTreeMap::new();
        for ((message, event), change) in self.told.iter().zip(expected) {
            self.check_event(event, change, model.compacted, &what);
            let whole = messages.entry(change.revision).or_insert(*message);
            assert_eq!(whole, message, "{what}: revision {} in parts", change.revision);
        }
    }

    fn check_event(&self, event: &Event, change: &Change, compacted: i64, what: &str) {
        let pair = event.kv.as_ref().unwrap();
        let put = event.r#type() == EventType::Put;
        let value = put.then(|| String::from_utf8(pair.value.to_vec()).unwrap());
        assert_eq!((&pair.key[..], &value), (change.key.as_bytes(), &change.value), "{what}");
        let previous = event.prev_kv.as_ref();
        let previous = previous.map(|pair| String::from_utf8(pair.value.to_vec()).unwrap());
        // What was compacted is not told any more.
        let may_lack = change.revision <= compacted && previous.is_none();
        match self.create.prev_kv {
            true if may_lack => {}
            true => assert_eq!(previous, change.previous, "{what}"),
            false => assert_eq!(previous, None, "{what}"),
        }
    }
}
