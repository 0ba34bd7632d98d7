//! A stream whose small writes are sent together.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// A stream below HTTP/2. To one that takes several slices at once, HTTP/2 gives every message of
/// 256 bytes and more by itself, which costs a system call for each; so this one takes one slice at
/// a time and gathers them until they are flushed.
#[derive(Debug)]
pub struct Gathered<S>(BufWriter<S>);

impl<S: AsyncWrite> Gathered<S> {
    /// Gathers what is written to `stream`.
    pub fn new(stream: S) -> Self {
        Self(BufWriter::new(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// What reaches the system, call by call.
    #[derive(Default)]
    struct Calls(Vec<Vec<u8>>);

    impl AsyncWrite for Calls {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn what_is_written_goes_in_one_call_once_it_is_flushed() {
        let mut stream = Gathered::new(Calls::default());
        assert!(!stream.is_write_vectored());
        stream.write_all(b"header ").await.unwrap();
        stream.write_all(&[b'x'; 300]).await.unwrap();
        assert!(stream.0.get_ref().0.is_empty());
        stream.flush().await.unwrap();
        let expected = [&b"header "[..], &[b'x'; 300]].concat();
        assert_eq!(stream.0.get_ref().0, [expected]);
    }

    #[tokio::test]
    async fn what_is_large_does_not_wait() {
        let mut stream = Gathered::new(Calls::default());
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        assert_eq!(stream.0.get_ref().0.concat().len(), 100_000);
    }
}
