//! JSON in and out: whole messages, streams of them, and errors with the HTTP status that belongs
//! to each code.

use crate::etcd::flow::Outflow;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Status};

/// The first message in `body`; without any, one that says nothing. As with etcd, what follows it
/// is not looked at.
///
/// # Errors
/// If it is something else.
pub(in crate::etcd) fn one<Q: DeserializeOwned + Default>(body: &[u8]) -> Result<Q, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Q::default());
    }
    let mut text = serde_json::Deserializer::from_slice(body);
    let message = Option::<Q>::deserialize(&mut text).map_err(|error| malformed(&error))?;
    Ok(message.unwrap_or_default())
}

pub(super) fn malformed(error: &serde_json::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A message.
pub(super) fn said(answer: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(answer) {
        Ok(text) => json_response(StatusCode::OK, text),
        Err(error) => failed(&Status::internal(error.to_string())),
    }
}

/// An error.
pub(in crate::etcd) fn failed(error: &Status) -> Response<Body> {
    refused(http_status(error.code()), error)
}

/// What is answered where nothing in JSON is.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", text)
}

/// An error with an HTTP status of its own.
pub(super) fn refused(status: StatusCode, error: &Status) -> Response<Body> {
    let (message, code) = (error.message(), error.code() as i32);
    let body = json!({ "error": message, "message": message, "code": code });
    json_response(status, body.to_string().into_bytes())
}

pub(super) fn json_response(status: StatusCode, text: Vec<u8>) -> Response<Body> {
    response(status, "application/json", text)
}

/// A response that is there already.
pub(super) fn response(
    status: StatusCode,
    content: &'static str,
    text: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

/// Messages as they come, a line each.
pub(super) fn stream<T: Serialize + Send + 'static>(answers: Outflow<T>) -> Response<Body> {
    let mut response = Response::new(Body::new(StreamBody::new(Lines { answers, ended: false })));
    let content = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}

/// The lines of a stream; an error is the last.
struct Lines<T> {
    answers: Outflow<T>,
    ended: bool,
}

impl<T: Serialize> Stream for Lines<T> {
    type Item = Result<Frame<Bytes>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = match Pin::new(&mut self.answers).poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(answer)) => answer,
        };
        let error = match answer.map(|answer| line(&answer)) {
            Ok(Ok(line)) => return Poll::Ready(Some(Ok(Frame::data(line)))),
            Ok(Err(error)) => Status::internal(error.to_string()),
            Err(error) => error,
        };
        self.ended = true;
        let mut line = json!({ "error": error_value(&error) }).to_string();
        line.push('\n');
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }
}

fn line(answer: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        result: &'a T,
    }
    let mut line = serde_json::to_vec(&Line { result: answer })?;
    line.push(b'\n');
    Ok(line.into())
}

fn error_value(error: &Status) -> Value {
    let status = http_status(error.code());
    json!({
        "grpc_code": error.code() as i32,
        "http_code": status.as_u16(),
        "message": error.message(),
        "http_status": status.canonical_reason().unwrap_or_default(),
    })
}

const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
