//! What kinds of requests there are on one port.

use super::error::Known;
use super::gateway;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, Version};
use tonic::Status;
use tonic::body::Body;

/// The methods whose requests are streams.
const STREAMS: [&str; 2] = ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"];

/// The paths of those methods in JSON, behind what such a path begins with.
const STREAMS_IN_JSON: [&str; 2] = ["watch", "lease/keepalive"];

/// What a request is, and consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// No gRPC: bytes of which nobody says how many there will be.
    Http,
    /// Any number of messages in JSON.
    Lines,
    /// A call with one message, which takes as much as it announces.
    Call,
    /// One with any number of them.
    Stream,
}

impl Kind {
    pub(super) fn of(request: &Parts) -> Self {
        let content = request.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_grpc = content.is_some_and(|content| content.starts_with(b"application/grpc"));
        // Over HTTP/1.1 it may be a page in a browser that was led here, which may say what it
        // likes of its content.
        match is_grpc && request.version == Version::HTTP_2 {
            false => match gateway::method(request.uri.path()) {
                Some(method) if STREAMS_IN_JSON.contains(&method) => Self::Lines,
                _ => Self::Http,
            },
            true if STREAMS.contains(&request.uri.path()) => Self::Stream,
            true => Self::Call,
        }
    }

    /// What is answered instead.
    pub(super) fn refuse(self, error: Known) -> Response<Body> {
        match self {
            Self::Http | Self::Lines => gateway::failed(&error.into()),
            Self::Call | Self::Stream => Status::from(error).into_http(),
        }
    }
}
