//! Streams of frames between two ends: the traits, and a stream within a process.
//!
//! A stream is two independent directions. Each carries frames in order, makes the sender wait
//! while the receiver does not keep up, and ends either cleanly, by [`FrameSink::finish`], or
//! broken: whoever receives is told which. Nothing here knows what a frame means.

use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A boxed future that borrows.
pub type BorrowedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One end of a stream: what is sent into it comes out of the other end, and the other way round.
/// The halves are independent, and may be used by two tasks.
pub struct Duplex {
    /// To the other end.
    pub sink: Box<dyn FrameSink>,
    /// From the other end.
    pub source: Box<dyn FrameSource>,
}

/// The sending half of a stream. If it is dropped without [`finish`](Self::finish), the other end
/// is told that the stream is broken, and may not get what was sent last.
pub trait FrameSink: Send + 'static {
    /// Sends a frame; an empty one is one too. Waits while the other end does not keep up. If the
    /// future is dropped the frame may be sent or not, never in part.
    ///
    /// # Errors
    /// [`StreamError::TooLarge`]: not sent, and the stream goes on. [`StreamError::Broken`]: no
    /// frame will get through any more, and those sent last may not have.
    fn send(&mut self, frame: Bytes) -> BorrowedFuture<'_, Result<(), StreamError>>;

    /// Ends this direction cleanly: the other end gets everything that was sent, then learns that
    /// there is no more. The other direction goes on. Does not wait until it is there.
    ///
    /// # Errors
    /// [`StreamError::Broken`], as [`send`](Self::send).
    fn finish(self: Box<Self>) -> BorrowedFuture<'static, Result<(), StreamError>>;
}

/// The receiving half of a stream. If it is dropped, the other end can send no more.
pub trait FrameSource: Send + 'static {
    /// Waits for the next frame; `None` once the other end has finished. If the future is dropped
    /// nothing is lost.
    ///
    /// # Errors
    /// [`StreamError::Broken`]: the stream ended without that.
    fn receive(&mut self) -> BorrowedFuture<'_, Result<Option<Bytes>, StreamError>>;
}

/// What went wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The connection broke, or the other end has given the stream up; the text says which.
    #[error("{0}")]
    Broken(String),
    /// A frame is too large to be sent.
    #[error("a frame of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl Duplex {
    /// A stream within this process: both ends of it. Each direction holds up to `bytes_max` bytes
    /// that were not received, a frame counting [`FRAME_OVERHEAD`] more than its length; an empty
    /// direction takes one frame of any size.
    pub fn pair(bytes_max: usize) -> (Self, Self) {
        Self::breakable_pair(bytes_max).0
    }

    /// The same, and what breaks both directions of it from outside.
    pub(super) fn breakable_pair(bytes_max: usize) -> ((Self, Self), Break) {
        let (there, back) = (Pipe::new(bytes_max), Pipe::new(bytes_max));
        let end = |to: &Arc<Pipe>, from: &Arc<Pipe>| Self {
            sink: Box::new(PipeSink { pipe: Arc::clone(to), finished: false }),
            source: Box::new(PipeSource(Arc::clone(from))),
        };
        ((end(&there, &back), end(&back, &there)), Break([there, back]))
    }
}

/// What a frame counts beside its bytes in a stream within a process.
pub const FRAME_OVERHEAD: usize = 64;

/// Breaks a stream within a process, as a lost connection would.
pub(super) struct Break([Arc<Pipe>; 2]);

impl Break {
    /// Breaks it; both ends are told `why`.
    pub(super) fn now(&self, why: &str) {
        for pipe in &self.0 {
            pipe.close(&End::Broken(why.into()));
        }
    }

    /// Whether nobody uses the stream any more.
    pub(super) fn is_unused(&self) -> bool {
        self.0.iter().all(|pipe| Arc::strong_count(pipe) == 1)
    }
}

/// One direction.
struct Pipe {
    state: Mutex<State>,
    bytes_max: usize,
}

struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    /// Who waits for a frame.
    receiver: Option<Waker>,
    /// Who waits for room.
    sender: Option<Waker>,
}

/// Whether more frames come.
#[derive(Clone)]
enum End {
    Open,
    Finished,
    Broken(String),
}

impl Pipe {
    fn new(bytes_max: usize) -> Arc<Self> {
        let (frames, bytes, end) = (VecDeque::new(), 0, End::Open);
        let state = State { frames, bytes, end, receiver: None, sender: None };
        Arc::new(Self { state: Mutex::new(state), bytes_max })
    }

    fn poll_send(
        &self,
        frame: &mut Option<Bytes>,
        context: &Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        if let End::Broken(why) = &state.end {
            return Poll::Ready(Err(StreamError::Broken(why.clone())));
        }
        let Some(size) = frame.as_ref().map(|frame| frame.len() + FRAME_OVERHEAD) else {
            return Poll::Ready(Ok(()));
        };
        if state.bytes > 0 && state.bytes + size > self.bytes_max {
            state.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.bytes += size;
        state.frames.extend(frame.take());
        let waiting = state.receiver.take();
        drop(state);
        wake(waiting);
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&self, context: &Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let mut state = self.lock();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len() + FRAME_OVERHEAD;
            let waiting = state.sender.take();
            drop(state);
            wake(waiting);
            return Poll::Ready(Ok(Some(frame)));
        }
        match &state.end {
            End::Open => {
                state.receiver = Some(context.waker().clone());
                Poll::Pending
            }
            End::Finished => Poll::Ready(Ok(None)),
            End::Broken(why) => Poll::Ready(Err(StreamError::Broken(why.clone()))),
        }
    }

    /// No more frames; if it is broken, those that wait are lost.
    fn close(&self, end: &End) {
        let mut state = self.lock();
        // What broke it first is why.
        if matches!(state.end, End::Broken(_)) {
            return;
        }
        if matches!(end, End::Broken(_)) {
            state.frames.clear();
            state.bytes = 0;
        }
        state.end = end.clone();
        let waiting = [state.receiver.take(), state.sender.take()];
        drop(state);
        waiting.into_iter().for_each(wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waiting: Option<Waker>) {
    if let Some(waker) = waiting {
        waker.wake();
    }
}

struct PipeSink {
    pipe: Arc<Pipe>,
    finished: bool,
}

impl FrameSink for PipeSink {
    fn send(&mut self, frame: Bytes) -> BorrowedFuture<'_, Result<(), StreamError>> {
        let mut frame = Some(frame);
        Box::pin(poll_fn(move |context| self.pipe.poll_send(&mut frame, context)))
    }

    fn finish(mut self: Box<Self>) -> BorrowedFuture<'static, Result<(), StreamError>> {
        let end = self.pipe.lock().end.clone();
        if let End::Broken(why) = end {
            return Box::pin(std::future::ready(Err(StreamError::Broken(why))));
        }
        self.pipe.close(&End::Finished);
        self.finished = true;
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for PipeSink {
    fn drop(&mut self) {
        if !self.finished {
            self.pipe.close(&End::Broken("given up by the other end".into()));
        }
    }
}

struct PipeSource(Arc<Pipe>);

impl FrameSource for PipeSource {
    fn receive(&mut self) -> BorrowedFuture<'_, Result<Option<Bytes>, StreamError>> {
        Box::pin(poll_fn(|context| self.0.poll_receive(context)))
    }
}

impl Drop for PipeSource {
    fn drop(&mut self) {
        self.0.close(&End::Broken("given up by the other end".into()));
    }
}
