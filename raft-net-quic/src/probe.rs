//! Whether anybody still listens where a peer does.
//!
//! The host of a process that has ended answers a datagram to its port, and a connected socket
//! hears of that: the connections of QUIC only of silence. One byte is no packet of QUIC, so
//! whoever does listen drops it without a word.

use crate::peer::Peer;
use crate::shared::{Shared, canonical};
use raft_core::types::GroupId;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long an answer is waited for, at least and at most: three round trips where they are known.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// The right to probe a peer: one probe of it is under way at a time.
pub(crate) struct Turn(Arc<Peer>);

impl Turn {
    /// `None` if it is taken.
    pub(crate) fn take(peer: &Arc<Peer>) -> Option<Self> {
        let free = !peer.probed().swap(true, Ordering::Relaxed);
        free.then(|| Self(Arc::clone(peer)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.probed().store(false, Ordering::Relaxed);
    }
}

/// Whether a peer is being probed.
pub(crate) type Probed = AtomicBool;

/// Tells the group if nobody listens at any address of the peer. `own` is where this node listens.
pub(crate) async fn probe(shared: Arc<Shared>, group: GroupId, turn: Turn, own: IpAddr) {
    let peer = &turn.0;
    let addresses = peer.reached();
    let round_trip = peer.round_trip().unwrap_or_default();
    let patience = (3 * round_trip).clamp(PATIENCE_MIN, PATIENCE_MAX);
    for address in &addresses {
        let refused = is_refused(own, canonical(*address), patience).await;
        tracing::debug!(peer = %peer.node(), %address, ?refused, "probed");
        if !matches!(refused, Ok(true)) {
            return;
        }
    }
    if !addresses.is_empty()
        && let Some(inbox) = shared.inbox(group)
    {
        inbox.refused(peer.node());
    }
}

/// Whether the host at `address` says that nobody listens there.
async fn is_refused(own: IpAddr, address: SocketAddr, patience: Duration) -> io::Result<bool> {
    let own = own.to_canonical();
    // By the way that this node's packets take, if it has chosen one.
    let from = match address {
        _ if own.is_ipv4() == address.is_ipv4() => own,
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(address).await?;
    let asked = async {
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match timeout(patience, asked).await {
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Ok(true),
            _ => Err(error),
        },
        // Whatever it was that came, or nothing.
        Ok(Ok(_)) | Err(_) => Ok(false),
    }
}
