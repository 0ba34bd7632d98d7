//! Work that is divided among those who are there.
//!
//! Nobody assigns: every worker sees the same members and owners, computes the share of each, gives
//! up what is beyond its own and takes what nobody has. A partition is owned by the key that its
//! owner created, so it has one owner at most; whoever takes over has a greater token. Shares
//! differ by one at most, and only as many partitions move as have to.

use super::group::{Group, Membership};
use super::mirror::Mirror;
use super::{RecipeError, below, created_at};
use crate::Client;
use crate::api::{Fence, Keys, Op, Put, Revision, Txn};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::time::Duration;

/// Work in a fixed number of partitions, `0` to `count - 1`.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::recipes::{Assignment, Partitions, RecipeError};
/// use std::time::Duration;
///
/// async fn example(client: &Client) -> Result<(), RecipeError> {
///     let work = Partitions::new(client, "work/indexing", 64);
///     let mut worker = work.join("host-a", Duration::from_secs(10)).await?;
///     loop {
///         match worker.next().await? {
///             Assignment::Gained { partition, fence } => {
///                 // Refused as soon as somebody else owns the partition.
///                 client.fenced(fence).put(format!("indexer/{partition}"), "host-a").await?;
///             }
///             Assignment::ToRelease { partition } => worker.release(partition).await?,
///             Assignment::Lost { partition } => println!("{partition} is somebody else's"),
///         }
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Partitions {
    client: Client,
    name: Bytes,
    count: u32,
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// The partition is this worker's. Nobody else's writes under an earlier fence are taken.
    Gained {
        /// Which.
        partition: u32,
        /// The proof of owning it, for [`Client::fenced`].
        fence: Fence,
    },
    /// It is to go to another worker: finish what is begun, then [release](Worker::release) it.
    ToRelease {
        /// Which.
        partition: u32,
    },
    /// Somebody has taken it away by deleting its key.
    Lost {
        /// Which.
        partition: u32,
    },
}

impl Partitions {
    /// The work of this name. All have to say the same `count`.
    pub fn new(client: &Client, name: impl Into<Bytes>, count: u32) -> Self {
        Self { client: client.clone(), name: name.into(), count }
    }

    /// Becomes the worker `id`. Should this process end, its partitions go to others after `ttl` at
    /// most.
    ///
    /// # Errors
    /// [`RecipeError::Taken`] while another one has this id; [`RecipeError::Client`].
    pub async fn join(&self, id: &str, ttl: Duration) -> Result<Worker, RecipeError> {
        let group = Group::new(&self.client, below(&self.name, b"workers"));
        let membership = group.join(id, "", ttl).await?;
        let mirror = Mirror::open(&self.client, Keys::prefix(below(&self.name, b""))).await?;
        Ok(Worker {
            work: self.clone(),
            membership,
            mirror,
            owned: BTreeMap::new(),
            known: BTreeMap::new(),
            leaving: BTreeSet::new(),
            news: VecDeque::new(),
        })
    }

    /// Who owns what: the ids of the workers by partition. Those that are just moving are left out.
    /// Linearizable.
    ///
    /// # Errors
    /// [`RecipeError::Client`].
    pub async fn owners(&self) -> Result<BTreeMap<u32, Bytes>, RecipeError> {
        let mirror =
            Mirror::open(&self.client, Keys::prefix(below(&self.name, b"owners/"))).await?;
        let owner = |partition| Some((partition, mirror.pairs().get(&self.key(partition))?));
        let owners = (0..self.count).filter_map(owner);
        Ok(owners.map(|(partition, pair)| (partition, pair.value.clone())).collect())
    }

    /// The key that says who owns a partition.
    fn key(&self, partition: u32) -> Bytes {
        below(&self.name, format!("owners/{partition:010}").as_bytes())
    }
}

/// A worker with its share of the work. Dropping it gives all of it up in the background.
pub struct Worker {
    work: Partitions,
    membership: Membership,
    mirror: Mirror,
    /// What is owned, and the token of each.
    owned: BTreeMap<u32, Revision>,
    /// The greatest token that it has ever had of each partition.
    known: BTreeMap<u32, Revision>,
    /// What is owned and to be released.
    leaving: BTreeSet<u32>,
    news: VecDeque<Assignment>,
}

impl Worker {
    /// Waits for the next change of this worker's share. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if the others take this one for failed: nothing is owned any more,
    /// [join](Partitions::join) anew. [`RecipeError::Client`]; it can be called again.
    pub async fn next(&mut self) -> Result<Assignment, RecipeError> {
        loop {
            if self.membership.is_lost() {
                return Err(RecipeError::Lost);
            }
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            self.balance().await?;
            if !self.news.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.membership.lost() => return Err(RecipeError::Lost),
                changed = self.mirror.changed() => changed?,
            };
        }
    }

    /// What is owned at present, and to be worked on.
    pub fn owned(&self) -> impl Iterator<Item = (u32, Fence)> {
        let owned = self.owned.iter().filter(|(partition, _)| !self.leaving.contains(partition));
        owned.map(|(partition, token)| {
            (*partition, Fence { key: self.work.key(*partition), token: *token })
        })
    }

    /// Gives a partition up, so that another worker can have it.
    ///
    /// # Errors
    /// [`RecipeError::Client`].
    pub async fn release(&mut self, partition: u32) -> Result<(), RecipeError> {
        let Some(token) = self.owned.get(&partition) else { return Ok(()) };
        let key = self.work.key(partition);
        let compares = vec![created_at(&key, *token)];
        let success = vec![Op::Delete { keys: Keys::One(key), prev_kv: false }];
        self.work.client.txn(Txn { compares, success, failure: vec![] }).await?;
        self.owned.remove(&partition);
        self.leaving.remove(&partition);
        Ok(())
    }

    /// Whether nothing of what is owned can be relied on any more.
    pub fn is_lost(&self) -> bool {
        self.membership.is_lost()
    }

    /// Ends when nothing of what is owned can be relied on any more; see
    /// [`Membership::lost`].
    pub fn lost(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        self.membership.lost()
    }

    /// Gives everything up, and returns when the others see that.
    ///
    /// # Errors
    /// [`RecipeError::Lost`] if it was taken for failed before; [`RecipeError::Client`].
    pub async fn leave(self) -> Result<(), RecipeError> {
        self.membership.leave().await
    }

    /// Compares what is owned with what should be, and does something about it.
    async fn balance(&mut self) -> Result<(), RecipeError> {
        self.notice_losses();
        self.notice_gains();
        let Some((rank, workers)) = self.rank()? else { return Ok(()) };
        let (count, workers) = (self.work.count as usize, workers.max(1));
        let share = count / workers + usize::from(rank < count % workers);
        let staying = self.owned.len() - self.leaving.len();
        for _ in share..staying {
            let last = self.owned.keys().rev().find(|owned| !self.leaving.contains(*owned));
            let Some(partition) = last.copied() else { break };
            self.leaving.insert(partition);
            self.news.push_back(Assignment::ToRelease { partition });
        }
        let wanted = share.saturating_sub(self.owned.len());
        let mut free: Vec<u32> = (0..self.work.count).filter(|one| self.is_free(*one)).collect();
        // Each begins elsewhere, so that few try to take the same.
        let begin = free.len() * rank / workers;
        free.rotate_left(begin);
        for partition in free.into_iter().take(wanted) {
            self.take(partition).await?;
        }
        Ok(())
    }

    /// What is owned no more although nobody released it.
    fn notice_losses(&mut self) {
        let (work, mirror) = (&self.work, &self.mirror);
        let lost = |partition: u32, token: Revision| {
            let there = mirror.pairs().get(&work.key(partition));
            // Before its token the mirror cannot show it.
            mirror.revision() >= token && there.is_none_or(|pair| pair.create_revision != token)
        };
        let (news, leaving) = (&mut self.news, &mut self.leaving);
        self.owned.retain(|partition, token| {
            let gone = lost(*partition, *token);
            // To be gone is what was wanted of those that are leaving.
            if gone && !leaving.remove(partition) {
                news.push_back(Assignment::Lost { partition: *partition });
            }
            !gone
        });
    }

    /// What was taken by a call that was given up before it was answered.
    fn notice_gains(&mut self) {
        let lease = Some(self.membership.lease().id());
        for partition in 0..self.work.count {
            let there = self.mirror.pairs().get(&self.work.key(partition));
            let Some(pair) = there.filter(|pair| pair.lease == lease) else { continue };
            let token = pair.create_revision;
            if self.known.get(&partition).is_none_or(|known| *known < token) {
                self.gained(partition, token);
            }
        }
    }

    fn gained(&mut self, partition: u32, token: Revision) {
        self.owned.insert(partition, token);
        self.known.insert(partition, token);
        let fence = Fence { key: self.work.key(partition), token };
        self.news.push_back(Assignment::Gained { partition, fence });
    }

    /// This worker's place among all, and how many there are; `None` if it is not shown yet.
    fn rank(&self) -> Result<Option<(usize, usize)>, RecipeError> {
        let Fence { key, token } = self.membership.fence();
        let prefix = below(&self.work.name, b"workers/");
        let pairs = self.mirror.pairs();
        let mut workers = pairs.range(prefix.clone()..).map(|(key, _)| key);
        let all: Vec<_> = workers.by_ref().take_while(|key| key.starts_with(&prefix)).collect();
        let own = pairs.get(&key).is_some_and(|pair| pair.create_revision == token);
        match all.binary_search(&&key) {
            Ok(rank) if own => Ok(Some((rank, all.len()))),
            _ if self.mirror.revision() < token => Ok(None),
            _ => Err(RecipeError::Lost),
        }
    }

    /// Whether nobody owns a partition, as far as it is shown.
    fn is_free(&self, partition: u32) -> bool {
        let shown = self.mirror.pairs().contains_key(&self.work.key(partition));
        !shown && !self.owned.contains_key(&partition)
    }

    /// Takes a partition if nobody has it, and this worker still counts.
    async fn take(&mut self, partition: u32) -> Result<(), RecipeError> {
        let key = self.work.key(partition);
        let own = self.membership.fence();
        let id = own.key.slice(below(&self.work.name, b"workers/").len()..);
        let put = Put::new(key.clone(), id).with_lease(self.membership.lease().id());
        let compares = vec![created_at(&key, Revision(0))];
        let txn = Txn { compares, success: vec![Op::Put(put)], failure: vec![] };
        let fenced = self.work.client.fenced(own);
        let reply = fenced.txn(txn).await.map_err(RecipeError::of_fenced)?;
        if reply.succeeded {
            self.gained(partition, reply.revision);
        }
        Ok(())
    }
}
