//! Noticing that a peer says nothing any more although it is spoken to.
//!
//! QUIC hears only silence from a host whose process has ended, and waits for seconds before it
//! gives a connection up. Until then whoever takes the place of that process is not reached, unless
//! it has the same key and says that it knows nothing of the connection. So a peer that is silent is
//! asked for at its address: where its host has said that nobody listens, and then does not say so
//! any more, another process does, and is dialled. Nobody is given up for silence alone: it may be
//! slow, or the way there. Nor before somebody listens again: packets that open a connection would
//! be lost, and are not soon repeated.

use crate::peer::Peer;
use crate::probe::{self, Turn};
use crate::shared::Shared;
use quinn::Connection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a peer may be silent that is spoken to.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two looks whether it has said anything.
const LOOK: Duration = Duration::from_millis(100);

/// Whether a peer is silent, for whoever speaks to it. It costs nothing while nobody does.
pub(crate) struct Silence {
    connection: Connection,
    /// Packets that have come, as of the last look, and since when no other has.
    heard: u64,
    since: Instant,
    look: Instant,
    silent: Arc<Notify>,
}

impl Silence {
    /// What is told to `silent` is that the peer is.
    pub(crate) fn new(connection: Connection, silent: Arc<Notify>) -> Self {
        let now = Instant::now();
        Self { connection, heard: 0, since: now, look: now, silent }
    }

    /// Something was said to the peer.
    pub(crate) fn spoke(&mut self) {
        let now = Instant::now();
        if now < self.look {
            return;
        }
        self.look = now + LOOK;
        let heard = self.connection.stats().udp_rx.datagrams;
        if heard != self.heard {
            (self.heard, self.since) = (heard, now);
        } else if now >= self.since + PATIENCE {
            self.silent.notify_one();
        }
    }
}

/// Waits until the peer was silent, and another process listens in its place.
pub(crate) async fn replaced(shared: &Shared, peer: &Arc<Peer>, silent: &Notify) {
    let mut was_gone = false;
    loop {
        silent.notified().await;
        let own = shared.endpoint().and_then(|endpoint| endpoint.local_addr().ok());
        // Whoever probes it already looks for the same.
        let (Some(own), Some(turn)) = (own, Turn::take(peer)) else { continue };
        let is_gone = probe::is_gone(&turn, own.ip()).await;
        if was_gone && !is_gone {
            return;
        }
        was_gone = is_gone;
    }
}
