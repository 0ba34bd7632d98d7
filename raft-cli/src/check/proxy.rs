//! A network that is as bad as one wants: UDP proxies between the nodes of a cluster on this
//! machine, one for each ordered pair. Owns the sockets and the thread that serves them; knows
//! nothing of what the datagrams say.
//!
//! A node dials another one through the pair's proxy, and is answered through it. What happens to a
//! datagram depends only on which node it is from and which one it is for, not on who dialled.

use crate::failure::Failure;
use raft_core::testing::Random;
use raft_core::types::NodeId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// Datagrams of a pair that wait to be late; more are lost, as in any router.
const LATE_MAX: usize = 4096;
/// No datagram is larger.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// A datagram that others are to overtake waits up to so long, in milliseconds.
const OVERTAKEN_MS_MAX: u64 = 40;

/// What happens to datagrams on all ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// So many of a thousand are lost.
    pub loss: u64,
    /// So many of a thousand come twice.
    pub duplicate: u64,
    /// So many of a thousand are overtaken by later ones.
    pub reorder: u64,
    /// All take so much longer.
    pub delay: Duration,
}

/// The proxies of a cluster. Dropping it ends them.
pub struct Proxy {
    network: Arc<Mutex<Network>>,
    /// Where the first node reaches the second.
    addresses: BTreeMap<(NodeId, NodeId), SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is true of the network at present.
struct Network {
    random: Random,
    weather: Weather,
    /// Ways, from and to, on which nothing gets through.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// How many datagrams were lost, on ways that were cut and others.
    lost: u64,
}

impl Proxy {
    /// Proxies between nodes that listen at these addresses. Chance follows from `seed`.
    ///
    /// # Errors
    /// Of kind `Local` if there are no sockets or threads to be had.
    pub fn start(nodes: &BTreeMap<NodeId, SocketAddr>, seed: u64) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::local("cannot start the proxies", &error);
        let network = Network {
            random: Random::new(seed),
            weather: Weather::default(),
            cut: BTreeSet::new(),
            lost: 0,
        };
        let network = Arc::new(Mutex::new(network));
        // A thread of its own: what clients and processes do must not make datagrams late.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let mut addresses = BTreeMap::new();
        for (from, dialler) in nodes {
            for (to, target) in nodes.iter().filter(|(to, _)| *to != from) {
                let link = Link::bind((*from, *dialler), (*to, *target), Arc::clone(&network));
                let link = runtime.block_on(link).map_err(failed)?;
                let address = link.outer.local_addr().map_err(failed)?;
                addresses.insert((*from, *to), address);
                runtime.spawn(link.run());
            }
        }
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            // Told to, or left alone: either way it is over.
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(serve);
        let thread = Some(thread.map_err(failed)?);
        Ok(Self { network, addresses, stop: Some(stop), thread })
    }

    /// Where node `from` reaches the others, as `raft serve --peer-address` takes it.
    pub fn peer_addresses(&self, from: NodeId) -> String {
        let own = self.addresses.iter().filter(|((node, _), _)| *node == from);
        let pairs: Vec<String> = own.map(|((_, to), address)| format!("{to}={address}")).collect();
        pairs.join(",")
    }

    /// Cuts or mends the way from one node to another; the way back stays as it is.
    pub fn cut(&self, from: NodeId, to: NodeId, cut: bool) {
        let mut network = lock(&self.network);
        if cut {
            network.cut.insert((from, to));
        } else {
            network.cut.remove(&(from, to));
        }
    }

    /// Changes what happens on all ways.
    pub fn set_weather(&self, weather: Weather) {
        lock(&self.network).weather = weather;
    }

    /// How many datagrams have been lost on purpose since the start.
    pub fn lost(&self) -> u64 {
        lock(&self.network).lost
    }

    /// Mends everything.
    pub fn heal(&self) {
        let mut network = lock(&self.network);
        network.cut.clear();
        network.weather = Weather::default();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and if it did, it would be over as well.
            let _ = thread.join();
        }
    }
}

fn lock(network: &Mutex<Network>) -> MutexGuard<'_, Network> {
    network.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// How late each copy of a datagram comes; none if it is lost.
    fn fate(&mut self, from: NodeId, to: NodeId) -> [Option<Duration>; 2] {
        let Weather { loss, duplicate, reorder, delay } = self.weather;
        if self.cut.contains(&(from, to)) || self.random.below(1000) < loss {
            self.lost += 1;
            return [None, None];
        }
        let mut copy = || {
            let overtaken = self.random.below(1000) < reorder;
            let more = if overtaken { 1 + self.random.below(OVERTAKEN_MS_MAX) } else { 0 };
            delay + Duration::from_millis(more)
        };
        let first = Some(copy());
        let second = copy();
        [first, (self.random.below(1000) < duplicate).then_some(second)]
    }
}

/// The proxy of one ordered pair of nodes.
struct Link {
    from: NodeId,
    to: NodeId,
    /// The address of `from`, which dials from where it listens; nobody else is served.
    dialler: SocketAddr,
    /// What `from` dials.
    outer: UdpSocket,
    /// Connected to `to`.
    inner: UdpSocket,
    network: Arc<Mutex<Network>>,
    late: BinaryHeap<Reverse<Late>>,
    /// Tells apart what is due at the same time.
    seq: u64,
}

/// A datagram that waits until it is due.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    seq: u64,
    way: Way,
    bytes: Vec<u8>,
}

/// Whether a datagram is for the node that was dialled, or back from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    There,
    Back,
}

impl Link {
    async fn bind(
        (from, dialler): (NodeId, SocketAddr),
        (to, target): (NodeId, SocketAddr),
        network: Arc<Mutex<Network>>,
    ) -> io::Result<Self> {
        let outer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let inner = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        inner.connect(target).await?;
        let late = BinaryHeap::new();
        Ok(Self { from, to, dialler, outer, inner, network, late, seq: 0 })
    }

    async fn run(mut self) {
        let mut there = vec![0; DATAGRAM_BYTES_MAX];
        let mut back = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let due = self.late.peek().map(|Reverse(late)| late.due);
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // Errors tell that nobody listened to an earlier datagram: it is lost, as any may be.
            tokio::select! {
                biased;
                () = wait => self.send_due().await,
                got = self.outer.recv_from(&mut there) => match got {
                    Ok((len, source)) if source == self.dialler => {
                        self.pass(Way::There, &there[..len]).await;
                    }
                    _ => {}
                },
                got = self.inner.recv(&mut back) => if let Ok(len) = got {
                    self.pass(Way::Back, &back[..len]).await;
                },
            }
        }
    }

    /// Lets a datagram meet its fate.
    async fn pass(&mut self, way: Way, bytes: &[u8]) {
        let (from, to) = match way {
            Way::There => (self.from, self.to),
            Way::Back => (self.to, self.from),
        };
        let fate = lock(&self.network).fate(from, to);
        for later in fate.into_iter().flatten() {
            if later.is_zero() {
                self.send(way, bytes).await;
            } else if self.late.len() < LATE_MAX {
                self.seq += 1;
                let (due, bytes) = (Instant::now() + later, bytes.to_vec());
                self.late.push(Reverse(Late { due, seq: self.seq, way, bytes }));
            }
        }
    }

    async fn send_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse(late)) = self.late.peek()
            && late.due <= now
        {
            let Some(Reverse(Late { way, bytes, .. })) = self.late.pop() else { return };
            self.send(way, &bytes).await;
        }
    }

    async fn send(&self, way: Way, bytes: &[u8]) {
        // What cannot be sent is lost, as any datagram may be.
        let _ = match way {
            Way::There => self.inner.send(bytes).await,
            Way::Back => self.outer.send_to(bytes, self.dialler).await,
        };
    }
}
