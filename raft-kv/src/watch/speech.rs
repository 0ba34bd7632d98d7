//! What a stream says: frame by frame, first what waits in its outbox, then what those of its
//! watches have missed that are behind. Of all that only the next frame is ever encoded.

use super::Stream;
use super::catch_up::CatchUp;
use super::outbox::{Frame, Item, Saying};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// How far what a stream has to say was said.
#[derive(Default)]
pub(crate) struct Speech {
    pub(super) saying: Option<Saying>,
    /// A page that was caught up with, without the part that was said.
    pub(super) caught_up: VecDeque<Item>,
    catch_up: CatchUp,
}

impl Stream {
    /// Waits until there is something to say; the next frame of it.
    pub(crate) async fn next(&self, speech: &mut Speech) -> Bytes {
        loop {
            if let Some(frame) = self.waiting(speech) {
                return frame;
            }
            if self.look_back(speech) {
                tokio::task::yield_now().await;
            } else {
                self.outbox.woken().await;
            }
        }
    }

    /// The next frame of what waits to be said.
    pub(super) fn waiting(&self, speech: &mut Speech) -> Option<Bytes> {
        let mut frame = Frame::default();
        while !frame.is_full() {
            if speech.saying.is_none() {
                // What was caught up with goes before what has come since.
                let item = speech.caught_up.pop_front().or_else(|| self.outbox.take());
                speech.saying = item.map(Saying::new);
            }
            let Some(saying) = &mut speech.saying else { break };
            if !saying.write(&mut frame) {
                break;
            }
            speech.saying = None;
        }
        self.hub.told.fetch_add(frame.events, Ordering::Relaxed);
        (!frame.is_empty()).then(|| frame.freeze())
    }

    /// Looks at some of what the watches that are behind have missed. False if there are none.
    pub(super) fn look_back(&self, speech: &mut Speech) -> bool {
        let needed = speech.catch_up.is_needed(self);
        if needed {
            speech.caught_up = speech.catch_up.step(self);
        }
        needed
    }
}
