//! Service Watch: a stream of the client's, with many watches, over one of the node's own, where
//! order and completeness are decided. Here are the names that clients give their watches, and what
//! is refused before there is a watch.
//!
//! Two directions run side by side: a client that does not take what it is told is not listened to
//! any more, but what it asked before is still done.

mod names;
mod telling;

use super::convert;
use super::core::Core;
use super::error::{DUPLICATE_WATCH, EMPTY_WATCH};
use super::flow::{Inflow, Outflow, Outlet, channel};
use super::proto::etcdserverpb as pb;
use crate::api::{Keys, Revision, StreamRequest, Watch as Watched, WatchRequest};
use crate::codec;
use bytes::Bytes;
use names::Names;
use pb::watch_request::RequestUnion;
use pb::watch_server::Watch;
use raft_core::transport::{Duplex, FrameSink};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch::Sender as Unanswered;
use tonic::{Request, Response, Status, Streaming};

/// What answers about no watch, or about all of them, name.
const NO_WATCH: i64 = -1;

/// See the module.
pub(super) struct WatchDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Watch for WatchDoor {
    type WatchStream = Outflow<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let requests = request.into_inner().into();
        Ok(Response::new(watch(Arc::clone(&self.0), requests).await?))
    }
}

/// Serves a stream of watches.
pub(super) async fn watch(
    core: Arc<Core>,
    requests: Inflow<pb::WatchRequest>,
) -> Result<Outflow<pb::WatchResponse>, Status> {
    // Whoever requires a leader is told by the door that there is none.
    let stream = core.open_stream(&StreamRequest::Watch { require_leader: false }).await?;
    let (outlet, outflow) = channel(&core.memory);
    let (names, unanswered) = (Mutex::default(), Unanswered::new(0));
    let conversation = Conversation { core, outlet, names, unanswered };
    Arc::clone(&conversation.core).spawn(conversation.run(requests, stream));
    Ok(outflow)
}

/// One stream.
struct Conversation {
    core: Arc<Core>,
    outlet: Outlet<pb::WatchResponse>,
    names: Mutex<Names>,
    /// How many watches the client has asked for of which it was not told yet whether they began.
    unanswered: Unanswered<usize>,
}

impl Conversation {
    async fn run(self, requests: Inflow<pb::WatchRequest>, stream: Duplex) {
        let Duplex { mut sink, mut source } = stream;
        let why = tokio::select! {
            why = self.listen(requests, &mut *sink) => why,
            why = self.tell(&mut *source) => why,
            // Nobody is there: the watches end with the stream.
            () = self.outlet.closed() => return,
        };
        self.outlet.fail(why).await;
    }

    /// Does what the client asks for. A client that asks for nothing more still listens.
    async fn listen(
        &self,
        mut requests: Inflow<pb::WatchRequest>,
        sink: &mut dyn FrameSink,
    ) -> Status {
        loop {
            let request = match requests.next().await {
                Ok(Some(request)) => request,
                Ok(None) => std::future::pending().await,
                Err(error) => {
                    // What came before it is answered all the same.
                    let _ = self.unanswered.subscribe().wait_for(|count| *count == 0).await;
                    return error;
                }
            };
            let asked = match request.request_union {
                Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
                Some(RequestUnion::CancelRequest(request)) => {
                    self.names().cancel(request.watch_id).map(WatchRequest::Cancel)
                }
                Some(RequestUnion::ProgressRequest(_)) => Some(WatchRequest::Progress),
                // Something newer; it is no reason to end the watches.
                None => None,
            };
            let Some(asked) = asked else { continue };
            if sink.send(codec::encode_sequence([&asked])).await.is_err() {
                // Why is said by the other direction.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Begins a watch; nothing is to be done if it is refused.
    async fn create(&self, request: pb::WatchCreateRequest) -> Option<WatchRequest> {
        let watch = watch_of(&request);
        let named = match is_empty(&watch.keys) {
            true => Err(EMPTY_WATCH),
            false => self.names().create(request.watch_id, request.fragment).ok_or(DUPLICATE_WATCH),
        };
        match named {
            Ok(own) => {
                self.unanswered.send_modify(|count| *count += 1);
                Some(WatchRequest::Create(own, watch))
            }
            Err(reason) => {
                self.refuse(reason.into()).await;
                None
            }
        }
    }

    /// Says that a watch has not begun.
    async fn refuse(&self, cancel_reason: String) {
        let refusal = pb::WatchResponse {
            header: Some(self.core.header_now()),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason,
            ..Default::default()
        };
        // Should nobody listen any more, the stream is about to end.
        let _ = self.outlet.send(refusal).await;
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Every statement leaves them consistent.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be watched. Here no key is the smallest there can be.
fn watch_of(request: &pb::WatchCreateRequest) -> Watched {
    let start = match request.key.is_empty() {
        true => Bytes::from_static(&[0]),
        false => request.key.clone(),
    };
    let keys = match &request.range_end[..] {
        [] => Keys::One(start),
        [0] => Keys::Range { start, end: None },
        _ => Keys::Range { start, end: Some(request.range_end.clone()) },
    };
    let from = match request.start_revision {
        0 => None,
        revision => Some(Revision(convert::positive(revision).unwrap_or(1))),
    };
    let filtered =
        |filter: pb::watch_create_request::FilterType| request.filters.contains(&i32::from(filter));
    Watched {
        keys,
        from,
        prev_kv: request.prev_kv,
        no_puts: filtered(pb::watch_create_request::FilterType::Noput),
        no_deletes: filtered(pb::watch_create_request::FilterType::Nodelete),
        progress: request.progress_notify,
        fragments: request.fragment,
    }
}

fn is_empty(keys: &Keys) -> bool {
    matches!(keys, Keys::Range { start, end: Some(end) } if end <= start)
}
