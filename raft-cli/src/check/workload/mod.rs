//! Clients that do something and take down what came of it. One file per workload; each knows how
//! to ask and nothing of how that is judged.
//!
//! Keys are in use for a while only, then the next ones are: judging one key stays quick however
//! long the run.

mod append;
mod lock;
mod register;
mod set;
mod watch;

use super::history::{Action, Ending, Operation, Workload};
use super::recorder::Recorder;
use crate::failure::Failure;
use futures_util::future::join_all;
use raft_core::testing::Random;
use raft_core::transport::Connector;
use raft_kv::api::{Consistency, KeyValue, Keys, Range, Revision};
use raft_kv::client::{Client, ClientError, ClientOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch as signal;
use tokio::time::{sleep, timeout};

/// Operations after which a workload goes on with other keys.
const OPERATIONS_PER_ROUND: u64 = 240;
/// Keys in use at once.
const KEYS_AT_ONCE: u64 = 2;
/// Connections to each node, of a client of the store each. All of them want to connect at once
/// when a node is killed, and that is not what is to be found out: on a machine that has a tenth of
/// a core left for each process, eighty handshakes take minutes.
const CLIENTS_PER_NODE: usize = 2;

/// What is to be run.
pub struct Plan {
    /// Each of them with its own clients.
    pub workloads: Vec<Workload>,
    /// Clients of each.
    pub clients: u16,
    /// How long they wait on average between two operations.
    pub pause: Duration,
    /// How long one operation may take.
    pub deadline: Duration,
    /// How long what comes before and after may take: connecting, being told all that is watched,
    /// reading everything back, removing the keys.
    pub patience: Duration,
    /// All keys begin with this.
    pub prefix: String,
    /// What choices follow from.
    pub seed: u64,
    /// Nodes, `host:port`. Clients begin with different ones and stay there while they can.
    pub endpoints: Vec<String>,
    /// Reaches them.
    pub connector: Arc<dyn Connector>,
}

/// One client of one workload.
struct Session {
    client: Client,
    number: u64,
    workload: Workload,
    prefix: String,
    recorder: Arc<Recorder>,
    /// Operations that this workload's clients have begun.
    begun: Arc<AtomicU64>,
    random: Random,
    pause: Duration,
    patience: Duration,
    stop: signal::Receiver<bool>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

impl Plan {
    /// Runs all clients of the workloads over `clients`, those of [`Plan::connect`], until `stop`
    /// says true; reads everything back, and removes the keys. There should be no more trouble by
    /// then.
    ///
    /// # Errors
    /// If a watcher does not learn from where on to watch.
    pub async fn run(
        &self,
        clients: &[Client],
        recorder: &Arc<Recorder>,
        stop: signal::Receiver<bool>,
    ) -> Result<(), Failure> {
        let mut sessions = Vec::new();
        for workload in &self.workloads {
            let begun = Arc::new(AtomicU64::new(0));
            for _ in 0..self.clients {
                let number = sessions.len() as u64 + 1;
                sessions.push(Session {
                    client: clients[sessions.len() % clients.len()].with_deadline(self.deadline),
                    number,
                    workload: *workload,
                    prefix: format!("{}{}/", self.prefix, workload.name()),
                    recorder: Arc::clone(recorder),
                    begun: Arc::clone(&begun),
                    random: Random::new(self.seed ^ number.rotate_left(32)),
                    pause: self.pause,
                    patience: self.patience,
                    stop: stop.clone(),
                });
            }
        }
        let watchers = usize::from(self.clients / 2);
        let mut running: Vec<Running<'_>> = Vec::new();
        let mut place = BTreeMap::new();
        for session in &mut sessions {
            let place: &mut usize = place.entry(session.workload).or_default();
            let watches = session.workload == Workload::Watch && *place < watchers;
            *place += 1;
            running.push(match session.workload {
                Workload::Watch if watches => Box::pin(watch::watch(session)),
                Workload::Watch => Box::pin(watch::write(session)),
                Workload::Register => Box::pin(register::run(session)),
                Workload::Append => Box::pin(append::run(session)),
                Workload::Set => Box::pin(set::run(session)),
                Workload::Lock => Box::pin(lock::run(session)),
            });
        }
        let ended = join_all(running).await;
        self.read_back(&mut sessions).await;
        // What cannot be removed now nobody removes; it is not what was to be found out.
        if let Some(remover) = clients.first() {
            let remover = remover.with_deadline(self.patience);
            let _ = remover.delete(Keys::prefix(self.prefix.clone())).await;
        }
        ended.into_iter().collect()
    }

    /// Clients of the store, which the clients of workloads share: some for each node. They connect
    /// one after the other.
    ///
    /// # Errors
    /// If the cluster cannot be reached.
    pub async fn connect(&self) -> Result<Vec<Client>, Failure> {
        let nothing = Range { limit: 1, keys_only: true, ..Range::of(Keys::all()) };
        let nodes = self.endpoints.len().max(1);
        let mut clients = Vec::new();
        for number in 0..nodes * CLIENTS_PER_NODE {
            let mut endpoints = self.endpoints.clone();
            endpoints.rotate_left(number % nodes);
            let options = ClientOptions::new(endpoints);
            let client = Client::new(Arc::clone(&self.connector), options);
            let patient = client.with_deadline(self.patience);
            let reached = patient.get(nothing.clone(), Consistency::Linearizable).await;
            reached.map_err(crate::client::failure)?;
            clients.push(client);
        }
        Ok(clients)
    }

    /// Reads every key once more, now that there is no trouble: what was acknowledged is there.
    async fn read_back(&self, sessions: &mut [Session]) {
        let reads = self.workloads.iter().filter_map(|workload| {
            let at = sessions.iter().position(|session| session.workload == *workload)?;
            Some((at, *workload))
        });
        for (at, workload) in reads.collect::<Vec<_>>() {
            let session = &mut sessions[at];
            session.client = session.client.with_deadline(self.patience);
            let begun = session.begun.load(Ordering::Relaxed);
            let all = async {
                if workload == Workload::Lock {
                    lock::read(session, None).await;
                }
                for key in (0..=begun / OPERATIONS_PER_ROUND).flat_map(keys_of_round) {
                    match workload {
                        Workload::Register => register::read(session, &key).await,
                        Workload::Append => append::read(session, &key).await,
                        Workload::Set => set::read(session, &key).await,
                        Workload::Watch | Workload::Lock => {}
                    }
                }
            };
            // A cluster that does not come back has been told of by every read that failed.
            let _ = timeout(self.patience, all).await;
        }
    }
}

fn keys_of_round(round: u64) -> impl Iterator<Item = String> {
    (0..KEYS_AT_ONCE).map(move |key| (round * KEYS_AT_ONCE + key).to_string())
}

impl Session {
    /// Whether to go on, after a pause.
    async fn goes_on(&mut self) -> bool {
        let pause = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX / 2);
        let pause = Duration::from_micros(self.random.below(pause.saturating_mul(2).max(1)));
        tokio::select! {
            () = sleep(pause) => {}
            // Whoever could have said stop is gone: that is the same.
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
        !*self.stop.borrow() && !self.recorder.is_full()
    }

    /// The key of the next operation.
    fn next_key(&mut self) -> String {
        let round = self.begun.fetch_add(1, Ordering::Relaxed) / OPERATIONS_PER_ROUND;
        (round * KEYS_AT_ONCE + self.random.below(KEYS_AT_ONCE)).to_string()
    }

    /// The name of a key in the store.
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Takes down an operation that began at `start` and has ended now, by an answer as of some
    /// position if there was one.
    fn record(
        &self,
        key: &str,
        action: Action,
        start: u64,
        outcome: Ending,
        position: Option<Revision>,
    ) {
        let (key, end) = (key.to_owned(), self.recorder.now());
        let (workload, client) = (self.workload, self.number);
        let position = position.map(|position| position.0);
        self.recorder.operation(Operation {
            workload,
            client,
            key,
            action,
            start,
            end,
            outcome,
            position,
        });
    }

    /// What is at a key, and as of which revision of the store.
    async fn look(&self, full: String) -> Result<(Option<KeyValue>, Revision), ClientError> {
        let range = Range::of(Keys::One(full.into()));
        let reply = self.client.get(range, Consistency::Linearizable).await?;
        Ok((reply.kvs.into_iter().next(), reply.revision))
    }
}

/// What an error says about a write.
const fn ending(error: &ClientError) -> Ending {
    match error.may_have_run() {
        true => Ending::Unknown,
        false => Ending::Failed,
    }
}

/// A value in the store: the number that was written, or whatever else is there, which is a value
/// too: one that nobody wrote.
fn value(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    text.parse::<u64>().map_or_else(|_| Value::from(&*text), Value::from)
}
