//! Random changes, compactions, restores and watches against a model that is a plain list.

use super::*;
use crate::api::{Event, EventKind};
use crate::codec::decode_sequence;
use bytes::Bytes;

/// Random numbers from a seed: a failure tells it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What has happened, all of it.
#[derive(Default)]
struct Model {
    /// Each with what was there before.
    changes: Vec<(Change, Option<Bytes>)>,
    current: BTreeMap<Bytes, Change>,
    revision: u64,
    compacted: u64,
}

impl Model {
    /// The changes of one revision, made anew.
    fn write(&mut self, random: &mut Random) -> Vec<Change> {
        self.revision += 1;
        let mut keys: BTreeSet<u64> = (0..=random.below(3)).map(|_| random.below(12)).collect();
        if random.one_in(40) {
            keys = (0..12).collect();
        }
        let mut made = Vec::new();
        for (sub, key) in keys.into_iter().enumerate() {
            let key = Bytes::from(format!("k{key:02}"));
            let large = if random.one_in(500) { 600 * 1024 } else { 10 };
            let value = vec![b'a' + random.below(26) as u8; large];
            let previous = self.current.get(&key);
            let before = previous.and_then(value_of);
            let deletes = before.is_some() && random.one_in(4);
            let value = (!deletes).then_some(&value[..]);
            let change = Change::of(&key, value, (self.revision, sub as u32), previous);
            self.current.insert(key, change.clone());
            self.changes.push((change.clone(), before));
            made.push(change);
        }
        made
    }

    /// The changes of these revisions that `watch` is told of.
    fn told(&self, watch: &Watch, from: u64, through: u64) -> Vec<&(Change, Option<Bytes>)> {
        let options = Options::of(watch);
        let up_to =
            |revision| self.changes.partition_point(|(change, _)| change.revision() <= revision);
        let start = up_to(from.saturating_sub(1));
        let within = &self.changes[start..up_to(through).max(start)];
        let wanted = within
            .iter()
            .filter(|(change, _)| watch.keys.contains(change.key()) && options.wants(change));
        wanted.collect()
    }
}

fn value_of(change: &Change) -> Option<Bytes> {
    match event_of(change).kind {
        EventKind::Put(pair) => Some(pair.value),
        EventKind::Delete { .. } => None,
    }
}

fn event_of(change: &Change) -> Event {
    let mut bytes = bytes::BytesMut::new();
    change.encode_event(false, &mut bytes);
    raft_core::codec::take(&mut &bytes[..]).unwrap()
}

/// A watch as its stream sees it.
struct Seen {
    watch: Watch,
    created: bool,
    /// The lowest revision it was not told of.
    next: u64,
    pieces: Vec<Event>,
    /// Its end was asked for.
    canceled: bool,
    /// The last revision told with it.
    revision: u64,
}

struct Reader {
    stream: Stream,
    catch_up: CatchUp,
    watches: BTreeMap<WatchId, Seen>,
    next_id: u64,
    /// Replies that came but were not looked at.
    told: u64,
}

impl Reader {
    fn new(hub: &Arc<Hub>) -> Self {
        let (stream, catch_up) = (hub.open(), CatchUp::default());
        Self { stream, catch_up, watches: BTreeMap::new(), next_id: 0, told: 0 }
    }

    fn create(&mut self, random: &mut Random, model: &Model) {
        let key = |number: u64| Bytes::from(format!("k{number:02}"));
        let start = random.below(12);
        let keys = match random.below(4) {
            0 => Keys::all(),
            1 => Keys::Range { start: key(start), end: Some(key(start + random.below(5))) },
            _ => Keys::One(key(start)),
        };
        let from = match random.below(4) {
            0 => None,
            1 => Some(model.revision + random.below(60)),
            2 => Some(model.compacted + random.below(4)),
            _ => Some(model.revision.saturating_sub(random.below(30))),
        };
        let watch = Watch {
            from: from.map(Revision),
            prev_kv: random.one_in(2),
            no_puts: random.one_in(6),
            no_deletes: random.one_in(6),
            progress: random.one_in(3),
            fragments: random.one_in(2),
            ..Watch::of(keys)
        };
        self.next_id += 1;
        let id = WatchId(self.next_id);
        self.stream.create(id, &watch).unwrap();
        let next = from.unwrap_or(0);
        let (created, canceled, pieces) = (false, false, Vec::new());
        let seen = Seen { watch, created, next, pieces, canceled, revision: 0 };
        self.watches.insert(id, seen);
    }

    /// Looks at what one step of the stream says; whether it said anything. The hub may look at
    /// something `between` what waits and what was missed.
    fn read(&mut self, model: &Model, between: bool) -> bool {
        let waiting = self.stream.outbox.take();
        if between {
            self.stream.hub.look();
        }
        let items = match waiting.is_empty() {
            false => waiting,
            true if self.catch_up.is_needed(&self.stream) => self.catch_up.step(&self.stream),
            true => return false,
        };
        for frame in frames(items) {
            for reply in decode_sequence::<WatchReply>(&frame) {
                self.told += 1;
                self.hear(reply.unwrap(), model);
            }
        }
        true
    }

    fn hear(&mut self, reply: WatchReply, model: &Model) {
        match reply {
            WatchReply::Created(id, revision) => {
                let seen = self.watches.get_mut(&id).unwrap();
                assert!(!seen.created, "told twice that it has begun");
                seen.created = true;
                if seen.watch.from.is_none() {
                    (seen.next, seen.revision) = (revision.0 + 1, revision.0);
                }
            }
            WatchReply::Events { id, revision, mut events, fragment } => {
                let seen = self.watches.get_mut(&id).unwrap();
                assert!(seen.created && !events.is_empty());
                assert!(seen.watch.fragments || !fragment);
                assert!(revision.0 >= seen.revision, "back from {} to {revision}", seen.revision);
                seen.revision = revision.0;
                seen.pieces.append(&mut events);
                if !fragment {
                    seen.check(revision.0, model);
                }
            }
            WatchReply::Canceled(id, None) => assert!(self.watches.remove(&id).unwrap().canceled),
            WatchReply::Canceled(id, Some(KvError::Compacted { compacted, .. })) => {
                let seen = self.watches.remove(&id).unwrap();
                assert!(seen.created && seen.next < compacted.0, "it could have gone on");
                assert!(compacted.0 <= model.compacted + 1);
            }
            WatchReply::Progress(Some(id), revision) => {
                let seen = self.watches.get_mut(&id).unwrap();
                assert!(seen.watch.progress);
                seen.advance(revision.0, model);
            }
            WatchReply::Progress(None, revision) => {
                for seen in self.watches.values_mut().filter(|seen| seen.created) {
                    seen.advance(revision.0, model);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Seen {
    /// All there is to tell up to `through` was told just now, and nothing else.
    fn check(&mut self, through: u64, model: &Model) {
        let events = std::mem::take(&mut self.pieces);
        let expected = model.told(&self.watch, self.next, through);
        assert_eq!(events.len(), expected.len(), "of {:?} from {}", self.watch, self.next);
        for (event, (change, before)) in events.iter().zip(expected) {
            assert_eq!(event.kind, event_of(change).kind);
            let told = event.prev_kv.as_ref().map(|pair| &pair.value);
            assert!(told.is_none() || (self.watch.prev_kv && told == before.as_ref()));
            if self.watch.prev_kv && before.is_some() && told.is_none() {
                assert!(change.revision() <= model.compacted, "it is not compacted");
            }
        }
        self.next = through + 1;
    }

    /// It was told that there is nothing else up to `revision`.
    fn advance(&mut self, revision: u64, model: &Model) {
        assert!(self.pieces.is_empty());
        let missed = model.told(&self.watch, self.next, revision);
        assert!(missed.is_empty(), "progress is {} events ahead", missed.len());
        assert!(revision + 1 >= self.revision, "progress went back");
        self.revision = self.revision.max(revision);
        self.next = self.next.max(revision + 1);
    }
}

fn run(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let (mut model, history) = (Model::default(), Arc::new(History::default()));
    let options = WatchOptions { outbox_bytes_max: 3000, ..WatchOptions::default() };
    let hub = Hub::new(Arc::clone(&history), options);
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::new(&hub)).collect();
    for _ in 0..steps {
        let which = random.below(readers.len() as u64) as usize;
        let reader = &mut readers[which];
        match random.below(40) {
            0..=11 => {
                let made: Vec<_> =
                    (0..=random.below(3)).flat_map(|_| model.write(&mut random)).collect();
                history.publish(made, model.revision);
            }
            12 if model.revision > 0 => {
                let from = model.compacted;
                model.compacted = from + random.below(model.revision - from + 1);
                history.compact(model.compacted);
            }
            13 | 14 => drop(history.take_compacted(random.below(50) as usize)),
            15 if random.one_in(8) => {
                // A snapshot takes the place of the state.
                let made: Vec<_> = (0..20).flat_map(|_| model.write(&mut random)).collect();
                drop(made);
                let from = model.compacted.max(model.revision.saturating_sub(random.below(40)));
                model.compacted = from;
                let changes = model.changes.iter().map(|(change, _)| change.clone());
                let kept = changes.filter(|change| change.revision() > from).collect();
                history.reset(kept, model.revision, from);
            }
            16..=18 if reader.watches.len() < 30 => reader.create(&mut random, &model),
            19 => {
                let id = WatchId(random.below(reader.next_id + 1));
                reader.stream.cancel(id);
                if let Some(seen) = reader.watches.get_mut(&id) {
                    seen.canceled = true;
                }
            }
            20 if random.one_in(10) => *reader = Reader::new(&hub),
            21 => reader.stream.reach(Revision(model.revision + random.below(5))).unwrap(),
            22 => reader.stream.tell_progress(),
            23..=30 => {
                hub.look();
            }
            // The first stream is slow, the last one stalls nearly always.
            _ if which == 0 && !random.one_in(4) => {}
            _ if which == 3 && !random.one_in(60) => {}
            _ => {
                reader.read(&model, random.one_in(2));
            }
        }
    }
    // In the end everybody has come as far as the store.
    while hub.look() {}
    for reader in &mut readers {
        reader.stream.reach(Revision(model.revision)).unwrap();
        while reader.read(&model, false) {}
        assert!(reader.told > 0 || reader.next_id == 0);
        for seen in reader.watches.values() {
            assert!(seen.next > model.revision, "{:?} is left at {}", seen.watch, seen.next);
        }
    }
    drop(readers);
    let inner = hub.lock();
    let left = (inner.watchers.len(), inner.topics.len(), inner.streams.len(), inner.key_bytes);
    assert_eq!(left, (0, 0, 0, 0));
}

#[test]
fn every_watch_is_told_everything_once_in_order() {
    let slow = std::env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1");
    for seed in 0..if slow { 2000 } else { 40 } {
        let result = std::panic::catch_unwind(|| run(seed, 3000));
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The applier may write and compact before the hub has looked at what was written.
#[test]
fn what_was_not_seen_is_not_compacted_away() {
    let (mut model, mut random, history) = (Model::default(), Random(1), Arc::default());
    let hub = Hub::new(Arc::clone(&history), WatchOptions::default());
    let mut reader = Reader::new(&hub);
    reader.stream.create(WatchId(1), &Watch::of(Keys::all())).unwrap();
    let seen = Seen {
        watch: Watch::of(Keys::all()),
        created: false,
        next: 0,
        pieces: Vec::new(),
        canceled: false,
        revision: 0,
    };
    reader.watches.insert(WatchId(1), seen);
    for _ in 0..100 {
        let made: Vec<_> = (0..3).flat_map(|_| model.write(&mut random)).collect();
        history.publish(made, model.revision);
        model.compacted = model.revision;
        history.compact(model.compacted);
        history.take_compacted(usize::MAX);
        hub.look();
        reader.read(&model, false);
        assert_eq!(reader.watches[&WatchId(1)].next, model.revision + 1);
        // What was seen is let go, but for what can still be watched from.
        history.take_compacted(usize::MAX);
        assert_eq!(history.compacted_left(), 0);
    }
}
