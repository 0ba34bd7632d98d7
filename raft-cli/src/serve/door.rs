//! The door for clients of the etcd v3 API: a port of its own, served on a thread of its own, so
//! that what clients do there does not hold up the node.

use crate::failure::Failure;
use raft_core::types::NodeId;
use raft_kv::api::Published;
use raft_kv::etcd::{EtcdConfig, EtcdDoor};
use raft_kv::service::KvService;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

/// An open door. It closes when it is dropped.
pub(super) struct Door {
    closing: watch::Sender<bool>,
}

impl Door {
    /// Opens the door of `service` at `address`.
    ///
    /// # Errors
    /// Of kind `Local` if the address cannot be used.
    pub(super) fn open(
        address: SocketAddr,
        id: NodeId,
        service: Arc<KvService>,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::local(format!("cannot listen on {address} (TCP)"), &error);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (closing, mut closed) = watch::channel(false);
        let mut config = EtcdConfig::new(service);
        config.member =
            Published { name: id.to_string(), client_urls: vec![format!("http://{address}")] };
        let serve = async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let until_closed = async {
                        // Either it is said, or nobody is there any more who could.
                        let _ = closed.wait_for(|closed| *closed).await;
                    };
                    EtcdDoor::new(config).serve(listener, until_closed).await;
                }
                Err(error) => warn!(%error, "the door for the etcd v3 API is closed"),
            }
        };
        let thread = std::thread::Builder::new().name("etcd-door".into());
        thread.spawn(move || runtime.block_on(serve)).map_err(failed)?;
        info!(%address, "the etcd v3 API is served, without encryption or authentication");
        Ok(Self { closing })
    }

    /// Closes it, and waits until its port is free.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        self.closing.closed().await;
    }
}
