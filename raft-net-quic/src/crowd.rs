//! Handshakes when many connect at once, as when a node comes back that had thousands of clients.
//!
//! A handshake is computing, and whoever connects waits for it only so long. If all were begun at
//! once each would take as long as all of them together, none would end in time, and all would
//! come again. So a few are begun at once, in the order in which they came; whoever has to wait
//! proves first that its address exists, and whoever is not served soon is not answered at all and
//! comes again by itself, as QUIC repeats its first packet: no work is done for somebody who has
//! given up, or was never there. Peers wait for nobody.

use crate::config::Limits;
use quinn::Incoming;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// For how long a handshake waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(2);

/// For how long a handshake counts as one that is computed. Beyond that it waits for the other end,
/// which must not keep others out, however far away or silent it is.
const COMPUTED_MAX: Duration = Duration::from_millis(250);

/// Handshakes under way with what seem to be peers.
const PEERS_MAX: usize = 64;

/// How many handshakes there may be.
pub(crate) struct Crowd {
    under_way: Arc<Semaphore>,
    computed: Arc<Semaphore>,
    peers: Arc<Semaphore>,
}

/// What becomes of somebody who connects.
pub(crate) enum Verdict {
    /// The handshake begins when it is its turn.
    Enter(Place),
    /// Whoever it is has to prove that its address exists.
    Prove,
    /// There are too many: it is not answered.
    Ignore,
}

/// A handshake's place among those under way, until it is dropped.
pub(crate) struct Place {
    _under_way: OwnedSemaphorePermit,
    /// Whose turn it is; `None` of a peer.
    computed: Option<Arc<Semaphore>>,
}

/// A handshake's turn to be computed.
pub(crate) struct Turn {
    /// `None` of a peer's.
    _computed: Option<OwnedSemaphorePermit>,
}

impl Crowd {
    pub(crate) fn new(limits: &Limits) -> Self {
        let places = |most: usize| Arc::new(Semaphore::new(most.max(1)));
        Self {
            under_way: places(limits.handshakes_max),
            computed: places(limits.handshakes_at_once),
            peers: places(PEERS_MAX),
        }
    }

    /// What becomes of somebody who connects, perhaps from where a peer is: anybody can say that.
    pub(crate) fn admit(&self, incoming: &Incoming, is_peer: bool) -> Verdict {
        let proven = incoming.remote_address_validated() || !incoming.may_retry();
        let (places, computed) = match is_peer {
            true => (&self.peers, None),
            false => (&self.under_way, Some(Arc::clone(&self.computed))),
        };
        let waits = match &computed {
            Some(computed) => computed.available_permits() == 0,
            None => self.peers.available_permits() <= PEERS_MAX / 2,
        };
        if waits && !proven {
            return Verdict::Prove;
        }
        match Arc::clone(places).try_acquire_owned() {
            Ok(permit) => Verdict::Enter(Place { _under_way: permit, computed }),
            Err(_) => Verdict::Ignore,
        }
    }
}

impl Place {
    /// Waits for the handshake's turn; `None` if that does not come in time.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        let Some(computed) = &self.computed else { return Some(Turn { _computed: None }) };
        let turn = timeout(TURN_MAX, Arc::clone(computed).acquire_owned()).await;
        Some(Turn { _computed: Some(turn.ok()?.ok()?) })
    }
}

impl Turn {
    /// Waits for the end of the handshake whose turn it is.
    pub(crate) async fn hold<T>(self, handshake: impl Future<Output = T>) -> T {
        let mut handshake = pin!(handshake);
        match timeout(COMPUTED_MAX, handshake.as_mut()).await {
            Ok(end) => end,
            Err(_) => {
                drop(self);
                handshake.await
            }
        }
    }
}
