//! Requests in JSON that come one after the other, each answered when it has come.

use super::BODY_BYTES_MAX;
use super::reply::malformed;
use crate::etcd::error::TOO_LARGE;
use crate::etcd::objects::{Objects, Seen};
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::marker::PhantomData;
use tonic::Status;
use tonic::body::Body;

/// See the module.
pub(in crate::etcd) struct Requests<T> {
    body: Body,
    /// What has come that is not read yet.
    came: BytesMut,
    /// How much of that was looked at for the end of a message.
    seen: usize,
    objects: Objects,
    first: Option<T>,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Requests<T> {
    /// Waits for the first request: what is none is answered with a status of its own, as with
    /// etcd.
    ///
    /// # Errors
    /// What came instead.
    pub(in crate::etcd) async fn begin(body: Body) -> Result<Self, Status> {
        let (came, objects) = (BytesMut::new(), Objects::default());
        let mut requests = Self { body, came, seen: 0, objects, first: None, kind: PhantomData };
        requests.first = requests.read().await.map_err(|error| match error.code() {
            tonic::Code::InvalidArgument if error.message() != TOO_LARGE.1 => {
                Status::unknown(error.message())
            }
            _ => error,
        })?;
        Ok(requests)
    }

    /// The next request; `None` if no more will come. If the future is dropped nothing is lost.
    ///
    /// # Errors
    /// What the client is told: it has sent something that makes no sense, or is gone.
    pub(in crate::etcd) async fn next(&mut self) -> Result<Option<T>, Status> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Option<T>, Status> {
        loop {
            match self.objects.read(&self.came[self.seen..]) {
                Seen::End(length) => {
                    let message = self.came.split_to(self.seen + length);
                    self.seen = 0;
                    if message.len() > BODY_BYTES_MAX {
                        return Err(TOO_LARGE.into());
                    }
                    let read = serde_json::from_slice(&message);
                    return read.map(Some).map_err(|error| malformed(&error));
                }
                Seen::Strange(at) => {
                    self.came.advance(self.seen + at);
                    self.seen = 0;
                    return Err(not_json(&self.came));
                }
                Seen::More => self.seen = self.came.len(),
            }
            if self.objects.unfinished > BODY_BYTES_MAX {
                return Err(TOO_LARGE.into());
            }
            if self.objects.unfinished == 0 {
                // Nothing but spaces.
                self.came.clear();
                self.seen = 0;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.came.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(error),
                None if self.came.is_empty() => return Ok(None),
                None => return Err(not_json(&self.came)),
            }
        }
    }
}

/// What is wrong with a text that begins no message, or ends none.
fn not_json(text: &[u8]) -> Status {
    match serde_json::from_slice::<IgnoredAny>(text) {
        Err(error) => malformed(&error),
        Ok(_) => Status::invalid_argument("a message is expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::etcdserverpb::LeaseKeepAliveRequest;
    use bytes::Bytes;
    use http_body_util::Full;

    /// What all of `text` is read as.
    async fn read(text: &str) -> (Vec<i64>, Option<String>) {
        let body = Body::new(Full::new(Bytes::from(text.to_owned())));
        let mut ids = Vec::new();
        let mut requests = match Requests::<LeaseKeepAliveRequest>::begin(body).await {
            Ok(requests) => requests,
            Err(error) => return (ids, Some(format!("{:?}", error.code()))),
        };
        loop {
            match requests.next().await {
                Ok(Some(request)) => ids.push(request.id),
                Ok(None) => return (ids, None),
                Err(error) => return (ids, Some(format!("{:?}", error.code()))),
            }
        }
    }

    #[tokio::test]
    async fn every_message_is_read() {
        assert_eq!(read("").await, (vec![], None));
        assert_eq!(read(" {\"ID\":1}{\"ID\":\"2\"}\n{} ").await, (vec![1, 2, 0], None));
        let many = "{\"ID\":7}\n".repeat(50_000);
        assert_eq!(read(&many).await, (vec![7; 50_000], None));
        let wrong = |code: &str| Some(code.to_owned());
        assert_eq!(read("x").await, (vec![], wrong("Unknown")));
        assert_eq!(read("{\"ID\":1} x").await, (vec![1], wrong("InvalidArgument")));
        assert_eq!(read("{\"ID\":1} {\"ID\"").await, (vec![1], wrong("InvalidArgument")));
        assert_eq!(read("{\"ID\":\"x\"}").await, (vec![], wrong("Unknown")));
        let long = format!("{{\"ID\":\"{}\"}}", "1".repeat(BODY_BYTES_MAX));
        assert_eq!(read(&long).await, (vec![], wrong("InvalidArgument")));
    }
}
