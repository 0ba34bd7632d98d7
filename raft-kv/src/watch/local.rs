//! Watches of a store without a node: no network, no runtime and no task; whoever has the store
//! drives them. What is said and when is the same as over the network.

use super::{Hub, Speech, Stream, WatchOptions};
use crate::api::{KvError, WatchRequest};
use crate::store::StoreHandle;
use bytes::Bytes;
use std::sync::Arc;

/// The watches of a store in this process, for simulations and for those who run a store without
/// [`KvService`](crate::service::KvService).
pub struct LocalWatches {
    hub: Arc<Hub>,
}

impl LocalWatches {
    /// Watches of the store that `store` is the handle of. What is written from now on is kept, be
    /// it compacted or not, until [`LocalWatches::look`] has looked at it.
    pub fn new(store: &StoreHandle, options: WatchOptions) -> Self {
        Self { hub: Hub::new(store.history(), options) }
    }

    /// Looks at some of what the store has written since, and puts it where it is to be said.
    /// Whether there may be more of it.
    pub fn look(&self) -> bool {
        self.hub.look()
    }

    /// A stream of watches; they end when it is dropped.
    pub fn open(&self) -> LocalStream {
        LocalStream { stream: self.hub.open(), speech: Speech::default() }
    }
}

/// A stream of watches in this process.
pub struct LocalStream {
    stream: Stream,
    speech: Speech,
}

impl LocalStream {
    /// Asks for something; the answer comes with what [`LocalStream::say`] returns. Answers are put
    /// where they are to be said even if there is no room: ask no more than is listened to.
    ///
    /// # Errors
    /// [`KvError::Malformed`] if a watch of that name has begun, [`KvError::Overloaded`] if too
    /// many questions are open: nothing was done.
    pub fn ask(&self, request: &WatchRequest) -> Result<(), KvError> {
        self.stream.ask(request)
    }

    /// The next frame, of [`WatchReply`](crate::api::WatchReply)s; see
    /// [`decode_sequence`](crate::codec::decode_sequence). `None` if there is nothing to say until
    /// [`LocalWatches::look`] finds something.
    pub fn say(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.stream.waiting(&mut self.speech);
            if frame.is_some() || !self.stream.look_back(&mut self.speech) {
                return frame;
            }
        }
    }

    /// It is time that watches say how far they have come, if they are to and nothing happened.
    pub fn tell_progress(&self) {
        self.stream.tell_progress();
    }
}
