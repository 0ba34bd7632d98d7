//! Random changes, compactions, restores and watches against a model that is a plain list.

use super::outbox::Item;
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
            let large = if random.one_in(30) { 5000 } else { 10 };
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

    /// A put of that many bytes.
    fn put(&mut self, key: &str, size: usize) -> Change {
        self.change(key, Some(&vec![b'v'; size]))
    }

    fn delete(&mut self, key: &str) -> Change {
        self.change(key, None)
    }

    fn change(&mut self, key: &str, value: Option<&[u8]>) -> Change {
        self.revision += 1;
        let key = Bytes::copy_from_slice(key.as_bytes());
        let previous = self.current.get(&key);
        let before = previous.and_then(value_of);
        let change = Change::of(&key, value, (self.revision, 0), previous);
        self.current.insert(key, change.clone());
        self.changes.push((change.clone(), before));
        change
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
    speech: Speech,
    watches: BTreeMap<WatchId, Seen>,
    next_id: u64,
    /// Replies that came but were not looked at.
    told: u64,
}

impl Reader {
    fn new(hub: &Arc<Hub>) -> Self {
        let (stream, speech) = (hub.open(), Speech::default());
        Self { stream, speech, watches: BTreeMap::new(), next_id: 0, told: 0 }
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
        let mut frame = self.stream.waiting(&mut self.speech);
        if frame.is_none() {
            if between {
                self.stream.hub.look();
            }
            if !self.stream.look_back(&mut self.speech) {
                return false;
            }
            frame = self.stream.waiting(&mut self.speech);
        }
        for reply in frame.iter().flat_map(|frame| decode_sequence::<WatchReply>(frame)) {
            self.told += 1;
            self.hear(reply.unwrap(), model);
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
                assert!(compacted.0 <= model.compacted);
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
                let kept = changes.filter(|change| change.revision() >= from).collect();
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
        while hub.look() {}
        while reader.read(&model, false) {}
        assert_eq!(reader.watches[&WatchId(1)].next, model.revision + 1);
        // What was seen is let go, but for what can still be watched from.
        history.take_compacted(usize::MAX);
        assert_eq!(history.compacted_left(), 0);
    }
}

/// Records of the changes that something refers to for the sake of this stream.
fn held(reader: &Reader) -> usize {
    let Speech { saying, caught_up, .. } = &reader.speech;
    let mut batches = reader.stream.outbox.batches();
    batches.extend(saying.iter().filter_map(|saying| saying.item().batch()));
    batches.extend(caught_up.iter().filter_map(Item::batch));
    let distinct: BTreeMap<_, _> =
        batches.iter().map(|batch| (Arc::as_ptr(batch), batch.held())).collect();
    distinct.values().sum()
}

/// A watch of everything from revision 2 on.
fn from_the_second(reader: &mut Reader) {
    let watch = Watch { from: Some(Revision(2)), prev_kv: true, ..Watch::of(Keys::all()) };
    reader.stream.create(WatchId(1), &watch).unwrap();
    let (pieces, created, canceled) = (Vec::new(), false, false);
    let seen = Seen { watch, created, next: 2, pieces, canceled, revision: 0 };
    reader.watches.insert(WatchId(1), seen);
}

/// Large changes, some of which a stream has missed, and some that come while it does not read:
/// what is held for it is bounded by what was promised and one revision, at every moment.
#[test]
fn a_stream_that_stalls_holds_no_more_than_was_promised() {
    const VALUE: usize = scaled(1024 * 1024);
    let (mut model, history) = (Model::default(), Arc::<History>::default());
    model.revision = 1;
    let write = |model: &mut Model, count: u64| {
        let made: Vec<_> = (0..count).map(|_| model.put("k", VALUE)).collect();
        history.publish(made, model.revision);
    };
    let outbox_bytes_max = scaled(WatchOptions::default().outbox_bytes_max);
    let options = WatchOptions { outbox_bytes_max, ..WatchOptions::default() };
    let hub = Hub::new(Arc::clone(&history), options);
    // With what it has replaced.
    let revision = 2 * (VALUE + 100);
    write(&mut model, 200);
    let mut readers: Vec<Reader> = (0..5).map(|_| Reader::new(&hub)).collect();
    readers.iter_mut().for_each(from_the_second);
    while hub.look() {}
    let mut frames = 0;
    for round in 0..1000 {
        if round < 20 {
            write(&mut model, 5);
            while hub.look() {}
        }
        for (number, reader) in readers.iter_mut().enumerate() {
            // The first one takes nothing for long, another one now and then.
            if (number == 0 && round < 30) || (number == 1 && round % 10 > 0) {
                continue;
            }
            let Some(frame) = reader.stream.waiting(&mut reader.speech) else {
                reader.stream.look_back(&mut reader.speech);
                continue;
            };
            assert!(frame.len() <= revision, "a frame of {} bytes", frame.len());
            frames += 1;
            for reply in decode_sequence::<WatchReply>(&frame) {
                reader.hear(reply.unwrap(), &model);
            }
        }
        for reader in &readers {
            let held = held(reader);
            assert!(held <= outbox_bytes_max + revision, "{held} bytes are held");
        }
    }
    assert!(frames > 1000, "{frames} frames");
    for reader in &mut readers {
        while reader.read(&model, false) {}
        assert_eq!(reader.watches[&WatchId(1)].next, model.revision + 1);
    }
}

/// Changes that a watch does not want are held with those that it wants: they count.
#[test]
fn what_is_held_counts_be_it_wanted_or_not() {
    let (mut model, history) = (Model::default(), Arc::<History>::default());
    let hub = Hub::new(
        Arc::clone(&history),
        WatchOptions { outbox_bytes_max: 3000, ..Default::default() },
    );
    let reader = Reader::new(&hub);
    let watch = Watch { no_puts: true, ..Watch::of(Keys::all()) };
    reader.stream.create(WatchId(1), &watch).unwrap();
    for _ in 0..50 {
        let put = model.put("k", 1000);
        let deletion = model.delete("k");
        history.publish([put, deletion], model.revision);
        while hub.look() {}
        assert!(held(&reader) <= 3000 + 2 * 1100);
    }
}

/// A stream that is not read is not told of progress over and over.
#[test]
fn progress_is_not_told_to_those_who_do_not_listen() {
    let options = WatchOptions { outbox_bytes_max: 20_000, ..WatchOptions::default() };
    let hub = Hub::new(Arc::default(), options);
    let reader = Reader::new(&hub);
    for id in 0..50 {
        let watch = Watch { progress: true, ..Watch::of(Keys::all()) };
        reader.stream.create(WatchId(id), &watch).unwrap();
    }
    hub.look();
    reader.stream.tell_progress();
    assert_eq!(reader.stream.outbox.len(), 100, "it was told that they have begun, and once more");
    for _ in 0..100 {
        reader.stream.tell_progress();
    }
    assert!(reader.stream.outbox.len() < 300, "{}", reader.stream.outbox.len());
}
