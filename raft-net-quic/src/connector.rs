//! Clients: one connection per node, one long-lived stream, requests multiplexed by id.

use crate::config::{ClientCredentials, ConnectorConfig};
use crate::endpoint::bind_socket;
use crate::error::{BindError, NoConnection, ProtocolError, close, describe};
use crate::frame::FrameReader;
use crate::hello::{Hello, NOBODY, Protocol, Purpose};
use crate::peer::{connect, no_answer, resolve};
use crate::request::Calls;
use crate::stream::Streams;
use crate::timers::RareTimers;
use crate::tls::{self, ANY_NODE};
use bytes::Bytes;
use quinn::{Connection, Endpoint, SendStream, VarInt};
use raft_core::transport::{BoxFuture, CallError, Channel, Connector, Duplex};
use raft_core::types::{GroupId, NodeId, Version};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one address of a name has before the next one is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

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
        let client = tls::client(&credentials, &config.limits, config.connect_timeout)?;
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
    Endpoint::new(tls::dialling_endpoint(), None, socket, Arc::new(RareTimers))
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

    /// Connects to the first of a name's addresses that answers. One after the other is tried, and
    /// none waits for those before it to be given up.
    async fn connect(self: Arc<Self>, address: &str) -> Result<Arc<dyn Channel>, CallError> {
        let mut left = resolve(address).await.map_err(CallError::NotSent)?.into_iter();
        let mut tried = JoinSet::new();
        // Of all addresses of the name: another one may lead to the right node.
        let (mut reason, mut for_good) = (String::new(), true);
        loop {
            if let Some(address) = left.next() {
                let shared = Arc::clone(&self);
                tried.spawn(async move { shared.connect_to(address).await });
            }
            let last = left.len() == 0;
            let ended = match last {
                true => Ok(tried.join_next().await),
                false => timeout(STAGGER, tried.join_next()).await,
            };
            match ended {
                Ok(Some(Ok(Ok(channel)))) => return Ok(channel),
                Ok(Some(Ok(Err(error)))) => {
                    (reason, for_good) = (error.reason, for_good && error.for_good);
                }
                Ok(Some(Err(error))) => (reason, for_good) = (error.to_string(), false),
                // None is left to wait for; or it is the next one's turn.
                Ok(None) if last => break,
                Ok(None) | Err(_) => {}
            }
        }
        Err(if for_good { CallError::Refused(reason) } else { CallError::NotSent(reason) })
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Arc<dyn Channel>, NoConnection> {
        let hello = Hello::new(Purpose::Client, NOBODY, NodeId(0), Version::OLDEST);
        let limit = self.config.connect_timeout;
        let endpoint = self.endpoint_for(address).map_err(|error| format!("no socket: {error}"))?;
        let connected = connect(&endpoint, self.client.clone(), address, ANY_NODE, hello);
        let (connection, send, reader, _) =
            timeout(limit, connected).await.map_err(|_| no_answer(limit))??;
        Ok(self.channel(connection, send, reader))
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
