//! The way from this door to its own node: within the process, to nobody else.

use crate::service::{Asker, KvService};
use bytes::Bytes;
use raft_core::transport::{BoxFuture, CallError, Channel, Connector, Duplex};
use std::sync::Arc;

/// Bytes of frames that may wait on a stream, in each direction.
const STREAM_BYTES_MAX: usize = 64 * 1024;

/// A channel to the service of this process, for one of the door's clients or the door itself.
#[derive(Clone)]
pub(super) struct Inside {
    service: Arc<KvService>,
    asker: Asker,
}

impl Inside {
    pub(super) const fn new(service: Arc<KvService>, asker: Asker) -> Self {
        Self { service, asker }
    }
}

impl Channel for Inside {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let reply = self.service.call_inside(self.asker.clone(), request);
        Box::pin(async move { Ok(reply.await) })
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (near, far) = Duplex::pair(STREAM_BYTES_MAX);
        self.service.serve_inside(self.asker.clone(), &first, far);
        Box::pin(std::future::ready(Ok(near)))
    }
}

impl Connector for Inside {
    /// Whatever the address is: a client learns those of the other nodes, which are not asked from
    /// here. The own node forwards what is theirs to do.
    fn connect(&self, _address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let channel: Arc<dyn Channel> = Arc::new(self.clone());
        Box::pin(std::future::ready(Ok(channel)))
    }
}
