//! Raft over QUIC.
mod accept;
mod config;
mod connector;
mod endpoint;
mod error;
mod frame;
mod peer;
mod queue;
mod request;
mod shared;
mod snapshot;
mod tls;

pub use config::{ClientCredentials, ConnectorConfig, Credentials, Limits, QuicConfig};
pub use connector::QuicConnector;
pub use endpoint::QuicTransport;
pub use error::{BindError, CredentialsError};
pub use peer::Link;
pub use shared::Counters;
pub use tls::{ALPN_CLIENT, ALPN_PEER, ANY_NODE, server_name};
