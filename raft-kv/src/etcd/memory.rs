//! Memory that requests and answers take, from the first byte that comes to the last one that has
//! gone: whoever sends halves of requests, or does not read answers, is refused in time.
//!
//! There is one bound, and what is left of it is shared: a connection may hold as much as is free
//! beside it. Alone it may have half of all; of many that want all they can get each has the same,
//! and that much stays free for the next one. What a connection holds beyond that because others
//! came after it is not taken back, but it gets no more.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

struct All {
    most: usize,
    held: Mutex<usize>,
    /// Something was given back.
    freed: Notify,
}

/// What a connection may hold. A clone is of the same connection.
#[derive(Clone)]
pub(super) struct Memory {
    all: Arc<All>,
    own: Arc<Own>,
}

#[derive(Default)]
struct Own {
    /// Changes only while what all hold is locked.
    held: Mutex<usize>,
    /// Those of one connection that wait do so one after the other: what is given back wakes one of
    /// each connection, not everybody.
    turn: tokio::sync::Mutex<()>,
}

/// A number that is never left half changed.
fn lock(number: &Mutex<usize>) -> MutexGuard<'_, usize> {
    number.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// That of a first connection, where all may hold so many bytes.
    pub(super) fn of(most: usize) -> Self {
        let all = All { most, held: Mutex::new(0), freed: Notify::new() };
        Self { all: Arc::new(all), own: Arc::default() }
    }

    /// That of another connection.
    pub(super) fn of_connection(&self) -> Self {
        Self { all: Arc::clone(&self.all), own: Arc::default() }
    }

    /// Holds nothing yet.
    pub(super) fn hold(&self) -> Held {
        Held { memory: self.clone(), bytes: 0 }
    }

    fn is_fair(&self, own: usize, all: usize) -> bool {
        self.all.most.checked_sub(all).is_some_and(|free| own <= free)
    }

    /// Adds to what is held, if it fits or `anyway`; whether it did.
    fn add(&self, bytes: usize, anyway: bool) -> bool {
        let mut all = lock(&self.all.held);
        let mut own = lock(&self.own.held);
        let adds = anyway || self.is_fair(own.saturating_add(bytes), all.saturating_add(bytes));
        if adds {
            *all = all.saturating_add(bytes);
            *own = own.saturating_add(bytes);
        }
        adds
    }

    fn subtract(&self, bytes: usize) {
        let mut all = lock(&self.all.held);
        *all = all.saturating_sub(bytes);
        let mut own = lock(&self.own.held);
        *own = own.saturating_sub(bytes);
    }
}

/// Bytes that are held until this is dropped.
pub(super) struct Held {
    memory: Memory,
    bytes: usize,
}

impl Held {
    /// Holds more; false if there is no room, and then no more is held.
    #[must_use]
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes == 0 || self.memory.add(bytes, false);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Holds so much from now on; false if there is no room, and then nothing changes.
    #[must_use]
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            return self.take(bytes - self.bytes);
        }
        self.resize(bytes);
        true
    }

    /// The same, and waits until there is room.
    pub(super) async fn wait_to_fit(&mut self, bytes: usize) {
        let Memory { all, own } = self.memory.clone();
        let _turn = own.turn.lock().await;
        while !self.fit(bytes) {
            let mut freed = pin!(all.freed.notified());
            // What is given back from here on is not missed.
            freed.as_mut().enable();
            if self.fit(bytes) {
                return;
            }
            freed.await;
        }
    }

    /// Holds so much from now on, whether there is room or not: it is there already, and in the
    /// place of what was held.
    pub(super) fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.memory.add(bytes - self.bytes, true);
        } else {
            self.subtract(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    fn subtract(&self, bytes: usize) {
        if bytes > 0 {
            self.memory.subtract(bytes);
            self.memory.all.freed.notify_waiters();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_have_as_much_as_is_free_beside_it() {
        let first = Memory::of(120);
        let mut held = first.hold();
        assert!(held.take(60));
        assert!(!held.take(1));
        let mut second = first.of_connection().hold();
        assert!(!second.take(31));
        assert!(second.take(30), "half of what the first has left");
        assert!(!first.hold().take(1), "it has more than its part now");
        let mut third = first.of_connection().hold();
        assert!(!third.take(16) && third.take(15), "however many there are, something is left");
        drop(held);
        assert!(second.take(7));
    }

    #[test]
    fn what_is_given_back_may_be_held_again() {
        let memory = Memory::of(100);
        let mut held = memory.hold();
        assert!(held.take(40));
        held.resize(10);
        assert!(memory.hold().take(40) && !memory.hold().take(41));
        assert!(held.fit(50) && !held.fit(51));
        held.resize(70);
        assert!(!memory.of_connection().hold().take(31));
        drop(held);
        assert!(memory.hold().take(50));
        assert_eq!(*lock(&memory.all.held), 0);
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_there_is_room() {
        let memory = Memory::of(100);
        let mut held = memory.hold();
        assert!(held.take(50));
        let mut other = memory.hold();
        let waiting = async {
            other.wait_to_fit(50).await;
            other.bytes
        };
        let giving = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(waiting, giving);
        assert_eq!(taken, 50);
    }

    /// Also if another one of the same connection waits in front of it for more than there is.
    #[tokio::test]
    async fn those_of_one_connection_get_room_in_the_order_in_which_they_came() {
        let memory = Memory::of(100);
        let mut held = memory.hold();
        assert!(held.take(50));
        let order = Mutex::new(Vec::new());
        let wait = async |bytes| {
            let mut own = memory.hold();
            own.wait_to_fit(bytes).await;
            lock_order(&order).push(bytes);
        };
        let giving = async {
            for left in [30, 10, 0] {
                tokio::task::yield_now().await;
                held.resize(left);
            }
        };
        tokio::join!(wait(40), wait(5), wait(3), giving);
        assert_eq!(*lock_order(&order), [40, 5, 3]);
    }

    fn lock_order(order: &Mutex<Vec<usize>>) -> MutexGuard<'_, Vec<usize>> {
        order.lock().unwrap()
    }
}
