//! The present state of some keys, kept at hand by watching them.
//!
//! It is read once, and from then on only changes come over. It shows the state at each revision in
//! turn, the later ones a little late: it never shows what was not, or goes back.

use crate::Client;
use crate::api::{
    Consistency, Event, EventKind, KeyValue, Keys, KvError, Position, Range, Revision, Watch,
};
use crate::client::{ClientError, Watcher};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A copy of some keys that follows the store.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::api::Keys;
/// use raft_kv::client::ClientError;
/// use raft_kv::recipes::Mirror;
///
/// async fn example(client: &Client) -> Result<(), ClientError> {
///     let mut settings = Mirror::open(client, Keys::prefix("settings/")).await?;
///     loop {
///         println!("as of revision {}: {:?}", settings.revision(), settings.pairs());
///         settings.changed().await?;
///     }
/// }
/// ```
pub struct Mirror {
    client: Client,
    keys: Keys,
    pairs: BTreeMap<Bytes, KeyValue>,
    revision: Revision,
    watcher: Watcher,
    /// What has come and is not shown yet, in order.
    coming: VecDeque<Event>,
    /// The watch has ended: everything is to be read anew.
    ended: bool,
}

impl Mirror {
    /// Reads the keys, linearizably, and begins to watch them.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn open(client: &Client, keys: Keys) -> Result<Self, ClientError> {
        let (pairs, position) = load(client, &keys).await?;
        let (revision, watcher) = (position.revision, after(client, &keys, position));
        let (client, coming, ended) = (client.clone(), VecDeque::new(), false);
        Ok(Self { client, keys, pairs, revision, watcher, coming, ended })
    }

    /// The pairs as of [`revision`](Self::revision), by key.
    pub const fn pairs(&self) -> &BTreeMap<Bytes, KeyValue> {
        &self.pairs
    }

    /// The revision that is shown: the last one at which something has changed, or at which
    /// everything was read.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Waits for the next revision at which something changes, shows it, and returns its changes.
    /// Should the store be compacted before it has come here, what lies between is passed over:
    /// the changes are the differences then. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`]. It can be called again. After
    /// [`KvError::OtherHistory`] that shows the history there is: what was shown may not be part of
    /// it, and the changes are the differences, in whichever direction.
    pub async fn changed(&mut self) -> Result<Vec<Event>, ClientError> {
        while self.coming.is_empty() {
            if !self.ended {
                match told(&mut self.watcher).await {
                    Ok(events) => {
                        self.coming.extend(events);
                        continue;
                    }
                    // Whatever it is, no more is told by this watch.
                    Err(error) => {
                        self.ended = true;
                        if !matches!(error, ClientError::Refused(KvError::Compacted { .. })) {
                            return Err(error);
                        }
                    }
                }
            }
            let events = self.reload().await?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
        let revision = self.coming.front().map_or(self.revision, Event::revision);
        let ends = self.coming.iter().position(|event| event.revision() != revision);
        let events: Vec<Event> = self.coming.drain(..ends.unwrap_or(self.coming.len())).collect();
        for event in &events {
            match &event.kind {
                EventKind::Put(pair) => self.pairs.insert(pair.key.clone(), pair.clone()),
                EventKind::Delete { key, .. } => self.pairs.remove(key),
            };
        }
        self.revision = revision;
        Ok(events)
    }

    /// Reads everything anew; what is different.
    async fn reload(&mut self) -> Result<Vec<Event>, ClientError> {
        let (new, position) = load(&self.client, &self.keys).await?;
        let revision = position.revision;
        let gone = self.pairs.keys().filter(|key| !new.contains_key(*key));
        let deleted =
            gone.map(|key| EventKind::Delete { key: key.clone(), mod_revision: revision });
        let changed = new.values().filter(|pair| self.pairs.get(&pair.key) != Some(pair));
        let put = changed.map(|pair| EventKind::Put(pair.clone()));
        let events = deleted.chain(put).map(|kind| Event { kind, prev_kv: None }).collect();
        self.watcher = after(&self.client, &self.keys, position);
        (self.pairs, self.revision, self.ended) = (new, revision, false);
        Ok(events)
    }
}

/// Everything there is, as of one position.
async fn load(
    client: &Client,
    keys: &Keys,
) -> Result<(BTreeMap<Bytes, KeyValue>, Position), ClientError> {
    let mut pairs = BTreeMap::new();
    let mut pages = client.pages(Range::of(keys.clone()), Consistency::Linearizable);
    while let Some(page) = pages.next().await? {
        pairs.extend(page.kvs.into_iter().map(|pair| (pair.key.clone(), pair)));
    }
    Ok((pairs, pages.position().expect("there is a first page")))
}

/// Tells what comes after `position`, in the same history.
fn after(client: &Client, keys: &Keys, Position { epoch, revision }: Position) -> Watcher {
    let from = Some(Revision(revision.0 + 1));
    client.watch_history(epoch, Watch { from, ..Watch::of(keys.clone()) })
}

/// Waits until the watch tells of an event that is `wanted`. False if it can tell no more because
/// the store was compacted: whether there was such an event is unknown then, look at the keys.
pub(super) async fn until_told(
    client: &Client,
    watch: Watch,
    wanted: impl Fn(&Event) -> bool,
) -> Result<bool, ClientError> {
    let mut watcher = client.watch(watch);
    loop {
        match told(&mut watcher).await {
            Ok(events) if events.iter().any(&wanted) => return Ok(true),
            Ok(_) => {}
            Err(ClientError::Refused(KvError::Compacted { .. })) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// What a watch tells next.
pub(super) async fn told(watcher: &mut Watcher) -> Result<Vec<Event>, ClientError> {
    match watcher.next().await {
        Some(batch) => Ok(batch?.events),
        // Nobody asks on after it was told why.
        None => Err(ClientError::NotDone { reason: "the watch has ended".into(), source: None }),
    }
}
