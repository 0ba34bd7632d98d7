//! A bounded queue of Raft messages in front of one stream to one peer.
//!
//! Open only while the peer is connected. What does not fit is dropped: Raft sends again. It never
//! blocks who sends.

use crate::config::Limits;
use crate::error::ProtocolError;
use crate::frame;
use crate::hello::PROBE_SINCE;
use bytes::BytesMut;
use quinn::SendStream;
use raft_core::raft::{Envelope, Message};
use raft_core::types::{GroupId, Version};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes after which a buffer is written before more is encoded.
const WRITE_BYTES: usize = 1024 * 1024;

pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    /// Bytes of messages that were handed to a connection.
    sent: AtomicU64,
    messages_max: usize,
    bytes_max: usize,
    message_bytes_max: usize,
}

#[derive(Default)]
struct State {
    /// What the connected peer understands; `None` while it is not connected.
    spoken: Option<Version>,
    messages: VecDeque<(GroupId, Envelope)>,
    bytes: usize,
    /// Whether to find out if the peer still has the connection.
    probe: bool,
}

impl Queue {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            sent: AtomicU64::new(0),
            messages_max: limits.queue_messages_max,
            bytes_max: limits.queue_bytes_max,
            message_bytes_max: limits.message_bytes_max,
        }
    }

    /// Bytes of messages that were handed to connections so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Starts to take messages of versions up to `spoken`, or stops; what waits is dropped.
    pub(crate) fn set_open(&self, spoken: Option<Version>) {
        *self.lock() = State { spoken, ..State::default() };
    }

    /// Queues a message. False if it was dropped. An empty queue takes one of any size.
    pub(crate) fn push(&self, group: GroupId, envelope: Envelope) -> bool {
        let (size, since) = (size(&envelope), envelope.message.since());
        let mut state = self.lock();
        let Some(spoken) = state.spoken else { return false };
        if since > spoken {
            drop(state);
            tracing::debug!(to = %envelope.to, %since, %spoken, "message not understood there");
            return false;
        }
        let full = state.messages.len() >= self.messages_max
            || (state.bytes + size > self.bytes_max && !state.messages.is_empty());
        if full {
            return false;
        }
        state.bytes += size;
        state.messages.push_back((group, envelope));
        let first = state.messages.len() == 1;
        drop(state);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// Sends something, whatever there is to be said: if the peer knows nothing of the connection
    /// any more, its endpoint answers so.
    pub(crate) fn probe(&self) {
        let mut state = self.lock();
        state.probe = state.spoken.is_some_and(|spoken| spoken >= PROBE_SINCE);
        drop(state);
        self.wake.notify_one();
    }

    /// Writes what is queued, for ever: everything that waits goes out in one write.
    pub(crate) async fn write(&self, send: &mut SendStream) -> Result<(), ProtocolError> {
        loop {
            let (mut messages, bytes, probe) = self.take();
            if messages.is_empty() && !probe {
                self.wake.notified().await;
                continue;
            }
            if probe {
                let mut buffer = BytesMut::new();
                frame::put(&mut buffer, frame::PROBE, |_| {});
                send.write_chunk(buffer.freeze()).await?;
            }
            while !messages.is_empty() {
                // At once as large as it will be: what grows is copied, into pages not used yet.
                let mut buffer = BytesMut::with_capacity(bytes.min(WRITE_BYTES));
                self.encode(&mut messages, &mut buffer);
                send.write_chunk(buffer.freeze()).await?;
            }
        }
    }

    /// What waits, about how many bytes it is, and whether to probe.
    fn take(&self) -> (VecDeque<(GroupId, Envelope)>, usize, bool) {
        let State { messages, bytes, probe, .. } = &mut *self.lock();
        (std::mem::take(messages), std::mem::take(bytes), std::mem::take(probe))
    }

    fn encode(&self, messages: &mut VecDeque<(GroupId, Envelope)>, buffer: &mut BytesMut) {
        while buffer.len() < WRITE_BYTES
            && let Some((group, envelope)) = messages.pop_front()
        {
            let start = buffer.len();
            let body = frame::put(buffer, frame::MESSAGE, |out| {
                raft_core::codec::encode_envelope(group, &envelope, out);
            });
            if body > self.message_bytes_max {
                buffer.truncate(start);
                tracing::error!(
                    to = %envelope.to, bytes = body, most = self.message_bytes_max,
                    "message too large, dropped: the peer cannot catch up"
                );
            } else {
                self.sent.fetch_add(body as u64, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(envelope: &Envelope) -> usize {
    const OTHERS: usize = 128;
    match &envelope.message {
        Message::AppendEntries(append) => {
            OTHERS + append.entries.as_ref().map_or(0, raft_core::types::Run::size)
        }
        Message::InstallSnapshot { meta } => OTHERS + meta.membership.size(),
        _ => OTHERS,
    }
}
