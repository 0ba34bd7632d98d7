//! Handshakes when many connect at once, as when a node comes back that had thousands of clients.
//!
//! A handshake is computing, and whoever connects waits for it only so long. If all were begun at
//! once each would take as long as all of them together, none would end in time, and all would
//! come again. So a few are computed at once, in the order in which they came; whoever is not
//! served soon is not answered at all, and comes again by itself, as QUIC repeats its first packet:
//! no work is done for somebody who has given up. Peers do not wait for clients.

use crate::config::Limits;
use quinn::Incoming;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// For how long a handshake waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(2);

/// For how long a handshake counts as one that is computed. Beyond that it is likely to wait for
/// the other end, which must not keep others out.
const COMPUTED_MAX: Duration = Duration::from_secs(3);

/// How many handshakes there may be.
pub(crate) struct Crowd {
    under_way: Arc<Semaphore>,
    under_way_max: usize,
    computed: Arc<Semaphore>,
}

/// What becomes of somebody who connects.
pub(crate) enum Verdict {
    /// The handshake begins when it is its turn.
    Enter(Place),
    /// Whoever it is has to prove that its address exists.
    Prove,
    /// There are too many.
    Refuse,
}

/// A handshake's place among those under way, until it is dropped.
pub(crate) struct Place {
    _under_way: OwnedSemaphorePermit,
    computed: Arc<Semaphore>,
}

/// A handshake's turn to be computed.
pub(crate) struct Turn {
    /// `None` of a peer's.
    _computed: Option<OwnedSemaphorePermit>,
}

impl Crowd {
    pub(crate) fn new(limits: &Limits) -> Self {
        let under_way_max = limits.handshakes_max.max(1);
        Self {
            under_way: Arc::new(Semaphore::new(under_way_max)),
            under_way_max,
            computed: Arc::new(Semaphore::new(limits.handshakes_at_once.max(1))),
        }
    }

    /// What becomes of somebody who connects.
    pub(crate) fn admit(&self, incoming: &Incoming) -> Verdict {
        let crowded = self.under_way.available_permits() <= self.under_way_max / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            return Verdict::Prove;
        }
        match Arc::clone(&self.under_way).try_acquire_owned() {
            Ok(permit) => {
                let computed = Arc::clone(&self.computed);
                Verdict::Enter(Place { _under_way: permit, computed })
            }
            Err(_) => Verdict::Refuse,
        }
    }
}

impl Place {
    /// Waits for the handshake's turn; `None` if that does not come in time.
    pub(crate) async fn turn(&self, is_peer: bool) -> Option<Turn> {
        if is_peer {
            return Some(Turn { _computed: None });
        }
        let turn = timeout(TURN_MAX, Arc::clone(&self.computed).acquire_owned()).await;
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
