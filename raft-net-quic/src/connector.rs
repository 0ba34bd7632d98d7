//! Clients: one connection per node, one long-lived stream, requests multiplexed by id.

use crate::config::{ClientCredentials, ConnectorConfig};
use crate::endpoint::bind_socket;
use crate::error::{BindError, ProtocolError, close, describe};
use crate::frame::FrameReader;
use crate::hello::{Hello, NOBODY, Protocol, Purpose};
use crate::peer::{connect, no_answer, resolve};
use crate::request::Calls;
use crate::stream::Streams;
use crate::tls::{self, ANY_NODE};
use bytes::Bytes;
use quinn::{Connection, Endpoint, EndpointConfig, SendStream, TokioRuntime, VarInt};
use raft_core::transport::{BoxFuture, CallError, Channel, Connector, Duplex};
use raft_core::types::{GroupId, NodeId, Version};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::timeout;

/// Connects clients to nodes. A handle, cheap to clone.
///
/// Its tasks run on the runtime it was made in, those of a channel on the runtime that connected.
#[derive(Clone)]
pub struct QuicConnector {
    shared: Arc<Shared>,
}

struct Shared {
    client: quinn::ClientConfig,
    config: ConnectorConfig,
    ipv4: Endpoint,
    /// Made when the first IPv6 address is met: a host may have no IPv6.
    ipv6: Mutex<Option<Endpoint>>,
}

impl QuicConnector {
    /// Makes a connector. Must be called inside a tokio runtime with timers and I/O.
    ///
    /// # Errors
    /// If the credentials cannot be used, there is no runtime, or no socket can be had.
    pub fn new(
        credentials: ClientCredentials,
        mut config: ConnectorConfig,
    ) -> Result<Self, BindError> {
        tokio::runtime::Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        config.limits = config.limits.within_frames();
        let client = tls::client(&credentials, &config.limits)?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let ipv4 = endpoint(address).map_err(|source| BindError::Socket { address, source })?;
        let shared = Shared { client, config, ipv4, ipv6: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for QuicConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicConnector").finish_non_exhaustive()
    }
}

fn endpoint(address: SocketAddr) -> io::Result<Endpoint> {
    let socket = bind_socket(address)?;
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

impl Shared {
    fn endpoint_for(&self, address: SocketAddr) -> io::Result<Endpoint> {
        if address.is_ipv4() {
            return Ok(self.ipv4.clone());
        }
        let mut ipv6 = self.ipv6.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*ipv6 {
            return Ok(endpoint.clone());
        }
        let made = endpoint(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))?;
        *ipv6 = Some(made.clone());
        Ok(made)
    }

    async fn connect(&self, address: &str) -> Result<Arc<dyn Channel>, CallError> {
        let hello = Hello::new(Purpose::Client, NOBODY, NodeId(0), Version::OLDEST);
        let limit = self.config.connect_timeout;
        let mut reason = String::new();
        // Of all addresses of the name: another one may lead to the right node.
        let mut for_good = true;
        for address in resolve(address).await.map_err(CallError::NotSent)? {
            let endpoint = match self.endpoint_for(address) {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    (reason, for_good) = (format!("no socket: {error}"), false);
                    continue;
                }
            };
            let connected = connect(&endpoint, self.client.clone(), address, ANY_NODE, hello);
            match timeout(limit, connected).await {
                Err(_) => (reason, for_good) = (no_answer(limit), false),
                Ok(Err(error)) => {
                    reason = error.reason;
                    for_good &= error.for_good;
                }
                Ok(Ok((connection, send, reader, _))) => {
                    return Ok(self.channel(connection, send, reader));
                }
            }
        }
        Err(if for_good { CallError::Refused(reason) } else { CallError::NotSent(reason) })
    }

    fn channel(
        &self,
        connection: Connection,
        mut send: SendStream,
        mut reader: FrameReader,
    ) -> Arc<dyn Channel> {
        let calls = Calls::new(&self.config.limits);
        let known = tls::protocol(&connection) == Some(Protocol::Client);
        let streams = Streams::new(connection.clone(), known, &self.config.limits);
        let (group, calls_of) = (self.config.group, Arc::clone(&calls));
        let channel =
            QuicChannel { calls: calls_of, streams, connection: connection.clone(), group };
        tokio::spawn(async move {
            let error = tokio::select! {
                result = calls.write(&mut send) => result.err(),
                result = calls.read(&mut reader) => result.err(),
                error = Arc::clone(&calls).read_large(&connection) => Some(error),
                error = connection.closed() => Some(error.into()),
            };
            let error = error.unwrap_or(ProtocolError::Truncated);
            if !matches!(error, ProtocolError::Lost(_)) {
                let code = VarInt::from_u32(error.code());
                connection.close(code, error.to_string().as_bytes());
            }
            let reason = match connection.close_reason() {
                Some(closed) => describe(&closed),
                None => error.to_string(),
            };
            calls.close(&format!("connection lost: {reason}"));
        });
        Arc::new(channel)
    }
}

impl Connector for QuicConnector {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let (shared, address) = (Arc::clone(&self.shared), address.to_owned());
        Box::pin(async move { shared.connect(&address).await })
    }
}

/// One connection of a client. It is closed when the channel is dropped, and its streams break.
struct QuicChannel {
    calls: Arc<Calls>,
    streams: Streams,
    connection: Connection,
    group: GroupId,
}

impl Channel for QuicChannel {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        self.calls.call(self.group, request)
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        self.streams.open(self.group, first)
    }
}

impl Drop for QuicChannel {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(close::DONE), b"the client is done");
    }
}
