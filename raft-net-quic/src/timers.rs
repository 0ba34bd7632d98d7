//! The timers of connections.
//!
//! A connection puts its timer off with almost every packet. A timer of tokio is moved each time,
//! which takes a lock and, where it is due before all others, a system call. So one that is put off
//! stays where it is, and is moved when it comes due too early: a few times a second.

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::time::{Sleep, sleep_until};

/// The tokio runtime, with timers that are moved as seldom as may be.
#[derive(Debug)]
pub(crate) struct RareTimers;

impl Runtime for RareTimers {
    fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer { due, sleep: Box::pin(sleep_until(due.into())) })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[derive(Debug)]
struct Timer {
    due: Instant,
    /// Ends then or before.
    sleep: Pin<Box<Sleep>>,
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, due: Instant) {
        self.due = due;
        if due < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(due.into());
        }
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Future::poll(self.sleep.as_mut(), context));
            if self.sleep.deadline().into_std() >= self.due {
                return Poll::Ready(());
            }
            let due = self.due;
            self.sleep.as_mut().reset(due.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    async fn waited(timer: &mut Pin<Box<dyn AsyncTimer>>, since: Instant) -> Duration {
        poll_fn(|context| timer.as_mut().poll(context)).await;
        RareTimers.now() - since
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_when_it_was_last_told_to() {
        const SECOND: Duration = Duration::from_secs(1);
        let start = RareTimers.now();
        let mut timer = RareTimers.new_timer(start + SECOND);
        timer.as_mut().reset(start + 5 * SECOND);
        timer.as_mut().reset(start + 3 * SECOND);
        assert_eq!(waited(&mut timer, start).await, 3 * SECOND);
        // It has ended; what it is told now counts from the beginning.
        timer.as_mut().reset(start + 9 * SECOND);
        timer.as_mut().reset(start + 4 * SECOND);
        assert_eq!(waited(&mut timer, start).await, 4 * SECOND);
        // A time that has passed already.
        timer.as_mut().reset(start);
        assert_eq!(waited(&mut timer, start).await, 4 * SECOND);
    }
}
