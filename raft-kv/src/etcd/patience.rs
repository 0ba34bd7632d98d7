//! A connection that has to say something: until it is clear what a client speaks, it has only so
//! long. What bounds it from then on is the matter of what it speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a client of HTTP/2 begins with; whatever differs from it is HTTP/1.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream of which it is not clear yet what is spoken on it.
pub(super) struct Patient<S> {
    stream: S,
    /// How much of the preface has come; `None` once it is clear.
    waits: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, waits: Some((0, Box::pin(sleep(patience)))) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((seen, end)) = &mut this.waits else {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        };
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            let came = &buffer.filled()[before..];
            let expected = &PREFACE[*seen..];
            *seen += came.len();
            if came.is_empty() || *seen >= PREFACE.len() || !expected.starts_with(came) {
                this.waits = None;
            }
            return Poll::Ready(read);
        }
        ready!(end.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Reads on while a client that said `first` says nothing more.
    async fn after(first: &[u8]) -> Option<io::ErrorKind> {
        let (mut client, server) = duplex(64);
        client.write_all(first).await.unwrap();
        let mut patient = Patient::new(server, PATIENCE);
        let mut buffer = [0; 64];
        let all = async {
            loop {
                if let Err(error) = patient.read(&mut buffer).await {
                    return error.kind();
                }
            }
        };
        tokio::time::timeout(PATIENCE * 2, all).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_it_speaks_has_only_so_long() {
        for first in [&b""[..], b"PRI * HTTP/2.0\r\n", &PREFACE[..23]] {
            assert_eq!(after(first).await, Some(io::ErrorKind::TimedOut), "{first:?}");
        }
        // These are the matter of what is spoken.
        for first in [PREFACE, b"G", b"POST /v3/kv/range HTTP/1.1\r\n"] {
            assert_eq!(after(first).await, None, "{first:?}");
        }
    }
}
