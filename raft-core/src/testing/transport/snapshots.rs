//! Snapshots: whole or not at all.

use super::Network;
use super::parties::{Event, GROUP, NOBODY, Scene, pattern};
use super::wait::within;
use crate::state_machine::Snapshot;
use crate::testing::breach::Breach;
use crate::transport::Transport as _;
use crate::types::{LogId, Member, Membership, NodeId, SnapshotMeta, Term};
use bytes::Bytes;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::time::Instant;

const TERM: Term = Term(1 << 40);

/// What a snapshot at `index` covers.
fn meta(index: u64) -> SnapshotMeta {
    let member = |id: u64| (NodeId(id), Member::new(format!("node{id}:7000")));
    let membership = Membership::of_voters((1..=3).map(member).collect());
    SnapshotMeta { last: LogId::new(index, 2), membership }
}

/// Fails after some bytes.
struct Failing(Cursor<Bytes>);

impl Read for Failing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::Error::other("the disk is gone")),
            count => Ok(count),
        }
    }
}

impl<N: Network> Scene<'_, N> {
    pub(super) async fn snapshots(&mut self) -> Result<(), Breach> {
        for (index, length) in [(1, 0), (2, 1), (3, 100_000), (4, 5_000_001)] {
            self.snapshot(index, length).await?;
        }
        // One whose reader fails, and then a good one, which is the next to arrive.
        let data = Box::new(Failing(Cursor::new(pattern(3_000_000))));
        let step = "a snapshot whose reader fails after 3000000 bytes is sent";
        self.refused(self.parties[1].node(), 5, data, step).await?;
        self.snapshot(6, 70_000).await?;
        let data = Box::new(io::empty());
        self.refused(NOBODY, 7, data, "a snapshot is sent to a node that does not exist").await
    }

    /// Sends a snapshot that must not arrive.
    async fn refused(
        &self,
        to: NodeId,
        index: u64,
        data: Box<dyn Read + Send>,
        step: &str,
    ) -> Result<(), Breach> {
        let snapshot = Snapshot { meta: meta(index), data };
        self.parties[0].transport.send_snapshot(GROUP, to, TERM, snapshot);
        match self.sent(to, index).await {
            Some(false) => Ok(()),
            found => {
                let found = found.map_or("nothing is said", |_| "it is said to have arrived");
                Err(Breach::new("snapshot", step, "the sender learns that it failed", found))
            }
        }
    }

    /// What the sender is told about the snapshot at `index`.
    async fn sent(&self, to: NodeId, index: u64) -> Option<bool> {
        let inbox = &self.parties[0].inboxes[0];
        let told = async {
            loop {
                if let Event::Sent(node, about, ok) = inbox.next().await
                    && (node, about) == (to, meta(index))
                {
                    return ok;
                }
            }
        };
        within(self.network.patience(), told).await
    }

    /// Sends a snapshot from the first to the second node until it arrives.
    async fn snapshot(&mut self, index: u64, length: usize) -> Result<(), Breach> {
        let (bytes, to) = (pattern(length), self.parties[1].node());
        let step = format!("a snapshot of {length} bytes is sent to {to}");
        let (began, patience) = (Instant::now(), self.network.patience());
        while began.elapsed() < patience {
            let data = Box::new(Cursor::new(bytes.clone()));
            let snapshot = Snapshot { meta: meta(index), data };
            self.parties[0].transport.send_snapshot(GROUP, to, TERM, snapshot);
            match self.sent(to, index).await {
                None => break,
                Some(false) => continue,
                Some(true) => {}
            }
            let inbox = Arc::clone(&self.parties[1].inboxes[0]);
            let arrived = async {
                loop {
                    if let Event::Snapshot(from, sender, term, snapshot) = inbox.next().await {
                        return (from, sender, term, snapshot);
                    }
                }
            };
            let arrived = within(patience, arrived).await;
            let Some((from, sender, term, Snapshot { meta: about, mut data })) = arrived else {
                let found = "it did not, and its sender was told so";
                return Err(Breach::new("snapshot", step, "it arrives", found));
            };
            let mut read = Vec::new();
            let whole = data.read_to_end(&mut read).is_ok() && read == bytes;
            let sender_is = self.parties[0].identity;
            let known = (from, sender.incarnation) == (sender_is.node, sender_is.incarnation);
            if !whole || !known || (term, &about) != (TERM, &meta(index)) {
                let found = format!("{} bytes from {from}, of {}", read.len(), about.last);
                let expected = "the same, from its sender, with what it covers";
                return Err(Breach::new("snapshot", step, expected, found));
            }
            self.report.snapshots += 1;
            return Ok(());
        }
        let found = format!("it did not within {patience:?}");
        Err(Breach::new("arrives", step, "it arrives in the end", found))
    }
}
