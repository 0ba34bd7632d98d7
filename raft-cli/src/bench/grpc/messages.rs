//! Messages as gRPC frames them, and what it says instead of an answer.

use super::link::{UnderWay, lost};
use crate::failure::{Failure, Kind};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use http::header::HeaderName;
use prost::Message;
use std::marker::PhantomData;
use tonic::{Code, Status};

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The headers that say how it went.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A message with what precedes it.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    // No request comes near what has no such length; a server would refuse it.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Takes the first message off `bytes`, if all of it is there.
fn decode<A: Message + Default>(bytes: &mut BytesMut) -> Result<Option<A>, Failure> {
    let Some((&[compressed, ref length @ ..], rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    if compressed != 0 {
        return Err(senseless("a compressed message"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if rest.len() < length {
        return Ok(None);
    }
    bytes.advance(PREFIX);
    let message = bytes.split_to(length).freeze();
    A::decode(message).map(Some).map_err(|error| senseless(&error.to_string()))
}

/// The one message of an answer.
pub(super) async fn only<A: Message + Default>(answer: RecvStream) -> Result<A, Failure> {
    let mut answers = Incoming::new(answer);
    let message = answers.next().await?;
    // Nothing comes after it but how it went.
    match (message, answers.next::<A>().await?) {
        (Some(message), None) => Ok(message),
        _ => Err(senseless("not one message")),
    }
}

/// Answers as they come.
pub(in crate::bench) struct Answers<A> {
    incoming: Incoming,
    /// The stream ends with this.
    _stream: (SendStream<Bytes>, UnderWay),
    of: PhantomData<A>,
}

impl<A: Message + Default> Answers<A> {
    pub(super) fn new(answer: RecvStream, stream: (SendStream<Bytes>, UnderWay)) -> Self {
        Self { incoming: Incoming::new(answer), _stream: stream, of: PhantomData }
    }

    /// The next one; `None` if no more will come.
    pub(in crate::bench) async fn next(&mut self) -> Result<Option<A>, Failure> {
        self.incoming.next().await
    }
}

/// Messages of one stream.
struct Incoming {
    stream: RecvStream,
    /// What has come and is not decoded.
    bytes: BytesMut,
}

impl Incoming {
    fn new(stream: RecvStream) -> Self {
        Self { stream, bytes: BytesMut::new() }
    }

    async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        loop {
            if let Some(message) = decode(&mut self.bytes)? {
                return Ok(Some(message));
            }
            let Some(data) = self.stream.data().await else { break };
            let data = data.map_err(lost)?;
            // It fails only of a stream that has ended, and of that nothing more comes.
            let _ = self.stream.flow_control().release_capacity(data.len());
            match self.bytes.is_empty() {
                // All of most messages comes at once.
                true => self.bytes = data.into(),
                false => self.bytes.extend_from_slice(&data),
            }
        }
        let trailers = self.stream.trailers().await.map_err(lost)?;
        let ended = trailers.as_ref().is_some_and(|trailers| trailers.contains_key(STATUS));
        match trailers.as_ref().and_then(refusal) {
            Some(refused) => Err(refused),
            None if !ended || !self.bytes.is_empty() => Err(senseless("it ends in the middle")),
            None => Ok(None),
        }
    }
}

/// Why there is no answer, if these headers end one and say so.
pub(super) fn refusal(headers: &HeaderMap) -> Option<Failure> {
    headers.get(STATUS).filter(|status| *status != "0")?;
    // What else a server may have put there is not looked at.
    let told = |name| headers.get(&name).map(|value| (name, value.clone()));
    let told = HeaderMap::from_iter([STATUS, MESSAGE].into_iter().filter_map(told));
    let status = Status::from_header_map(&told)?;
    let kind = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => Kind::Unavailable,
        Code::Unknown | Code::Cancelled => Kind::Unknown,
        _ => Kind::Refused,
    };
    Some(Failure::new(kind, status.message()))
}

fn senseless(what: &str) -> Failure {
    Failure::new(Kind::Unknown, format!("the answer makes no sense: {what}"))
}
