//! Calls of one message and one answer, in fewer steps than the framework takes for them, which
//! treats them as streams: a body within a body, a buffer for either direction, and a future of
//! four kilobytes for each. What goes wrong is told in its words.

use super::bodies::{DECODED_BYTES_MAX, PREFIX};
use super::error::TOO_LARGE;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;

/// Bytes of what is copied rather than kept in the connection's buffer, which may be much larger.
const SHORT: usize = 1024;

/// The one message of a request. Of its headers nothing is handed on: whoever needs some has looked
/// at them before.
///
/// # Errors
/// What the client is told.
pub(super) async fn receive<Q: Message + Default>(
    request: Request<Body>,
) -> Result<tonic::Request<Q>, Status> {
    check_encoding(request.headers())?;
    let mut body = request.into_body();
    let mut bytes = Bytes::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { break };
        bytes = match bytes.is_empty() && data.len() > SHORT {
            true => data,
            false => joined(bytes, &data)?,
        };
        if whole(&bytes)?.is_some_and(|length| length < bytes.len()) {
            return Err(Status::internal("more than the one message of a request"));
        }
    }
    if bytes.is_empty() {
        return Err(Status::internal("Missing request message."));
    }
    if whole(&bytes)? != Some(bytes.len()) {
        return Err(Status::internal("Unexpected EOF decoding stream."));
    }
    let message = Q::decode(bytes.slice(PREFIX..));
    let message = message.map_err(|error| Status::internal(error.to_string()))?;
    Ok(tonic::Request::new(message))
}

/// `bytes` with `more` behind them, in as much memory as the message needs that they begin.
fn joined(bytes: Bytes, more: &[u8]) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::from(bytes);
    bytes.extend_from_slice(more);
    if let Some(length) = announced(&bytes)? {
        bytes.reserve(length.saturating_sub(bytes.len()));
    }
    Ok(bytes.freeze())
}

/// How many bytes the message has with its prefix, if all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Status> {
    Ok(announced(bytes)?.filter(|length| bytes.len() >= *length))
}

/// The same as soon as its prefix is there.
fn announced(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some(&[compressed, ref length @ ..]) = bytes.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    match compressed {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was \
                 specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid \
                 flags are 0 and 1), while sending request"
            )));
        }
    }
    match u32::from_be_bytes(*length) as usize {
        length if length > DECODED_BYTES_MAX => Err(TOO_LARGE.into()),
        length => Ok(Some(PREFIX + length)),
    }
}

/// Nothing is taken that is compressed.
fn check_encoding(headers: &HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get("grpc-encoding").filter(|encoding| *encoding != "identity")
    else {
        return Ok(());
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let text = format!("Content is compressed with `{encoding}` which isn't supported");
    let mut status = Status::unimplemented(text);
    let taken = tonic::metadata::MetadataValue::from_static("identity");
    status.metadata_mut().insert("grpc-accept-encoding", taken);
    Err(status)
}

/// The answer to a request, or what is said instead.
pub(super) fn reply<A: Message>(answer: Result<tonic::Response<A>, Status>) -> Response<Body> {
    let (metadata, answer, extensions) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(status) => return status.into_http(),
    };
    let length = answer.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    // No answer to a call is ever so long that this does not hold: see `range::BYTES_MAX`.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    answer.encode_raw(&mut bytes);
    let mut response =
        Response::new(Body::new(Reply { message: Some(bytes.freeze()), ended: false }));
    *response.headers_mut() = metadata.into_headers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    *response.extensions_mut() = extensions;
    response
}

/// The body of an answer: its message, and that it went well.
struct Reply {
    message: Option<Bytes>,
    ended: bool,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const STATUS: HeaderName = HeaderName::from_static("grpc-status");
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::etcdserverpb::{PutRequest, PutResponse};
    use http_body_util::BodyExt;
    use std::collections::VecDeque;

    /// A body that comes in parts.
    struct Parts(VecDeque<Bytes>);

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }
    }

    async fn received(parts: impl IntoIterator<Item = Bytes>) -> Result<PutRequest, Status> {
        let body = Body::new(Parts(parts.into_iter().collect()));
        receive(Request::new(body)).await.map(tonic::Request::into_inner)
    }

    fn put() -> PutRequest {
        PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() }
    }

    async fn framed(message: &PutRequest) -> Bytes {
        let response = reply(Ok(tonic::Response::new(message.clone())));
        response.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_message_may_come_in_parts() {
        let whole = framed(&put()).await;
        for size in [1, 4, 5, 6, whole.len() - 1, whole.len()] {
            let parts = whole.chunks(size).map(Bytes::copy_from_slice);
            assert_eq!(received(parts).await.unwrap(), put(), "in parts of {size}");
        }
        let long = PutRequest { value: vec![7; 100_000].into(), ..put() };
        let whole = framed(&long).await;
        for size in [3, 900, 16_384, whole.len()] {
            let parts = whole.chunks(size).map(Bytes::copy_from_slice);
            assert!(received(parts).await.unwrap() == long, "in parts of {size}");
        }
        let empty = framed(&PutRequest::default()).await;
        assert_eq!(received([empty]).await.unwrap(), PutRequest::default());
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let whole = framed(&put()).await;
        let said =
            async |parts: Vec<Bytes>| received(parts).await.unwrap_err().message().to_owned();
        assert_eq!(said(vec![]).await, "Missing request message.");
        let half = whole.slice(..whole.len() - 1);
        assert_eq!(said(vec![half]).await, "Unexpected EOF decoding stream.");
        for more in [&whole[..], &[0]] {
            let together = [&whole[..], more].concat();
            assert!(said(vec![together.into()]).await.starts_with("more than the one"));
            let apart = vec![whole.clone(), Bytes::copy_from_slice(more)];
            assert!(said(apart).await.starts_with("more than the one"));
        }
        let flagged = |flag: u8| vec![[&[flag], &whole[1..]].concat().into()];
        assert!(said(flagged(1)).await.contains("no grpc-encoding was specified"));
        assert!(said(flagged(2)).await.contains("invalid compression flag: 2"));
        assert_eq!(said(vec![vec![0, 255, 255, 255, 255].into()]).await, TOO_LARGE.1);
        assert!(said(vec![vec![0, 0, 0, 0, 1, 255].into()]).await.contains("failed to decode"));
    }

    #[tokio::test]
    async fn nothing_compressed_is_taken() {
        let of = async |encoding| {
            let body = Body::new(Parts([framed(&put()).await].into()));
            let request = Request::builder().header("grpc-encoding", encoding).body(body).unwrap();
            receive::<PutRequest>(request).await
        };
        assert_eq!(of("identity").await.unwrap().into_inner(), put());
        let refused = of("gzip").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
        assert_eq!(refused.metadata().get("grpc-accept-encoding").unwrap(), "identity");
    }

    #[tokio::test]
    async fn an_answer_ends_with_how_it_went() {
        let response = reply(Ok(tonic::Response::new(PutResponse::default())));
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), &[0; PREFIX][..]);
        let refused = reply::<PutResponse>(Err(Status::not_found("what")));
        assert_eq!(refused.headers()["grpc-status"], "5");
        assert!(refused.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}
