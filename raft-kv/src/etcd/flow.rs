//! Requests and answers that come one after the other. Between whoever makes answers and the
//! connection is a bounded queue: whoever makes them waits while the client does not take them, or
//! its connection holds too much already, and is told when it has gone.

use super::error;
use super::gateway::Requests;
use super::memory::{Held, Memory};
use prost::Message;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Status, Streaming};

/// Answers that wait to be sent; each may be large.
const AHEAD: usize = 2;

/// The end that answers are put into.
pub(super) struct Outlet<T> {
    answers: mpsc::Sender<(Result<T, Status>, Held)>,
    memory: Memory,
}

/// The end that the connection takes them from.
pub(super) struct Outflow<T>(mpsc::Receiver<(Result<T, Status>, Held)>);

/// Both ends, on a connection with this memory.
pub(super) fn channel<T>(memory: &Memory) -> (Outlet<T>, Outflow<T>) {
    let (answers, receiver) = mpsc::channel(AHEAD);
    (Outlet { answers, memory: memory.clone() }, Outflow(receiver))
}

impl<T: Message> Outlet<T> {
    /// Waits until there is room for an answer. False if nobody listens any more.
    pub(super) async fn send(&self, answer: T) -> bool {
        self.send_held(answer, self.memory.hold()).await
    }

    /// The same of an answer for which `held` is held already.
    pub(super) async fn send_held(&self, answer: T, mut held: Held) -> bool {
        if !held.fit(answer.encoded_len()) {
            tokio::select! {
                () = self.closed() => return false,
                () = held.wait_to_fit(answer.encoded_len()) => {}
            }
        }
        self.answers.send((Ok(answer), held)).await.is_ok()
    }

    /// The last thing said.
    pub(super) async fn fail(&self, error: Status) {
        // Should nobody listen any more, nobody needs to know.
        let _ = self.answers.send((Err(error), self.memory.hold())).await;
    }

    /// Waits until nobody listens any more.
    pub(super) async fn closed(&self) {
        self.answers.closed().await;
    }
}

impl<T> Stream for Outflow<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What is taken is held by the answer's body, once it is encoded.
        self.0.poll_recv(context).map(|next| next.map(|(answer, _)| answer))
    }
}

/// Requests as they come.
pub(super) enum Inflow<T> {
    /// Over gRPC.
    Streaming(Box<Streaming<T>>),
    /// In JSON.
    Json(Box<Requests<T>>),
}

impl<T: DeserializeOwned> Inflow<T> {
    /// The next request; `None` if no more will come. If the future is dropped nothing is lost.
    ///
    /// # Errors
    /// What the client is told: it has sent something that makes no sense, or is gone.
    pub(super) async fn next(&mut self) -> Result<Option<T>, Status> {
        match self {
            Self::Streaming(requests) => requests.message().await.map_err(error::of_decoding),
            Self::Json(requests) => requests.next().await,
        }
    }
}

impl<T> From<Streaming<T>> for Inflow<T> {
    fn from(requests: Streaming<T>) -> Self {
        Self::Streaming(Box::new(requests))
    }
}

impl<T> From<Requests<T>> for Inflow<T> {
    fn from(requests: Requests<T>) -> Self {
        Self::Json(Box::new(requests))
    }
}
