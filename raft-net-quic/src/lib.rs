//! Raft over QUIC: a node's messages, snapshots and requests, and its clients', on one UDP port.
//!
//! [`QuicTransport`] implements `Transport` and `Peers` of `raft-core`, [`QuicConnector`] its
//! `Connector`. Nothing else of the workspace is known here: what a request means is the business
//! of the `Service` that answers it, what a message means that of the `Inbox`.
//!
//! # Why QUIC
//!
//! Votes and heartbeats must not wait behind entries, nor entries behind a snapshot, nor any of
//! them behind one lost packet of another; connections must be encrypted and both ends proven; and
//! a node should be one port. Streams, TLS 1.3 and connection ids give just that. The price is CPU
//! per byte, so everything is batched: a stream lives as long as its connection, all that waits for
//! it is encoded into one buffer and written in one go, and payloads are slices of the receive
//! buffer.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use raft_core::transport::{BoxFuture, Caller, Connector, Service};
//! use raft_core::types::GroupId;
//! use raft_net_quic::{
//!     ANY_NODE, ClientCredentials, ConnectorConfig, Credentials, QuicConfig, QuicConnector,
//!     QuicTransport, server_name,
//! };
//! use raft_core::types::NodeId;
//! use std::sync::Arc;
//!
//! struct Shout;
//!
//! impl Service for Shout {
//!     fn call(&self, _caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
//!         Box::pin(async move { request.to_ascii_uppercase().into() })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A certificate that is its own authority; a cluster has one that signs for all nodes.
//! let names = [server_name(NodeId(1)), ANY_NODE.to_owned()];
//! let made = rcgen::generate_simple_self_signed(names)?;
//! let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
//! let credentials = Credentials::from_pem(cert.as_bytes(), cert.as_bytes(), key.as_bytes())?;
//!
//! let directory = tempfile::tempdir()?;
//! let listen = "127.0.0.1:0".parse()?;
//! let node = QuicTransport::bind(QuicConfig::new(listen, credentials, directory.path().into()))?;
//! node.serve(GroupId(0), Arc::new(Shout));
//!
//! let trusted = ClientCredentials::from_pem(cert.as_bytes(), None)?;
//! let connector = QuicConnector::new(trusted, ConnectorConfig::default())?;
//! let channel = connector.connect(&node.local_addr().to_string()).await?;
//! assert_eq!(channel.call(Bytes::from_static(b"hello")).await?, "HELLO");
//! node.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Who may talk to whom
//!
//! TLS 1.3 only, no resumption, no 0-RTT. ALPN tells nodes ([`ALPN_PEER`], [`ALPN_PEER_V1`]) from
//! clients ([`ALPN_CLIENT`], [`ALPN_CLIENT_V1`]). Every node has a certificate of the cluster's
//! authority with two DNS names: [`server_name`] of its id and [`ANY_NODE`].
//!
//! - A node that dials node 3 demands the name of node 3; the node that accepts demands the name
//!   of the node that the hello claims to come from. A client's certificate makes no node.
//! - A client demands [`ANY_NODE`], as it knows addresses, not ids; whether it must present a
//!   certificate itself is configured.
//! - The hello carries versions, cluster, ids and incarnation. What does not match is refused with
//!   a text that says so, which the dialling side reports.
//! - **Lives.** Any incarnation of a node is let in, on either side, as long as its certificate and
//!   cluster match: which life counts is the group's to decide, who knows it through the log. Every
//!   message and snapshot is delivered with the incarnation and version that the hello of its own
//!   connection has told (`Sender`), so those of two lives are never mixed, even while both are
//!   connected: a wiped node beside its former connection, or two processes with one certificate.
//! - **Strangers.** A node that is not among the peers (yet) is let in like them, up to a number.
//!
//! # Versions
//!
//! Two nodes speak the older one of their versions, if both know it, and what it lacks is not sent:
//! a message that is newer than the peer is dropped, as if the network had lost it. Which version a
//! node speaks at most is configured ([`QuicConfig::version`]).
//!
//! The code of version 1 takes no hello but its own, to the byte. So ALPN, which the TLS handshake
//! settles before a hello is sent, and protects, tells which hello it will be: a node offers, and
//! takes, first [`ALPN_PEER`] (`raft-peer/2`), then [`ALPN_PEER_V1`] (`raft-peer/1`). Where both
//! know the former, both hellos tell the newest and the oldest version spoken, and no version to
//! come needs another ALPN; a later version may append to the hello, which earlier ones skip. A
//! node of version 1 knows the latter only, and sees nothing new: neither in the hello nor in what
//! follows. Clients have ALPN of their own, [`ALPN_CLIENT`] (`raft-client/2`) where both ends know
//! streams and [`ALPN_CLIENT_V1`] otherwise, and in both the hello of version 1.
//!
//! | version | adds |
//! |---|---|
//! | 1 | |
//! | 2 | versions in the hello; snapshots that are continued; messages that say so (`since`) |
//! | 3 | streams of services |
//!
//! # Connections and streams
//!
//! Each node dials its own connection to each peer and sends messages only there. On it:
//!
//! | stream | opened by | priority | carries |
//! |---|---|---|---|
//! | control, bidirectional | dialler, first | 2 | hello both ways, messages without entries |
//! | requests, bidirectional | dialler | 1 | forwarded requests, and back replies |
//! | bulk, unidirectional | dialler | 0 | appends |
//! | reply, unidirectional | acceptor | -1 | one reply above 256 KiB |
//! | a service's, bidirectional | dialler | -1 | frames, whatever they mean to the service |
//!
//! Priorities are strict, and no stream can fill the connection's send window alone. Snapshots go
//! over a connection of their own, one bidirectional stream each, and slow down where packets are
//! lost or take longer for them. A client's connection has one bidirectional stream for hello,
//! requests and replies, one for each large reply, and those of services.
//!
//! A node that nobody introduced (it joins, and the membership has not reached it yet) answers
//! a peer at the address the peer dialled from: nodes dial from the port they listen on. A node
//! that restarts answers packets of its earlier life with a stateless reset, so its peers need no
//! timeout to learn of it.
//!
//! # Wire format
//!
//! Every stream is a sequence of frames. Integers are little-endian.
//!
//! ```text
//! frame     length u32 (of what follows) | kind u8 | body
//!
//! kind  name      body
//!    1  HELLO     versions 2 x u16 | purpose u8 | cluster u64 | node u64 | to u64 |
//!                 incarnation u64
//!                 versions: `raft-peer/2` newest and oldest that is spoken; otherwise 1 and 1.
//!                 purpose: 0 messages, 1 snapshots, 2 client. First frame of a connection's first
//!                 stream; answered with the other end's. A client sends 0 for all ids; `to` is 0
//!                 in the answer.
//!    2  OPEN      purpose u8: 1 bulk, 2 requests. First frame of a peer's further streams.
//!    3  MESSAGE   an envelope with its group (raft_core::codec)
//!    4  REQUEST   id u64 | group u64 | request
//!    5  REPLY     id u64 | reply
//!    6  FAILURE   id u64 | may have run u8 | text. Instead of REPLY. Of a snapshot, id is 0: from
//!                 the receiver, 0 it is refused, 1 this stream is over and another may go on; from
//!                 the sender, it is given up.
//!    7  SNAPSHOT  group u64 | term u64 | meta (raft_core::codec). First frame of its stream where
//!                 version 1 is spoken.
//!    8  CHUNK     1 to 131 072 bytes of the snapshot
//!    9  END       length u64 | XXH3-128 of all bytes u128
//!   10  RECEIVED  empty: the snapshot arrived whole and was handed over
//!   11  OFFER     transfer u64 | group u64 | term u64 | meta. First frame of its stream from
//!                 version 2 on.
//!   12  PROGRESS  bytes u64: how much of the offered snapshot is there
//!   13  BUSY      text: it cannot be taken at present
//!   14  STREAM    group u64 | what it is for. First frame of a service's stream; answered with
//!                 ACCEPTED, or with FAILURE (id 0).
//!   15  ACCEPTED  empty: the service has the stream
//!   16  DATA      a frame of the stream, in either direction
//!   17  PROBE     empty, among messages: of no meaning. A node sends it to a peer that connects to
//!                 it anew, and is told by the peer's endpoint if the connection is gone there.
//! ```
//!
//! Connections are closed with an application code and a text: 0 done, 1 replaced by a newer
//! connection of the same node, 2 version, 3 cluster, 4 not the node that was meant, 5 certificate,
//! 6 not ready, 7 malformed or unexpected frames, 8 too many clients or connections of a node, 9 no
//! hello in time.
//!
//! A change to any of this is a new version.
//!
//! # Streams of services
//!
//! A stream's flow control is the service's back-pressure, its end a clean end; a reset means that
//! the sender has given it up. A node lets one connection have 3 of them at once, and looks at no
//! other before one has ended at both ends. Each may hold 2 MiB unread, for which the connection's
//! window has room: requests, replies and messages go on beside any number of stalled streams. So
//! with the default limits a node carries at most 12,288 streams of clients, whatever these do.
//!
//! # Snapshots
//!
//! One stream carries one snapshot, or the rest of one:
//!
//! ```text
//! sender                         receiver
//! OFFER transfer, term, meta ->
//!                             <- PROGRESS 0, or what is there of this very transfer
//! CHUNK ... (from there on)   ->
//!                             <- PROGRESS, after each MiB written
//! END length, checksum        ->
//!                             <- RECEIVED, once length and checksum are right
//! ```
//!
//! - **Continued**, not begun anew, when stream or connection break while both processes live. The
//!   sender draws the transfer's number and keeps up to 8 MiB until they are acknowledged, so the
//!   snapshot is read once, without going back; beyond that it waits. The receiver keeps the file
//!   and its running checksum. The sender dials again, with the pauses of all connections, and
//!   goes on where the receiver is. If that is nowhere the sender can go back to, as the receiver
//!   has restarted or has removed the part, the transfer is given up.
//! - **Never mixed.** A part is continued only by the same node, life, transfer, term and meta. One
//!   stream at a time writes to it: a newer one of the same node and group takes its place. The
//!   checksum is of the whole, over all streams.
//! - **Handed over once.** A sender that missed the last word asks again and is told `RECEIVED`.
//! - **Refused early** if its term is over: at either end, before and while it is sent, as far as
//!   the node's own messages have told its term.
//! - **Bounded**: see the limits below. Outgoing ones wait in order; incoming ones are put off with
//!   `BUSY`, and the sender tries again. A part that waits to be continued yields its room.
//! - **Reported once**: as handed over, or as given up, which is when it is refused, its reader
//!   fails, the peer is no member any more, or cannot be reached at first, or for too long.
//! - With a peer of version 1 there is one try: `SNAPSHOT`, chunks and `END`, answered by
//!   `RECEIVED` or `FAILURE`.
//!
//! Parts that are given up are removed; those of an earlier process are when the transport starts.
//!
//! # Limits
//!
//! Everything a remote end can make grow has a bound ([`Limits`]):
//!
//! | what | default | beyond it |
//! |---|---|---|
//! | message | 32 MiB | connection dropped |
//! | messages waiting per peer and stream | 4096, 16 MiB | dropped; Raft sends again |
//! | request | 16 MiB | not sent; from outside: connection dropped |
//! | reply | 256 MiB | the caller is told |
//! | calls waiting per connection | 65 536, 64 MiB unsent | not sent |
//! | requests running per connection | 4096, 64 MiB | the connection is not read |
//! | unread bytes per stream, per connection | 2 MiB, 8 MiB | the sender waits |
//! | streams per connection | 64 each way and sort | the sender waits |
//! | streams of services per connection | 3 | not sent; from outside: not looked at |
//! | frame of such a stream | 16 MiB | not sent; from outside: connection dropped |
//! | client connections | 4096 | refused |
//! | handshakes under way, those of peers aside | 512 | not answered: QUIC repeats by itself |
//! | handshakes begun at once, those of peers aside | 16 | wait for 2 s, once addresses are proved |
//! | hello, first frame of a stream | 5 s | connection dropped |
//! | the rest of a message, request or frame | 30 s | connection dropped |
//! | silence | 5 s, keep-alives each second | connection gone |
//! | tries to connect | every 50 ms to 2 s, with jitter | |
//! | connections of nodes that are no peers | 64 | refused |
//! | lives of one node connected for messages | 4 | refused |
//! | connections of one life for snapshots | 8 | refused |
//! | files of incoming snapshots: arriving, broken off, not read yet | 2, 64 GiB each | put off |
//! | snapshots going out | 2 | wait in order, one per peer and group |
//! | the rate of each | 1 GB/s, 100 MB/s where packets are lost or take long | the sender waits |
//! | unacknowledged bytes of a snapshot | 8 MiB | the sender waits |
//! | a snapshot without progress | 30 s | given up |
//! | a part that nobody continues | 60 s | removed |
//!
//! Lengths are checked before anything is allocated, and memory grows only with what has arrived.

mod accept;
mod config;
mod connector;
mod crowd;
mod endpoint;
mod error;
mod frame;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod peer;
mod probe;
mod queue;
mod request;
mod shared;
mod snapshot;
mod stream;
mod timers;
mod tls;

pub use config::{ClientCredentials, ConnectorConfig, Credentials, Limits, QuicConfig};
pub use connector::QuicConnector;
pub use endpoint::QuicTransport;
pub use error::{BindError, CredentialsError};
pub use peer::{Link, Traffic};
pub use shared::Counters;
pub use tls::{ALPN_CLIENT, ALPN_CLIENT_V1, ALPN_PEER, ALPN_PEER_V1, ANY_NODE, server_name};
