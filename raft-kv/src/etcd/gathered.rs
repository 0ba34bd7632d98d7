//! A stream whose small writes are sent together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that wait to be sent together: those of two of the longest frames.
const GATHERED_MAX: usize = 32 * 1024;
/// Bytes for which memory is kept while nothing waits.
const KEPT: usize = 4 * 1024;

/// A stream below HTTP/2. To one that takes several slices at once, HTTP/2 gives every message of
/// 256 bytes and more by itself, which costs a system call for each; so this one says that it takes
/// one slice at a time, and gathers them until they are flushed.
#[derive(Debug)]
pub struct Gathered<S> {
    stream: S,
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Gathers what is written to `stream`.
    pub const fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new(), sent: 0 }
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Sends what waits and, behind it, `more`; how much of that went.
    fn poll_send(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while self.waiting() > 0 {
            let slices = [IoSlice::new(&self.bytes[self.sent..]), IoSlice::new(more)];
            let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &slices))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let waiting = self.waiting();
            self.sent += sent.min(waiting);
            if sent > waiting {
                self.forget();
                return Poll::Ready(Ok(sent - waiting));
            }
        }
        self.forget();
        match more {
            [] => Poll::Ready(Ok(0)),
            more => Pin::new(&mut self.stream).poll_write(context, more),
        }
    }

    /// Nothing waits any more.
    fn forget(&mut self) {
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() + bytes.len() > GATHERED_MAX {
            return self.poll_send(context, bytes);
        }
        self.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context, &[]))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context, &[]))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Sends them at once: whoever has several slices has gathered them.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context, &[]))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// What reaches the system, call by call; of each call some bytes at most.
    struct Calls {
        bytes: Vec<Vec<u8>>,
        most: usize,
    }

    impl Calls {
        const fn of(most: usize) -> Self {
            Self { bytes: Vec::new(), most }
        }
    }

    impl AsyncWrite for Calls {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut bytes: Vec<u8> =
                slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            bytes.truncate(self.most);
            let length = bytes.len();
            self.bytes.push(bytes);
            Poll::Ready(Ok(length))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn what_is_written_goes_in_one_call_once_it_is_flushed() {
        let mut stream = Gathered::new(Calls::of(usize::MAX));
        assert!(!stream.is_write_vectored());
        stream.write_all(b"header ").await.unwrap();
        stream.write_all(&[b'x'; 300]).await.unwrap();
        assert!(stream.stream.bytes.is_empty());
        stream.flush().await.unwrap();
        let expected = [&b"header "[..], &[b'x'; 300]].concat();
        assert_eq!(stream.stream.bytes, [expected]);
    }

    #[tokio::test]
    async fn what_is_large_goes_with_what_waits_and_leaves_no_memory() {
        let mut stream = Gathered::new(Calls::of(usize::MAX));
        stream.write_all(&[b'y'; 20_000]).await.unwrap();
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        assert_eq!(stream.stream.bytes, [[vec![b'y'; 20_000], vec![b'x'; 100_000]].concat()]);
        assert!(stream.bytes.capacity() <= KEPT);
    }

    #[tokio::test]
    async fn nothing_is_lost_or_doubled_however_little_the_system_takes() {
        for most in [1, 7, 1_000, 20_000, 33_000] {
            let (mut stream, mut expected) = (Gathered::new(Calls::of(most)), Vec::new());
            for (number, length) in [3, 17_000, 16_000, 40_000, 1, 0, 32_768].iter().enumerate() {
                let bytes = vec![number as u8; *length];
                match number % 3 {
                    2 => {
                        let mut rest = &bytes[..];
                        while !rest.is_empty() {
                            let slices = [IoSlice::new(rest)];
                            rest = &rest[stream.write_vectored(&slices).await.unwrap()..];
                        }
                    }
                    _ => stream.write_all(&bytes).await.unwrap(),
                }
                expected.extend(bytes);
            }
            stream.shutdown().await.unwrap();
            assert!(stream.stream.bytes.concat() == expected, "{most} bytes in each call");
        }
    }

    #[tokio::test]
    async fn a_stream_that_takes_nothing_is_broken() {
        let mut stream = Gathered::new(Calls::of(0));
        stream.write_all(b"bytes").await.unwrap();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
