//! Raft's messages, and who may send them.

use super::Network;
use super::parties::{
    CLUSTER, Event, GROUP, GROUPS, NO_GROUP, Scene, envelope, heartbeat, pattern,
};
use super::wait::{pause, within};
use crate::raft::{AppendEntries, AppendOutcome, Message, ReadRequestId};
use crate::testing::breach::Breach;
use crate::transport::{Peers as _, Transport as _};
use crate::types::{
    ClusterId, Entry, Incarnation, Index, LogId, NodeId, Payload, Run, SnapshotMeta,
};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Messages to a peer that is gone, all of the same entry.
const UNSENT: usize = 16 * 1024;
/// Bytes of that entry.
const UNSENT_BYTES: usize = 64 * 1024;
/// Of all these, so many bytes may wait.
const UNSENT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// For how long a foreign node tries.
const TRIES: Duration = Duration::from_millis(500);

/// An append of one command.
fn append(command: Bytes) -> Message {
    let entry = Entry { id: LogId::new(5, 1), payload: Payload::Command(command) };
    Message::AppendEntries(AppendEntries {
        prev_log: LogId::new(4, 1),
        entries: Run::new(vec![entry]),
        leader_commit: Index(3),
        read_seq: 2,
    })
}

fn one_of_each() -> Vec<Message> {
    let request = ReadRequestId { nonce: 3, seq: 4 };
    let conflict = AppendOutcome::Conflict { refused: Index(3), hint: LogId::new(2, 1) };
    let matched = AppendOutcome::Matched(Index(9));
    let answer = |outcome, stalled_ticks| Message::AppendEntriesResponse {
        outcome,
        read_seq: 5,
        stalled_ticks,
    };
    vec![
        Message::RequestVote { last_log: LogId::new(9, 3), pre_vote: true, transfer: false },
        Message::RequestVoteResponse { granted: true, pre_vote: true },
        heartbeat(),
        append(Bytes::new()),
        append(pattern(3000)),
        answer(conflict, 0),
        answer(matched, 7),
        Message::InstallSnapshot { meta: SnapshotMeta::default().into() },
        Message::TimeoutNow,
        Message::Commit { entry: LogId::new(7, 2) },
        Message::ReadIndex { request },
        Message::ReadIndexResponse { request, index: Index(8) },
        Message::Hello { members: vec![NodeId(1), NodeId(2)], seen: Some(Incarnation(4)) },
    ]
}

impl<N: Network> Scene<'_, N> {
    /// Every kind between all nodes, in every group; many at once; and to nobody.
    pub(super) async fn messages(&mut self) -> Result<(), Breach> {
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                for group in 0..GROUPS.len() {
                    for message in one_of_each() {
                        self.deliver((from, to), group, &message, "arrives").await?;
                    }
                }
            }
        }
        self.deliver((0, 1), 0, &append(pattern(2 << 20)), "arrives").await?;
        for round in 0..20 {
            for step in 0..50 {
                let size = (round * step) % 700;
                self.send(0, 1, GROUP, append(pattern(size)));
                self.send(0, 1, GROUP, heartbeat());
                self.send(0, 2, GROUPS[1], heartbeat());
            }
            self.deliver((0, 1), 0, &heartbeat(), "arrives").await?;
        }
        // Nobody has opened this group, and nobody may get it.
        self.send(0, 1, NO_GROUP, heartbeat());
        self.deliver((0, 1), 0, &Message::TimeoutNow, "arrives").await?;
        self.judge_all()
    }

    /// Sends more than there can be room for to a peer that is gone.
    pub(super) fn unsent(&self, from: usize, to: NodeId) -> Result<(), Breach> {
        struct Counted(Bytes, Arc<AtomicUsize>);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Counted {
            fn drop(&mut self) {
                self.1.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let (bytes, kept) = (pattern(UNSENT_BYTES), Arc::new(AtomicUsize::new(0)));
        let from = &self.parties[from];
        for _ in 0..UNSENT {
            kept.fetch_add(1, Ordering::Relaxed);
            let message = append(Bytes::from_owner(Counted(bytes.clone(), Arc::clone(&kept))));
            from.transport.send(GROUP, envelope(from.identity, to, 1, message));
        }
        let kept = kept.load(Ordering::Relaxed) * UNSENT_BYTES;
        if kept > UNSENT_BYTES_MAX {
            let total = UNSENT * UNSENT_BYTES;
            let step = format!("{total} bytes of messages are sent to {to}, which is gone");
            let expected = format!("at most {UNSENT_BYTES_MAX} bytes wait");
            return Err(Breach::new("bounded", step, expected, format!("{kept} bytes wait")));
        }
        Ok(())
    }

    /// A node of another cluster.
    pub(super) async fn identity(&mut self) -> Result<(), Breach> {
        if !self.network.checks_identity() {
            return Ok(());
        }
        let foreign = self.start(ClusterId(CLUSTER.0 + 1), 4);
        let first = (self.parties[0].node(), self.parties[0].address.clone());
        foreign.transport.set_peers(GROUP, vec![first]);
        self.introduce(&[(foreign.node(), foreign.address.clone())]);
        let (theirs, ours) = (foreign.identity, self.parties[0].identity);
        let (began, mut found) = (Instant::now(), None);
        while began.elapsed() < TRIES && found.is_none() {
            // Nobody knows of these messages: wherever one arrives, it is too much.
            foreign.transport.send(GROUP, envelope(theirs, ours.node, 1, heartbeat()));
            let own = &self.parties[0].transport;
            own.send(GROUP, envelope(ours, theirs.node, 1, heartbeat()));
            let call = foreign.transport.call(GROUP, ours.node, Bytes::from(vec![0; 9]));
            if within(TRIES / 10, call).await.is_some_and(|reply| reply.is_ok()) {
                found = Some("a reply to its request");
            }
            pause(TRIES / 50).await;
            while let Some(event) = self.parties[0].inboxes[0].try_next() {
                if matches!(event, Event::Message(envelope) if envelope.from == theirs.node) {
                    found = Some("its message arrived");
                }
            }
            if foreign.inboxes[0].try_next().is_some() {
                found = Some("it was sent a message");
            }
        }
        self.network.stop(theirs.node, foreign.transport).await;
        self.introduce(&[]);
        let step = "a node of another cluster sends messages and requests, and is sent some";
        let breach = |found| Err(Breach::new("identity", step, "nothing gets through", found));
        found.map_or(Ok(()), breach)
    }
}
