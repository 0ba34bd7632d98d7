//! A relay for UDP between a node and whoever dials it: it can delay, count, cut and heal, and be
//! too narrow for large packets.
//!
//! Whoever is told the relay's address instead of the node's sends through it; each of them has an
//! address of its own towards the node.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Largest datagram.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Datagrams on their way in one direction, at most: what is more is lost, as in a real network.
const QUEUED: usize = 4096;

pub(crate) struct Relay {
    pub(crate) address: String,
    state: Arc<State>,
    /// Ends all forwarding when the relay is dropped.
    _tasks: JoinSet<()>,
}

struct State {
    /// Bytes forwarded to the node.
    forwarded: AtomicU64,
    /// Cuts when that many bytes were forwarded.
    cut_at: AtomicU64,
    cut: watch::Sender<bool>,
    /// Whether the node has sent anything back, cut off or not.
    answered: watch::Sender<bool>,
    /// In each direction.
    delay: Duration,
    /// Larger datagrams are lost, in each direction.
    bytes_max: usize,
}

impl State {
    /// Whether a datagram to the node gets through.
    fn count(&self, bytes: usize) -> bool {
        if *self.cut.borrow() {
            return false;
        }
        let before = self.forwarded.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 >= self.cut_at.load(Ordering::Relaxed) {
            self.cut.send_replace(true);
        }
        true
    }
}

impl Relay {
    /// Forwards between whoever sends to it and `target`, each way later by `delay`.
    pub(crate) async fn start(target: &str, delay: Duration) -> Self {
        Self::with(target, delay, DATAGRAM_BYTES).await
    }

    /// Forwards no datagram that is larger than `bytes_max`.
    pub(crate) async fn narrow(target: &str, bytes_max: usize) -> Self {
        Self::with(target, Duration::ZERO, bytes_max).await
    }

    async fn with(target: &str, delay: Duration, bytes_max: usize) -> Self {
        let front = Arc::new(bind().await);
        let state = Arc::new(State {
            forwarded: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            cut: watch::Sender::new(false),
            answered: watch::Sender::new(false),
            delay,
            bytes_max,
        });
        let address = front.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(front, target.parse().unwrap(), Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Bytes forwarded to the node since the start.
    pub(crate) fn forwarded(&self) -> u64 {
        self.state.forwarded.load(Ordering::Relaxed)
    }

    /// Cuts both directions once `bytes` more have been forwarded to the node.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.state.cut_at.store(self.forwarded() + bytes, Ordering::Relaxed);
    }

    pub(crate) async fn is_cut(&self) {
        self.state.cut.subscribe().wait_for(|cut| *cut).await.unwrap();
    }

    /// Waits until the node has sent anything back.
    pub(crate) fn is_answered(&self) -> impl Future<Output = ()> + use<> {
        let mut answered = self.state.answered.subscribe();
        async move {
            answered.wait_for(|answered| *answered).await.unwrap();
        }
    }

    pub(crate) fn heal(&self) {
        self.state.cut_at.store(u64::MAX, Ordering::Relaxed);
        self.state.cut.send_replace(false);
    }
}

async fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn forward(front: Arc<UdpSocket>, target: SocketAddr, state: Arc<State>) {
    let mut flows: HashMap<SocketAddr, Line> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((count, from)) = front.recv_from(&mut buffer).await else { continue };
        let line = match flows.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let back = Arc::new(bind().await);
                let line = Line::new(&mut tasks, Arc::clone(&back), target, state.delay);
                tasks.spawn(answer(back, Arc::clone(&front), from, Arc::clone(&state)));
                new.insert(line)
            }
        };
        if count <= state.bytes_max && state.count(count) {
            line.send(&buffer[..count]);
        }
    }
}

/// The way back to one sender.
async fn answer(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, state: Arc<State>) {
    let mut tasks = JoinSet::new();
    let line = Line::new(&mut tasks, front, to, state.delay);
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok(count) = back.recv(&mut buffer).await else { continue };
        state.answered.send_replace(true);
        if count <= state.bytes_max && !*state.cut.borrow() {
            line.send(&buffer[..count]);
        }
    }
}

/// One direction, in order.
struct Line {
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    delay: Duration,
}

impl Line {
    fn new(
        tasks: &mut JoinSet<()>,
        socket: Arc<UdpSocket>,
        to: SocketAddr,
        delay: Duration,
    ) -> Self {
        let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUED);
        tasks.spawn(async move {
            while let Some((due, datagram)) = queued.recv().await {
                sleep_until(due).await;
                let _ = socket.send_to(&datagram, to).await;
            }
        });
        Self { queue, delay }
    }

    fn send(&self, datagram: &[u8]) {
        let _ = self.queue.try_send((Instant::now() + self.delay, datagram.to_vec()));
    }
}
