//! The bytes of an outgoing snapshot: read once, in order, and kept until they are acknowledged.
//!
//! Owns the thread that reads. Never holds more than the window and what the thread has read
//! ahead, and never asks the reader to go back.

use super::{CHUNK_BYTES, CHUNKS_QUEUED, WINDOW_BYTES};
use crate::error::ProtocolError;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, Read};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3Default;

pub(super) struct Source {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    /// Read, and not yet known to have arrived.
    window: VecDeque<Bytes>,
    /// Offset of the first byte of `window`.
    base: u64,
    /// Chunks of `window` that were taken since the last rewind.
    taken: usize,
    /// Offset behind them.
    taken_to: u64,
    /// Offset behind all of `window`.
    read_to: u64,
    /// Of everything up to `read_to`.
    checksum: Xxh3Default,
    /// The reader has no more.
    ended: bool,
}

impl Source {
    /// Starts to read, on a thread that may block. Must be called on a tokio runtime.
    pub(super) fn new(data: Box<dyn Read + Send>) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED);
        tokio::task::spawn_blocking(move || read_chunks(data, &sender));
        Self {
            chunks,
            window: VecDeque::new(),
            base: 0,
            taken: 0,
            taken_to: 0,
            read_to: 0,
            checksum: Xxh3Default::new(),
            ended: false,
        }
    }

    /// Whether the next chunk must wait for an acknowledgement.
    pub(super) fn is_full(&self) -> bool {
        self.taken == self.window.len() && self.read_to - self.base >= WINDOW_BYTES
    }

    /// The next chunk; `None` at the end. Can be cancelled.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        if self.taken == self.window.len() {
            if self.ended {
                return Ok(None);
            }
            let read = self.chunks.recv().await;
            let read = read.unwrap_or_else(|| Err(io::Error::other("the reader failed")));
            let chunk = read.map_err(|error| ProtocolError::Lost(error.to_string()))?;
            if chunk.is_empty() {
                self.ended = true;
                return Ok(None);
            }
            self.checksum.update(&chunk);
            self.read_to += chunk.len() as u64;
            self.window.push_back(chunk);
        }
        let chunk = self.window[self.taken].clone();
        self.taken += 1;
        self.taken_to += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// Lets go of everything before `offset`. False if that was not taken yet.
    pub(super) fn acknowledge(&mut self, offset: u64) -> bool {
        while let Some(first) = self.window.front_mut()
            && self.base < offset
            && self.taken > 0
        {
            let length = first.len() as u64;
            if self.base + length > offset {
                first.advance((offset - self.base) as usize);
                self.base = offset;
            } else {
                self.window.pop_front();
                self.base += length;
                self.taken -= 1;
            }
        }
        self.base >= offset
    }

    /// Goes on from `offset`, where the other end is. False if that is no longer, or not yet, here.
    pub(super) fn rewind(&mut self, offset: u64) -> bool {
        if offset < self.base || offset > self.read_to {
            return false;
        }
        self.taken = self.window.len();
        self.acknowledge(offset);
        self.taken = 0;
        self.taken_to = offset;
        true
    }

    /// Bytes taken from the beginning on: the offset behind the last chunk.
    pub(super) const fn taken_to(&self) -> u64 {
        self.taken_to
    }

    /// Whether nothing was read yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.read_to == 0
    }

    /// Length and checksum of the whole, once [`next`](Self::next) has said that it has ended.
    pub(super) fn whole(&self) -> (u64, u128) {
        (self.read_to, self.checksum.digest128())
    }
}

/// Reads until the end or until nobody listens any more. The last thing sent is an empty chunk: a
/// reader that panics must not look like one that is done.
fn read_chunks(mut data: Box<dyn Read + Send>, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut buffer = BytesMut::zeroed(CHUNK_BYTES);
        let mut filled = 0;
        while filled < CHUNK_BYTES {
            match data.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = chunks.blocking_send(Err(error));
                    return;
                }
            }
        }
        buffer.truncate(filled);
        if chunks.blocking_send(Ok(buffer.freeze())).is_err() || filled == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
