//! Watches in simulated clusters: begun on any node from past, present and future revisions,
//! canceled, now slow and now fast, moved to another node whenever theirs crashes, and compared,
//! event by event, with what has happened in the reference store.

use crate::reference::Reference;
use raft_core::testing::Random;
use raft_core::types::NodeId;
use raft_kv::api::*;
use raft_kv::codec::decode_sequence;
use raft_kv::service::{LocalStream, LocalWatches, WatchOptions};
use raft_kv::store::{KvStore, StoreHandle};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;

/// Streams; the first one is slow.
const LISTENERS: usize = 4;
const WATCHES_MAX: usize = 8;
/// Things done at each tick.
const STEPS: u64 = 4;

/// The stores of the nodes, and how often each was opened.
#[derive(Clone, Default)]
pub(super) struct Nodes(Rc<RefCell<BTreeMap<NodeId, (u64, StoreHandle)>>>);

impl Nodes {
    /// A node begins with this store, or begins again.
    pub(super) fn begin(&self, node: NodeId, store: &KvStore) {
        let mut nodes = self.0.borrow_mut();
        let life = nodes.get(&node).map_or(0, |(life, _)| life + 1);
        nodes.insert(node, (life, store.handle()));
    }
}

/// What has happened to watches.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) begun: u64,
    pub(super) canceled: u64,
    pub(super) compacted: u64,
    pub(super) moved: u64,
    pub(super) events: u64,
}

pub(super) struct Watches {
    random: Random,
    nodes: Nodes,
    open: BTreeMap<NodeId, (u64, LocalWatches)>,
    listeners: Vec<Listener>,
    pub(super) counts: Counts,
}

/// A stream and its watches.
struct Listener {
    node: NodeId,
    stream: LocalStream,
    watches: BTreeMap<WatchId, Seen>,
    next_id: u64,
}

/// A watch as its listener sees it.
struct Seen {
    watch: Watch,
    /// The lowest revision it was not told of; `None` if it begins with what comes.
    next: Option<u64>,
    /// The stream has said that it has begun.
    created: bool,
    /// Its end was asked for.
    canceled: bool,
    /// What was told of a revision of which more is to come.
    pieces: Vec<Event>,
    /// The last revision the stream has told with it.
    revision: u64,
}

impl Watches {
    pub(super) fn new(seed: u64, nodes: Nodes) -> Self {
        let (open, listeners, counts) = (BTreeMap::new(), Vec::new(), Counts::default());
        Self { random: Random::new(!seed), nodes, open, listeners, counts }
    }

    /// Time passes: this and that happens to watches.
    pub(super) fn step(&mut self, reference: &Reference) {
        self.follow();
        for _ in 0..STEPS {
            let which = self.random.below(LISTENERS as u64) as usize;
            match self.random.below(20) {
                0..6 => {
                    let node = self.any_node();
                    self.open[&node].1.look();
                }
                6..14 if which > 0 || self.random.once_in(20) => {
                    self.hear(which, reference);
                }
                14 => self.create(which, reference),
                15 if self.random.once_in(4) => self.cancel(which),
                16 if self.random.once_in(20) => {
                    let node = self.any_node();
                    self.go_on(which, node);
                }
                17 if self.random.once_in(4) => {
                    let revision = Revision(reference.revision() + self.random.below(3));
                    // Beyond so many the stream would have to end.
                    let _ = self.listeners[which].stream.ask(&WatchRequest::Reach(revision));
                }
                18 => self.listeners[which].stream.tell_progress(),
                _ => {}
            }
        }
    }

    /// All is quiet, and `members` have applied everything: every watch has seen, or is told now,
    /// every event.
    pub(super) fn finish(&mut self, reference: &Reference, members: &[NodeId]) {
        self.follow();
        for which in 0..self.listeners.len() {
            if !members.contains(&self.listeners[which].node) {
                self.go_on(which, members[0]);
            }
        }
        let revision = reference.revision();
        for which in 0..self.listeners.len() {
            // What is found compacted begins anew, and has to be heard again.
            for _ in 0..2 {
                while self.open[&self.listeners[which].node].1.look() {}
                let reach = WatchRequest::Reach(Revision(revision));
                self.listeners[which].stream.ask(&reach).expect("little was asked");
                while self.hear(which, reference) {}
            }
            for (id, seen) in &self.listeners[which].watches {
                let next = seen.next.expect("it has begun");
                assert!(seen.created && next > revision, "{id:?} of {which} is left at {next}");
            }
        }
    }

    fn any_node(&mut self) -> NodeId {
        let nodes: Vec<NodeId> = self.open.keys().copied().collect();
        *self.random.choose(&nodes)
    }

    /// Those whose node has begun again go on elsewhere.
    fn follow(&mut self) {
        let nodes = self.nodes.clone();
        let mut anew = Vec::new();
        for (node, (life, store)) in &*nodes.0.borrow() {
            if self.open.get(node).is_none_or(|(open, _)| open != life) {
                let options = WatchOptions { outbox_bytes_max: 2000, ..WatchOptions::default() };
                self.open.insert(*node, (*life, LocalWatches::new(store, options)));
                anew.push(*node);
            }
        }
        for which in 0..self.listeners.len() {
            if anew.contains(&self.listeners[which].node) {
                let node = self.any_node();
                self.go_on(which, node);
            }
        }
        while self.listeners.len() < LISTENERS {
            let node = self.any_node();
            let stream = self.open[&node].1.open();
            let (watches, next_id) = (BTreeMap::new(), 0);
            self.listeners.push(Listener { node, stream, watches, next_id });
        }
    }

    /// The stream ends, and its watches go on on `node` from where they were.
    fn go_on(&mut self, which: usize, node: NodeId) {
        let listener = &mut self.listeners[which];
        listener.node = node;
        listener.stream = self.open[&node].1.open();
        listener.watches.retain(|_, seen| !seen.canceled);
        for (id, seen) in &mut listener.watches {
            self.counts.moved += 1;
            seen.begin(*id, &listener.stream);
        }
    }

    fn create(&mut self, which: usize, reference: &Reference) {
        let (listener, random) = (&mut self.listeners[which], &mut self.random);
        if listener.watches.len() >= WATCHES_MAX {
            return;
        }
        let revision = reference.revision();
        let next = match random.below(4) {
            0 => None,
            1 => Some(revision + random.below(30)),
            2 => Some((reference.compacted + random.below(3)).saturating_sub(1)),
            _ => Some(revision.saturating_sub(random.below(60))),
        };
        let keys = match random.below(3) {
            0 => Keys::all(),
            1 => super::requests::keys(random),
            _ => Keys::prefix("a/"),
        };
        let watch = Watch {
            prev_kv: random.once_in(2),
            no_puts: random.once_in(6),
            no_deletes: random.once_in(6),
            progress: random.once_in(3),
            fragments: random.once_in(2),
            ..Watch::of(keys)
        };
        listener.next_id += 1;
        let (id, pieces) = (WatchId(listener.next_id), Vec::new());
        let (created, canceled, revision) = (false, false, 0);
        let mut seen = Seen { watch, next, created, canceled, pieces, revision };
        seen.begin(id, &listener.stream);
        listener.watches.insert(id, seen);
        self.counts.begun += 1;
    }

    fn cancel(&mut self, which: usize) {
        let listener = &mut self.listeners[which];
        let id = WatchId(1 + self.random.below(listener.next_id + 1));
        listener.stream.ask(&WatchRequest::Cancel(id)).expect("it can be canceled");
        if let Some(seen) = listener.watches.get_mut(&id) {
            seen.canceled = true;
            self.counts.canceled += 1;
        }
    }

    /// Listens to one frame; whether there was one.
    fn hear(&mut self, which: usize, reference: &Reference) -> bool {
        let listener = &mut self.listeners[which];
        let Some(frame) = listener.stream.say() else { return false };
        for reply in decode_sequence::<WatchReply>(&frame) {
            listener.take(reply.expect("a reply"), reference, &mut self.counts);
        }
        true
    }
}

impl Listener {
    fn seen(&mut self, id: WatchId) -> &mut Seen {
        self.watches.get_mut(&id).expect("it has not ended")
    }

    fn take(&mut self, reply: WatchReply, reference: &Reference, counts: &mut Counts) {
        match reply {
            WatchReply::Created(id, revision) => {
                let seen = self.seen(id);
                assert!(!mem::replace(&mut seen.created, true), "told twice that it has begun");
                assert!(revision.0 <= reference.revision());
                if seen.next.is_none() {
                    (seen.next, seen.revision) = (Some(revision.0 + 1), revision.0);
                }
            }
            WatchReply::Events { id, revision, mut events, fragment } => {
                let seen = self.seen(id);
                assert!(seen.created && !events.is_empty());
                assert!(revision.0 >= seen.revision, "back from {} to {revision}", seen.revision);
                counts.events += events.len() as u64;
                seen.revision = revision.0;
                seen.pieces.append(&mut events);
                if !fragment {
                    seen.check(revision.0, reference);
                }
            }
            WatchReply::Canceled(id, None) => {
                let seen = self.watches.remove(&id).expect("it has not ended");
                assert!(seen.canceled);
            }
            WatchReply::Canceled(id, Some(KvError::Compacted { requested, compacted })) => {
                counts.compacted += 1;
                let seen = self.watches.get_mut(&id).expect("it has not ended");
                assert!(seen.created && requested < compacted);
                // Nothing of what it would have been told before was left out.
                seen.advance(requested.0 - 1, reference);
                assert!(compacted.0 <= reference.compacted, "{compacted} is not compacted");
                // It is known from where it can go on, on whatever node.
                seen.next = Some(compacted.0);
                if seen.canceled {
                    self.watches.remove(&id);
                } else {
                    seen.begin(id, &self.stream);
                }
            }
            WatchReply::Progress(Some(id), revision) => {
                let seen = self.seen(id);
                assert!(seen.created && seen.watch.progress);
                seen.advance(revision.0, reference);
            }
            WatchReply::Progress(None, revision) => {
                let begun = |seen: &&mut Seen| seen.created && !seen.canceled;
                for seen in self.watches.values_mut().filter(begun) {
                    seen.advance(revision.0, reference);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Seen {
    /// Begins, or goes on, on a stream that does not know it.
    fn begin(&mut self, id: WatchId, stream: &LocalStream) {
        self.created = false;
        self.revision = 0;
        self.pieces.clear();
        let watch = Watch { from: self.next.map(Revision), ..self.watch.clone() };
        stream.ask(&WatchRequest::Create(id, watch)).expect("the stream does not know it");
    }

    /// Everything up to `through` was told just now, whole revisions in order, and nothing else.
    fn check(&mut self, through: u64, reference: &Reference) {
        assert!(through <= reference.revision(), "told of what was not committed");
        let told = mem::take(&mut self.pieces);
        let next = self.next.expect("it has begun");
        let mut expected = self.expected(next, through, reference);
        for event in told {
            let expected = expected.next().expect("no more has happened");
            assert_eq!(event.kind, expected.kind, "{:?} from {next}", self.watch);
            match (&event.prev_kv, &expected.prev_kv) {
                (Some(told), Some(before)) => assert!(self.watch.prev_kv && told == before),
                (None, Some(_)) if self.watch.prev_kv => {
                    assert!(event.revision().0 <= reference.compacted, "it is not compacted");
                }
                (told, _) => assert!(told.is_none()),
            }
        }
        assert_eq!(expected.next(), None, "{:?} from {next} to {through}", self.watch);
        drop(expected);
        self.next = Some(next.max(through + 1));
    }

    /// There was nothing more to tell up to `revision`.
    fn advance(&mut self, revision: u64, reference: &Reference) {
        assert!(self.pieces.is_empty() && revision <= reference.revision());
        let next = self.next.expect("it has begun");
        assert_eq!(self.expected(next, revision, reference).next(), None, "left out");
        self.next = Some(next.max(revision + 1));
    }

    fn expected<'a>(
        &'a self,
        from: u64,
        through: u64,
        reference: &'a Reference,
    ) -> impl Iterator<Item = &'a Event> {
        let events = (from..=through).flat_map(|revision| reference.events(revision));
        events.filter(|event| {
            let unwanted = match event.kind {
                EventKind::Put(_) => self.watch.no_puts,
                EventKind::Delete { .. } => self.watch.no_deletes,
            };
            self.watch.keys.contains(event.key()) && !unwanted
        })
    }
}
