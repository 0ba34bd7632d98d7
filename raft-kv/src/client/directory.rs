//! The nodes a client knows, the connections to them, and which one it prefers.
//!
//! All requests go to one preferred node. When that fails, the first to notice moves everybody on
//! to another one, best to one that is connected already. A node that was silent keeps its
//! connection until it is known that it is not just busy: if all clients let busy nodes go, these
//! would have handshakes to do as well. Each node has at most one connection attempt under way, and
//! a node that refuses is left alone for a while. Nothing here waits or connects; `exchange` does.

use raft_core::transport::{CallError, Channel};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most nodes a client keeps in mind.
const ENDPOINTS_MAX: usize = 64;
/// How long a node that cannot be reached is left alone: at first, and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_millis(800);

/// A connection that is being made for longer than that is not counted on.
const CONNECTED_SOON: Duration = Duration::from_secs(1);

/// Names an endpoint for as long as the client lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndpointId(u64);

/// A connected node.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) id: EndpointId,
    pub(super) address: Arc<str>,
    pub(super) channel: Arc<dyn Channel>,
}

/// What to do for a channel.
pub(super) enum Pick {
    /// Use this one.
    Use(Connected),
    /// Connect to this one, and wait for any.
    Connect(EndpointId, Arc<str>),
    /// Connections are being made: wait.
    Wait,
    /// Every node was tried a moment ago; the text is about the preferred one.
    Nothing(Arc<str>, CallError),
}

/// How a request failed, as far as the node's connection is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection broke, or nobody is there.
    Broken,
    /// Nothing came over the connection in time.
    Silent,
    /// The node answered that it cannot do it now; perhaps another can.
    Unable,
}

/// See the module.
pub(super) struct Directory {
    inner: Mutex<Inner>,
    changed: Notify,
    /// A connection was given up.
    given_up: Notify,
}

struct Inner {
    /// Never empty, unless the options named none.
    endpoints: Vec<Endpoint>,
    preferred: usize,
    /// A node to be preferred as soon as it is connected.
    wanted: Option<EndpointId>,
    next_id: u64,
}

struct Endpoint {
    id: EndpointId,
    address: Arc<str>,
    /// From the options: kept whatever the cluster says.
    given: bool,
    link: Link,
    failures: u32,
    /// The last try to connect was refused for good.
    refused: bool,
    /// It was silent, and is being asked whether it is there.
    suspected: bool,
}

enum Link {
    Idle,
    Connecting { since: Instant },
    Up(Arc<dyn Channel>),
    Down { retry_at: Instant, why: CallError },
}

impl Directory {
    pub(super) fn new(addresses: &[String]) -> Self {
        let mut inner = Inner { endpoints: Vec::new(), preferred: 0, wanted: None, next_id: 0 };
        for address in addresses {
            inner.add(address, true);
        }
        Self { inner: Mutex::new(inner), changed: Notify::new(), given_up: Notify::new() }
    }

    /// The preferred node, if it is connected.
    pub(super) fn preferred(&self) -> Option<Connected> {
        let inner = self.inner();
        inner.endpoints.get(inner.preferred)?.connected()
    }

    /// What to do when the preferred node is not connected. `widen` to try one more node although
    /// connections are being made already.
    pub(super) fn pick(&self, widen: bool) -> Pick {
        self.inner().pick(widen)
    }

    /// A connection to `address`, if there is one.
    pub(super) fn connected(&self, address: &str) -> Option<Connected> {
        self.inner().endpoints.iter().find(|endpoint| &*endpoint.address == address)?.connected()
    }

    /// Waits until a connection was made or refused. Create it before looking.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// A connection attempt has ended.
    pub(super) fn connect_ended(&self, id: EndpointId, end: Result<Arc<dyn Channel>, CallError>) {
        let mut inner = self.inner();
        if let Some(position) = inner.position(id) {
            let up = end.is_ok();
            inner.endpoints[position].connect_ended(end);
            let wanted = inner.wanted.take_if(|wanted| *wanted == id).is_some();
            if up && (wanted || !inner.preferred_is_up()) {
                inner.preferred = position;
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// A request to `node` failed. Returns a node to connect to in the background, so that there
    /// is one to move on to.
    pub(super) fn failed(&self, node: &Connected, fault: Fault) -> Option<(EndpointId, Arc<str>)> {
        let mut inner = self.inner();
        let position = inner.position(node.id)?;
        if fault == Fault::Broken {
            inner.endpoints[position].broke(&node.channel);
            self.given_up.notify_waiters();
        }
        if inner.preferred != position {
            return None;
        }
        let other = inner.others().find(|other| inner.endpoints[*other].is_trusted());
        match (other, fault) {
            (Some(other), _) => inner.preferred = other,
            // A node that answers is better than one that may not even be there.
            (None, Fault::Unable) => return inner.start_connect(true),
            (None, Fault::Broken | Fault::Silent) => {
                inner.preferred = inner.others().next().unwrap_or(position);
            }
        }
        None
    }

    /// Notes that `node` may not be there; returns whether that is to be found out.
    pub(super) fn suspect(&self, node: &Connected) -> bool {
        let mut inner = self.inner();
        let Some(position) = inner.position(node.id) else { return false };
        !std::mem::replace(&mut inner.endpoints[position].suspected, true)
    }

    /// A node that was suspected is there.
    pub(super) fn trust(&self, id: EndpointId) {
        let mut inner = self.inner();
        if let Some(position) = inner.position(id) {
            inner.endpoints[position].suspected = false;
        }
    }

    /// Waits until the connection to `node` was given up, as a request over it has failed.
    pub(super) async fn until_given_up(&self, node: &Connected) {
        loop {
            let mut given_up = pin!(self.given_up.notified());
            // Enabled before looking: what happens after the look is not missed.
            given_up.as_mut().enable();
            if !self.inner().endpoints.iter().any(|endpoint| endpoint.is_over(&node.channel)) {
                return;
            }
            given_up.await;
        }
    }

    /// Another node to connect to, unless there is a connection to one, or being made.
    pub(super) fn spare(&self, than: &Connected) -> Option<(EndpointId, Arc<str>)> {
        let mut inner = self.inner();
        let preferred = inner.endpoints.get(inner.preferred)?.id == than.id;
        let other = |endpoint: &Endpoint| {
            let soon_up = match endpoint.link {
                Link::Up(_) => true,
                Link::Connecting { since } => since.elapsed() < CONNECTED_SOON,
                Link::Idle | Link::Down { .. } => false,
            };
            endpoint.id != than.id && soon_up
        };
        let there = inner.endpoints.iter().any(other);
        if !preferred || there { None } else { inner.start_connect(true) }
    }

    /// Takes over the addresses of the cluster's members.
    pub(super) fn learn<'a>(&self, addresses: impl Iterator<Item = &'a str> + Clone) {
        let mut inner = self.inner();
        let preferred = inner.endpoints.get(inner.preferred).map(|endpoint| endpoint.id);
        inner.endpoints.retain(|endpoint| {
            let member = || addresses.clone().any(|address| address == &*endpoint.address);
            endpoint.given || Some(endpoint.id) == preferred || member()
        });
        for address in addresses {
            inner.add(address, false);
        }
        let preferred = preferred.and_then(|id| inner.position(id));
        inner.preferred = preferred.unwrap_or(0);
    }

    /// Prefers the node at `address` from now on, or as soon as it is connected. Returns it if it
    /// is to be connected to.
    pub(super) fn prefer(&self, address: &str) -> Option<(EndpointId, Arc<str>)> {
        let mut inner = self.inner();
        let at = |endpoint: &Endpoint| &*endpoint.address == address;
        let position = inner.endpoints.iter().position(at)?;
        if inner.endpoints[position].is_up() {
            inner.preferred = position;
            return None;
        }
        inner.wanted = Some(inner.endpoints[position].id);
        let endpoint = &mut inner.endpoints[position];
        if !endpoint.may_connect(Instant::now()) {
            return None;
        }
        endpoint.link = Link::Connecting { since: Instant::now() };
        Some((endpoint.id, Arc::clone(&endpoint.address)))
    }

    /// The addresses known, the given ones first.
    pub(super) fn addresses(&self) -> Vec<Arc<str>> {
        self.inner().endpoints.iter().map(|endpoint| Arc::clone(&endpoint.address)).collect()
    }

    /// Whether every node known refused this client for good.
    pub(super) fn all_refused(&self) -> bool {
        let inner = self.inner();
        !inner.endpoints.is_empty() && inner.endpoints.iter().all(|endpoint| endpoint.refused)
    }

    /// How many nodes are known.
    pub(super) fn len(&self) -> usize {
        self.inner().endpoints.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every statement leaves it consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, address: &str, given: bool) {
        let known = self.endpoints.iter().any(|endpoint| &*endpoint.address == address);
        if known || address.is_empty() || self.endpoints.len() >= ENDPOINTS_MAX {
            return;
        }
        let id = EndpointId(self.next_id);
        self.next_id += 1;
        let address = address.into();
        let (link, failures, refused, suspected) = (Link::Idle, 0, false, false);
        self.endpoints.push(Endpoint { id, address, given, link, failures, refused, suspected });
    }

    fn position(&self, id: EndpointId) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| endpoint.id == id)
    }

    fn preferred_is_up(&self) -> bool {
        self.endpoints.get(self.preferred).is_some_and(Endpoint::is_up)
    }

    /// The others, in the order in which they come after the preferred one.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, preferred) = (self.endpoints.len(), self.preferred);
        (1..count).map(move |distance| (preferred + distance) % count)
    }

    fn pick(&mut self, widen: bool) -> Pick {
        if let Some((position, node)) = self.connected(Endpoint::is_trusted) {
            self.preferred = position;
            return Pick::Use(node);
        }
        let connecting =
            self.endpoints.iter().any(|node| matches!(node.link, Link::Connecting { .. }));
        if (!connecting || widen)
            && let Some((id, address)) = self.start_connect(false)
        {
            return Pick::Connect(id, address);
        }
        if connecting {
            return Pick::Wait;
        }
        if let Some((_, node)) = self.connected(Endpoint::is_up) {
            return Pick::Use(node);
        }
        match self.endpoints.get(self.preferred) {
            Some(Endpoint { address, link: Link::Down { why, .. }, .. }) => {
                Pick::Nothing(Arc::clone(address), why.clone())
            }
            Some(endpoint) => {
                let why = CallError::NotSent("not connected".into());
                Pick::Nothing(Arc::clone(&endpoint.address), why)
            }
            None => Pick::Nothing("".into(), CallError::NotSent("no endpoints given".into())),
        }
    }

    /// The first node that is connected and `fit`, by preference.
    fn connected(&self, fit: impl Fn(&Endpoint) -> bool) -> Option<(usize, Connected)> {
        let mut by_preference = std::iter::once(self.preferred).chain(self.others());
        by_preference.find_map(|position| {
            let endpoint = self.endpoints.get(position).filter(|endpoint| fit(endpoint))?;
            Some((position, endpoint.connected()?))
        })
    }

    /// Marks the next node as connecting that may be tried, beginning with the preferred one or,
    /// if `other`, after it.
    fn start_connect(&mut self, other: bool) -> Option<(EndpointId, Arc<str>)> {
        let now = Instant::now();
        let first = (!other && !self.endpoints.is_empty()).then_some(self.preferred);
        let mut candidates = first.into_iter().chain(self.others());
        let position = candidates.find(|position| self.endpoints[*position].may_connect(now))?;
        let endpoint = &mut self.endpoints[position];
        endpoint.link = Link::Connecting { since: Instant::now() };
        Some((endpoint.id, Arc::clone(&endpoint.address)))
    }
}

impl Endpoint {
    const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Whether it is connected, and not known to be silent.
    const fn is_trusted(&self) -> bool {
        self.is_up() && !self.suspected
    }

    fn connected(&self) -> Option<Connected> {
        let Link::Up(channel) = &self.link else { return None };
        let (id, address) = (self.id, Arc::clone(&self.address));
        Some(Connected { id, address, channel: Arc::clone(channel) })
    }

    fn may_connect(&self, now: Instant) -> bool {
        match self.link {
            Link::Idle => true,
            Link::Down { retry_at, .. } => retry_at <= now,
            Link::Connecting { .. } | Link::Up(_) => false,
        }
    }

    fn connect_ended(&mut self, end: Result<Arc<dyn Channel>, CallError>) {
        self.refused = matches!(end, Err(CallError::Refused(_)));
        self.suspected = false;
        self.link = match end {
            Ok(channel) => {
                self.failures = 0;
                Link::Up(channel)
            }
            Err(why) => {
                let backoff = match self.refused {
                    true => BACKOFF_MAX,
                    false => (BACKOFF_MIN * 2_u32.pow(self.failures.min(8))).min(BACKOFF_MAX),
                };
                self.failures += 1;
                Link::Down { retry_at: Instant::now() + backoff, why }
            }
        };
    }

    /// Lets a connection go, unless it is another one by now.
    fn broke(&mut self, channel: &Arc<dyn Channel>) {
        if self.is_over(channel) {
            self.link = Link::Idle;
        }
    }

    /// Whether this is its connection.
    fn is_over(&self, channel: &Arc<dyn Channel>) -> bool {
        matches!(&self.link, Link::Up(current) if Arc::ptr_eq(current, channel))
    }
}
