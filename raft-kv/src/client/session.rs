//! One session: which of its requests are unanswered, and the names of new ones.
//!
//! Every write holds a [`Ticket`] until it has its answer or is given up; whichever way it ends,
//! dropping the ticket counts it as answered, so that the cluster may forget its reply.

use crate::api::{RequestId, SESSION_WINDOW_MAX, SessionId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

const WORDS: usize = SESSION_WINDOW_MAX as usize / 64;

/// An open session of the cluster.
pub(super) struct Session {
    id: SessionId,
    window: Mutex<Window>,
    /// Told when the window moves on while somebody waits for that.
    room: Notify,
}

/// The requests from the lowest unanswered one on, at most [`SESSION_WINDOW_MAX`].
struct Window {
    /// Lowest unanswered, or `next`.
    lowest: u64,
    /// The next to be given out.
    next: u64,
    /// Whether a request was answered, by its number modulo the window's size. Those outside the
    /// window are 0.
    answered: Box<[u64; WORDS]>,
    /// Whether somebody waits for room.
    wanted: bool,
}

impl Session {
    pub(super) fn new(id: SessionId) -> Self {
        let answered = Box::new([0; WORDS]);
        let window = Mutex::new(Window { lowest: 1, next: 1, answered, wanted: false });
        Self { id, window, room: Notify::new() }
    }

    pub(super) const fn id(&self) -> SessionId {
        self.id
    }

    /// A name for a new request. Waits while the window is full.
    pub(super) async fn ticket(self: Arc<Self>) -> Ticket {
        if let Some(ticket) = self.try_ticket() {
            return ticket;
        }
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // From here on no news is lost; what came before is seen by the second look.
            room.as_mut().enable();
            if let Some(ticket) = self.try_ticket() {
                return ticket;
            }
            room.await;
        }
    }

    fn try_ticket(self: &Arc<Self>) -> Option<Ticket> {
        let request = self.window().open(self.id)?;
        Some(Ticket { session: Arc::clone(self), request })
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // The window is consistent between any two statements that can panic.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn open(&mut self, session: SessionId) -> Option<RequestId> {
        if self.next - self.lowest >= SESSION_WINDOW_MAX {
            self.wanted = true;
            return None;
        }
        let request = RequestId { session, seq: self.next, unanswered_from: self.lowest };
        self.next += 1;
        Some(request)
    }

    /// Returns whether somebody waits for the room this made.
    fn close(&mut self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        self.answered[word] |= bit;
        let before = self.lowest;
        while self.lowest < self.next {
            let (word, bit) = place(self.lowest);
            if self.answered[word] & bit == 0 {
                break;
            }
            self.answered[word] &= !bit;
            self.lowest += 1;
        }
        self.lowest > before && std::mem::take(&mut self.wanted)
    }
}

const fn place(seq: u64) -> (usize, u64) {
    let slot = seq % SESSION_WINDOW_MAX;
    ((slot / 64) as usize, 1 << (slot % 64))
}

/// A request in flight.
pub(super) struct Ticket {
    session: Arc<Session>,
    request: RequestId,
}

impl Ticket {
    pub(super) const fn request(&self) -> RequestId {
        self.request
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let wanted = self.session.window().close(self.request.seq);
        if wanted {
            self.session.room.notify_waiters();
        }
    }
}
