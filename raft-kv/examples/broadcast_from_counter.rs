//! Total-order broadcast from linearizable storage: a counter that is incremented and read in one
//! step gives each message its number, and all deliver by number, without gaps.
//!
//! A sender may die between taking its number and sending, which would hold everybody up. So a
//! message is sent by putting it into the slot of its number, if that is empty; and who has waited
//! for a slot for long fills it with nothing, if it is still empty. Whose put came first is for the
//! storage to say. The sender whose slot was filled takes another number.
//!
//! Storage built on this broadcast, which is built on storage, is linearizable again.

mod support;

use bytes::Bytes;
use raft_kv::Client;
use raft_kv::api::{Consistency, Keys, Range, Revision, Watch};
use std::collections::BTreeSet;
use std::time::Duration;
use support::storage::{Broadcast, Delivery, ReadMethod, Storage};
use support::{Cluster, Failed, Shown, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// After this long a number that was taken and not used is given up.
const PATIENCE: Duration = Duration::from_millis(100);
const SENDERS: u64 = 4;
const MESSAGES: u64 = 15;

/// Broadcast by a counter and slots. All it asks of the storage is linearizable reads and
/// compare-and-set of single keys.
#[derive(Clone)]
struct Numbered {
    client: Client,
    name: String,
}

impl Numbered {
    fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.into() }
    }

    fn counter(&self) -> String {
        format!("{}/counter", self.name)
    }

    fn slot(&self, number: u64) -> String {
        format!("{}/slots/{number:020}", self.name)
    }

    /// The counter, and the revision that tells its value from every other.
    async fn count(&self) -> Result<(u64, Revision), Failed> {
        let Some(pair) = self.client.get_one(self.counter()).await? else {
            return Ok((0, Revision(0)));
        };
        Ok((std::str::from_utf8(&pair.value)?.parse()?, pair.mod_revision))
    }

    async fn increment_and_get(&self) -> Result<u64, Failed> {
        loop {
            let (count, revision) = self.count().await?;
            let next = (count + 1).to_string();
            if self.client.compare_and_swap(self.counter(), revision, next).await?.swapped {
                return Ok(count + 1);
            }
        }
    }

    /// Puts a message, or nothing, into a slot; whether it was empty.
    async fn fill(&self, number: u64, message: Option<&str>) -> Result<bool, Failed> {
        let content = message.map_or_else(String::new, |message| format!("m{message}"));
        Ok(self.client.create_if_absent(self.slot(number), content).await?.swapped)
    }

    /// What is in a slot, as soon as something is.
    async fn content(&self, number: u64) -> Result<Bytes, Failed> {
        loop {
            let slot = Keys::One(self.slot(number).into());
            let range = Range::of(slot.clone());
            let found = self.client.get(range, Consistency::Linearizable).await?;
            if let Some(pair) = found.kvs.into_iter().next() {
                return Ok(pair.value);
            }
            let from = Some(Revision(found.revision.0 + 1));
            let mut watcher = self.client.watch(Watch { from, ..Watch::of(slot) });
            let news = timeout(PATIENCE, watcher.next()).await;
            if news.is_err() && self.count().await?.0 >= number {
                self.fill(number, None).await?;
            }
        }
    }
}

impl Broadcast for Numbered {
    async fn broadcast(&self, message: String) -> Result<u64, Failed> {
        loop {
            let number = self.increment_and_get().await?;
            if self.fill(number, Some(&message)).await? {
                return Ok(number);
            }
        }
    }

    async fn end(&self) -> Result<u64, Failed> {
        Ok(self.count().await?.0)
    }

    fn deliver(&self) -> impl Delivery {
        Slots { numbered: self.clone(), next: 1 }
    }
}

struct Slots {
    numbered: Numbered,
    next: u64,
}

impl Delivery for Slots {
    async fn next(&mut self) -> Result<(u64, String), Failed> {
        let (number, content) = (self.next, self.numbered.content(self.next).await?);
        self.next += 1;
        let message = std::str::from_utf8(&content)?.strip_prefix('m').unwrap_or_default();
        Ok((number, message.into()))
    }
}

/// Sends messages; some senders die after they have taken a number, and begin anew. What was sent.
async fn send(log: &Numbered, sender: u64) -> Result<BTreeSet<String>, Failed> {
    let mut sent = BTreeSet::new();
    for message in 0..MESSAGES {
        if message % 5 == sender % 5 {
            log.increment_and_get().await?;
        }
        let message = format!("{sender}/{message}");
        log.broadcast(message.clone()).await?;
        sent.insert(message);
    }
    Ok(sent)
}

/// The first messages that are delivered.
async fn receive(log: &Numbered, messages: u64) -> Result<Vec<(u64, String)>, Failed> {
    let mut delivery = log.deliver();
    let mut received = Vec::new();
    while (received.len() as u64) < messages {
        let (number, message) = delivery.next().await?;
        // A number that was given up stands for nothing.
        if !message.is_empty() {
            received.push((number, message));
        }
    }
    Ok(received)
}

async fn all_deliver_the_same(cluster: &mut Cluster) -> Shown {
    let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
    let log = |id| Numbered::new(cluster.client(id), "log");
    for sender in 0..SENDERS {
        let log = log(sender % 3 + 1);
        senders.spawn(async move { send(&log, sender).await });
    }
    for receiver in 1..=3 {
        let log = log(receiver);
        receivers.spawn(async move { receive(&log, SENDERS * MESSAGES).await });
    }
    // A node dies, too, with all that it was doing.
    let leader = cluster.leader().await;
    let late = log(if leader.0 == 1 { 2 } else { 1 });
    cluster.kill(leader).await;

    let mut sent = BTreeSet::new();
    for of_one in senders.join_all().await {
        sent.append(&mut of_one?);
    }
    let received: Vec<_> = receivers.join_all().await.into_iter().collect::<Result<_, _>>()?;
    let order = &received[0];
    ensure(received.iter().all(|other| other == order), "all deliver the same in the same order")?;
    let again = receive(&late, SENDERS * MESSAGES).await?;
    ensure(again == *order, "who comes late delivers the same")?;
    let delivered: BTreeSet<_> = order.iter().map(|(_, message)| message.clone()).collect();
    ensure(delivered == sent, "what was sent is delivered")?;
    ensure(delivered.len() == order.len(), "nothing is delivered twice")?;
    let given_up = order.last().map_or(0, |(number, _)| *number) - order.len() as u64;
    println!("{} messages, the same for all; {given_up} numbers were given up", order.len());
    Ok(())
}

#[tokio::main]
pub(crate) async fn main() -> Shown {
    let mut cluster = Cluster::start()?;
    // Until it answers, there is no leader to be killed.
    cluster.client(1).put("ready", "").await?;
    all_deliver_the_same(&mut cluster).await?;

    let id = cluster.leader().await;
    let log = Numbered::new(cluster.client(id.0), "storage");
    let storage = Storage::new(&log, ReadMethod::LogPosition);
    storage.work(5).await?;
    let operations = storage.check()?;
    println!("storage on top of it: {operations} operations are linearizable");
    Ok(())
}
