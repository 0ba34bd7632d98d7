//! Linearizable storage made of nothing but a total order of messages, and a way to check it.
//!
//! A register lives in replicas that apply the same messages in the same order. A write is a
//! message; it is done when the writer's replica has applied it. So is a compare-and-set: whether it
//! succeeds is decided by its place in the order, alike everywhere. Only reads leave a choice, and
//! one that is wrong.

use super::{Failed, Shown};
use raft_core::testing::linear::{self, History, Outcome, Register, RegisterOp, RegisterReply};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub(crate) type Op = RegisterOp<u64>;
pub(crate) type Reply = RegisterReply<u64>;

/// A total order of messages: reliable, and the same for all.
pub(crate) trait Broadcast: Clone + Send + Sync + 'static {
    /// Tells everybody, once; the message's place in the order.
    fn broadcast(&self, message: String) -> impl Future<Output = Result<u64, Failed>> + Send;

    /// Not before the place of any message whose broadcast has ended by now.
    fn end(&self) -> impl Future<Output = Result<u64, Failed>> + Send;

    /// All messages from the first one on.
    fn deliver(&self) -> impl Delivery;
}

/// Messages as they come.
pub(crate) trait Delivery: Send + 'static {
    /// The next message and its place; an empty one has no effect.
    fn next(&mut self) -> impl Future<Output = Result<(u64, String), Failed>> + Send;
}

/// How a replica answers a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    /// The read is a message, too: it is answered with what is there at its place.
    ThroughTheLog,
    /// Asks for the end of the order first, and waits until the replica has come so far.
    LogPosition,
    /// Every write waits until one certain replica has applied it; that one is read.
    SynchronousReplica,
    /// What the replica has. It may be behind.
    Naive,
}

/// What a replica has applied.
#[derive(Default)]
struct Applied {
    value: u64,
    position: u64,
    /// The reply to each message.
    replies: BTreeMap<u64, Reply>,
}

/// A replica of the register.
#[derive(Clone)]
pub(crate) struct Replica {
    applied: watch::Sender<Arc<Mutex<Applied>>>,
    /// While true, it applies nothing.
    held: watch::Sender<bool>,
}

impl Replica {
    /// Follows the messages in a task, `lag` behind each.
    fn follow<B: Broadcast>(broadcast: &B, lag: Duration) -> Self {
        let (applied, held) = (watch::Sender::default(), watch::Sender::new(false));
        let replica = Self { applied, held };
        let (mut delivery, follower) = (broadcast.deliver(), replica.clone());
        tokio::spawn(async move {
            let mut held = follower.held.subscribe();
            while let Ok((position, message)) = delivery.next().await {
                sleep(lag).await;
                if held.wait_for(|held| !held).await.is_err() {
                    return;
                }
                follower.applied.send_modify(|applied| {
                    let mut applied = applied.lock().unwrap_or_else(PoisonError::into_inner);
                    applied.apply(position, &message);
                });
            }
        });
        replica
    }

    /// What `look` finds once everything up to `position` is applied.
    async fn at<T>(&self, position: u64, look: impl Fn(&Applied) -> T) -> Result<T, Failed> {
        let mut applied = self.applied.subscribe();
        let reached = |applied: &Arc<Mutex<Applied>>| {
            applied.lock().unwrap_or_else(PoisonError::into_inner).position >= position
        };
        let applied = applied.wait_for(reached).await?;
        Ok(look(&applied.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Applied {
    fn apply(&mut self, position: u64, message: &str) {
        let numbers: Vec<u64> = message.split(' ').filter_map(|word| word.parse().ok()).collect();
        let reply = match numbers[..] {
            [new] => {
                self.value = new;
                Reply::Written
            }
            [expected, new] => {
                let swapped = self.value == expected;
                if swapped {
                    self.value = new;
                }
                Reply::Swapped(swapped)
            }
            _ => Reply::Value(self.value),
        };
        self.replies.insert(position, reply);
        self.position = position;
    }
}

/// A register on three replicas, and what its clients have seen of it.
#[derive(Clone)]
pub(crate) struct Storage<B> {
    broadcast: B,
    replicas: Vec<Replica>,
    method: ReadMethod,
    history: Arc<Mutex<History<Op, Reply>>>,
}

impl<B: Broadcast> Storage<B> {
    pub(crate) fn new(broadcast: &B, method: ReadMethod) -> Self {
        let lags = [0, 1, 5].map(Duration::from_millis);
        let replicas = lags.map(|lag| Replica::follow(broadcast, lag)).into();
        Self { broadcast: broadcast.clone(), replicas, method, history: Arc::default() }
    }

    /// Lets a replica fall behind, or go on.
    pub(crate) fn hold(&self, replica: usize, held: bool) {
        self.replicas[replica].held.send_replace(held);
    }

    /// Does `op` through a replica, and writes down what comes of it.
    pub(crate) async fn call(&self, replica: usize, op: Op) -> Result<Reply, Failed> {
        let position = self.history(|history| history.invoke(replica as u64, op.clone()));
        let reply = self.run(replica, &op).await?;
        self.history(|history| history.answer(position, Outcome::Done(reply.clone())));
        Ok(reply)
    }

    async fn run(&self, replica: usize, op: &Op) -> Result<Reply, Failed> {
        let (near, first) = (&self.replicas[replica], &self.replicas[0]);
        let value = |applied: &Applied| Reply::Value(applied.value);
        let message = match op {
            RegisterOp::Write(new) => new.to_string(),
            RegisterOp::CompareAndSet { expected, new } => format!("{expected} {new}"),
            RegisterOp::Read => match self.method {
                ReadMethod::ThroughTheLog => "read".into(),
                ReadMethod::LogPosition => {
                    return near.at(self.broadcast.end().await?, value).await;
                }
                ReadMethod::SynchronousReplica => return first.at(0, value).await,
                ReadMethod::Naive => return near.at(0, value).await,
            },
        };
        let position = self.broadcast.broadcast(message).await?;
        if self.method == ReadMethod::SynchronousReplica {
            first.at(position, |_| ()).await?;
        }
        let reply = near.at(position, |applied| applied.replies.get(&position).cloned()).await?;
        Ok(reply.ok_or("every message has a reply")?)
    }

    /// Several clients at once, each at its own replica; each value is written once.
    pub(crate) async fn work(&self, rounds: u64) -> Shown {
        let mut clients = JoinSet::new();
        for replica in 0..self.replicas.len() {
            let storage = self.clone();
            clients.spawn(async move {
                for round in 0..rounds {
                    let new = 1 + round * 3 + replica as u64;
                    storage.call(replica, RegisterOp::Write(new)).await?;
                    let Reply::Value(expected) = storage.call(replica, RegisterOp::Read).await?
                    else {
                        return Err(Failed::from("reads are answered with values"));
                    };
                    let new = 1_000_000 + new;
                    storage.call(replica, RegisterOp::CompareAndSet { expected, new }).await?;
                    storage.call(replica, RegisterOp::Read).await?;
                }
                Ok(())
            });
        }
        clients.join_all().await.into_iter().collect()
    }

    /// Whether what the clients have seen can be explained by one copy of the register.
    ///
    /// # Errors
    /// What contradicts it.
    pub(crate) fn check(&self) -> Result<usize, linear::Failure> {
        self.history(|history| {
            linear::check(&Register(0), history.operations())?;
            Ok(history.operations().len())
        })
    }

    fn history<T>(&self, work: impl FnOnce(&mut History<Op, Reply>) -> T) -> T {
        work(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
