//! A replicated key-value store on Raft: etcd's data model, exactly-once writes, linearizable
//! reads on every node.
//!
//! [`api`] is what all parts agree on. Feature `service` is the server side, which answers requests
//! on a node of the cluster; feature `client` is the other end, with the `recipes` that are made of
//! its calls: locks, elections, queues and the like. Both are given what carries their bytes - the
//! traits in [`raft_core::transport`] - and know no network. Feature `etcd` is a door to the
//! service for clients of the etcd v3 API, on a TCP port of its own. [`clocks`] are logical clocks,
//! for those who want to know what happened before what without asking the store.
//!
//! # A client
//!
//! ```
//! # #[cfg(feature = "client")]
//! # mod example {
//! use raft_core::transport::Connector;
//! use raft_kv::api::{Consistency, Keys, Range};
//! use raft_kv::client::{Client, ClientError, ClientOptions};
//! use std::sync::Arc;
//!
//! async fn tour(connector: Arc<dyn Connector>) -> Result<(), ClientError> {
//!     // Any node will do: the client learns the others from it.
//!     let client = Client::new(connector, ClientOptions::new(["localhost:7001"]));
//!
//!     let put = client.put("colour", "blue").await?;
//!     let pair = client.get_one("colour").await?.expect("it was just put");
//!     assert_eq!(pair.mod_revision, put.revision);
//!
//!     // Only if nobody changed it since.
//!     let swap = client.compare_and_swap("colour", put.revision, "green").await?;
//!     println!("swapped: {}, revision {}", swap.swapped, swap.revision);
//!
//!     let range = Range::of(Keys::prefix("col"));
//!     for pair in client.get(range, Consistency::Linearizable).await?.kvs {
//!         println!("{:?} = {:?}", pair.key, pair.value);
//!     }
//!
//!     // An error says whether the write may have taken effect.
//!     match client.put("colour", "red").await {
//!         Ok(_) => {}
//!         Err(error) if error.may_have_run() => println!("read before you write again: {error}"),
//!         Err(error) => println!("nothing has happened: {error}"),
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # Watches beside reads
//!
//! A watch tells every change once and in order, but a read may show a change before the watch
//! tells of it: they are answered apart. Whoever is to act on a value only after all changes up to
//! it were seen asks the watch for that, by the revision of the read: `Watcher::caught_up`.
pub mod api;
#[cfg(feature = "client")]
pub mod client;
pub mod clocks;
pub mod codec;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing;
mod integrity;
#[cfg(feature = "client")]
pub mod recipes;
#[cfg(feature = "service")]
pub mod service;
pub mod store;
#[cfg(feature = "service")]
mod watch;
pub mod wire;

#[cfg(feature = "client")]
pub use client::Client;
