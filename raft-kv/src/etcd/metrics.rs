//! What is told at /metrics, in the text form of Prometheus: under etcd's names what means the same
//! here. Requests are counted here; everything else is looked at when it is asked for.

use super::VERSION;
use super::core::Core;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use raft_core::raft::RoleName;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tonic::body::Body;
use tonic::{Code, Status};

/// Most methods that are counted; those that there are not are not counted at all.
const METHODS_MAX: usize = 256;

/// More lines for /metrics than the door knows: they are appended as they are.
pub type MoreMetrics = Arc<dyn Fn(&mut String) + Send + Sync>;

/// What became of the calls over gRPC.
#[derive(Default)]
pub(super) struct Calls {
    by_method: Mutex<BTreeMap<String, Method>>,
    /// Bytes of messages that have come, and of those that have gone.
    received: AtomicU64,
    sent: AtomicU64,
    /// How often /health was asked for and told that the node is well, and that it is not.
    well: AtomicU64,
    unwell: AtomicU64,
}

#[derive(Default)]
struct Method {
    started: u64,
    /// Messages that have come, and those that have gone.
    received: u64,
    sent: u64,
    /// By code.
    handled: BTreeMap<i32, u64>,
}

impl Calls {
    fn with<T>(&self, path: &str, change: impl FnOnce(&mut Method) -> T) -> Option<T> {
        // Nothing under it can fail.
        let mut methods = self.by_method.lock().unwrap_or_else(PoisonError::into_inner);
        if !methods.contains_key(path) && methods.len() >= METHODS_MAX {
            return None;
        }
        Some(change(methods.entry(path.to_owned()).or_default()))
    }

    /// The body of a request, whose bytes are counted as they come, and its messages beside it: of
    /// which method they are is not known yet.
    pub(super) fn received(self: &Arc<Self>, body: Body) -> (Body, Came) {
        let (calls, came) = (Arc::clone(self), Came::default());
        let messages = Messages::default();
        (Body::new(Received { body, calls, messages, came: Arc::clone(&came) }), came)
    }

    /// Counts a call of `path`, which has been answered so far, and its end when it ends. Of what
    /// is not there nothing is counted: a client could make up any number of names.
    pub(super) fn counted(
        self: Arc<Self>,
        path: String,
        response: Response<Body>,
        came: Came,
    ) -> Response<Body> {
        let status = Status::from_header_map(response.headers());
        if status.as_ref().is_some_and(|status| status.code() == Code::Unimplemented) {
            return response;
        }
        self.with(&path, |method| method.started += 1);
        let mut counted = Counted {
            body: Body::empty(),
            calls: Arc::clone(&self),
            end: Some((self, path)),
            came,
            messages: Messages::default(),
            sent: 0,
        };
        if let Some(status) = status {
            counted.end(status.code());
            return response;
        }
        response.map(|body| {
            counted.body = body;
            Body::new(counted)
        })
    }

    /// Counts an answer at /health.
    pub(super) fn count_health(&self, is_well: bool) {
        let counter = if is_well { &self.well } else { &self.unwell };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String) {
        for (name, bytes) in [
            ("etcd_server_health_success", &self.well),
            ("etcd_server_health_failures", &self.unwell),
            ("etcd_network_client_grpc_received_bytes_total", &self.received),
            ("etcd_network_client_grpc_sent_bytes_total", &self.sent),
        ] {
            kind_line(text, name, "counter");
            line(text, format_args!("{name} {}", bytes.load(Ordering::Relaxed)));
        }
        let methods = self.by_method.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = |path: &str| {
            let path = path.trim_start_matches('/');
            let (service, method) = path.split_once('/').unwrap_or((path, ""));
            let kind = kind(method);
            format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
        };
        kind_line(text, "grpc_server_started_total", "counter");
        for (path, method) in &*methods {
            let (labels, count) = (labels(path), method.started);
            line(text, format_args!("grpc_server_started_total{{{labels}}} {count}"));
        }
        type Count = fn(&Method) -> u64;
        let received: Count = |method| method.received;
        for (name, count) in [
            ("grpc_server_msg_received_total", received),
            ("grpc_server_msg_sent_total", |method| method.sent),
        ] {
            kind_line(text, name, "counter");
            for (path, method) in &*methods {
                line(text, format_args!("{name}{{{}}} {}", labels(path), count(method)));
            }
        }
        kind_line(text, "grpc_server_handled_total", "counter");
        for (path, method) in &*methods {
            let labels = labels(path);
            for (code, count) in &method.handled {
                // Two are spelt otherwise by etcd's library.
                let code = match Code::from(*code) {
                    Code::Ok => "OK".to_owned(),
                    Code::Cancelled => "Canceled".to_owned(),
                    code => format!("{code:?}"),
                };
                line(
                    text,
                    format_args!(
                        "grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}} {count}"
                    ),
                );
            }
        }
    }
}

fn kind(method: &str) -> &'static str {
    match method {
        "Watch" | "LeaseKeepAlive" => "bidi_stream",
        "Snapshot" | "Observe" => "server_stream",
        _ => "unary",
    }
}

/// Messages that have come, and are not counted yet.
pub(super) type Came = Arc<AtomicU64>;

/// How far the messages of a body have come.
#[derive(Default)]
struct Messages {
    /// Bytes before a message: one, and its length.
    prefix: [u8; 5],
    begun: usize,
    left: usize,
}

impl Messages {
    /// How many end with these bytes.
    fn read(&mut self, mut data: &[u8]) -> u64 {
        let mut ended = 0;
        while let Some((first, rest)) = data.split_first() {
            if self.begun < self.prefix.len() {
                self.prefix[self.begun] = *first;
                (self.begun, data) = (self.begun + 1, rest);
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
            } else {
                let here = self.left.min(data.len());
                self.left -= here;
                data = &data[here..];
            }
            if self.begun == self.prefix.len() && self.left == 0 {
                self.begun = 0;
                ended += 1;
            }
        }
        ended
    }
}

/// A body whose bytes are counted.
struct Received {
    body: Body,
    calls: Arc<Calls>,
    messages: Messages,
    came: Came,
}

impl http_body::Body for Received {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let data = data_of(&frame);
        self.calls.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let came = self.messages.read(data);
        self.came.fetch_add(came, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn data_of<E>(frame: &Option<Result<Frame<Bytes>, E>>) -> &[u8] {
    match frame {
        Some(Ok(frame)) => frame.data_ref().map_or(&[], |data| data),
        _ => &[],
    }
}

/// A body whose bytes and whose end are counted.
struct Counted {
    body: Body,
    calls: Arc<Calls>,
    end: Option<(Arc<Calls>, String)>,
    came: Came,
    messages: Messages,
    /// Messages that have gone, and are not counted yet.
    sent: u64,
}

impl Counted {
    fn end(&mut self, code: Code) {
        self.count(|method| *method.handled.entry(code as i32).or_default() += 1);
        self.end = None;
    }

    /// Counts the messages so far, and what else there is.
    fn count(&mut self, change: impl FnOnce(&mut Method)) {
        let Some((calls, path)) = &self.end else { return };
        let (came, sent) = (self.came.swap(0, Ordering::Relaxed), std::mem::take(&mut self.sent));
        calls.with(path, |method| {
            method.received += came;
            method.sent += sent;
            change(method);
        });
    }
}

impl Drop for Counted {
    /// Given up by the client before it ended.
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

impl http_body::Body for Counted {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let data = data_of(&frame);
        self.calls.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
        let sent = self.messages.read(data);
        self.sent += sent;
        if sent > 0 {
            self.count(|_| ());
        }
        let code = |trailers: &HeaderMap| {
            Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code())
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().map(code) {
                    self.end(code);
                }
            }
            Some(Err(_)) => self.end(Code::Unknown),
            None => self.end(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Core {
    /// Everything that is told at /metrics.
    pub(super) fn metrics(&self) -> String {
        let status = self.status();
        let gauges = self.service.store().gauges();
        let (space, watches) = (self.service.space(), self.service.watch_counts());
        let own = status.identity.node;
        let learner = status.membership.contains(own) && !status.membership.is_voter(own);
        let (commit, applied) = (status.commit_index.0, status.last_applied.0);
        let leads = status.role == RoleName::Leader;
        let pending = if leads { status.last_log.index.0.saturating_sub(commit) } else { 0 };
        let mut text = String::new();
        let version = format!("server_version=\"{VERSION}\"");
        let cluster_version = "cluster_version=\"3.4\"";
        kind_line(&mut text, "etcd_server_version", "gauge");
        line(&mut text, format_args!("etcd_server_version{{{version}}} 1"));
        kind_line(&mut text, "etcd_server_id", "gauge");
        line(&mut text, format_args!("etcd_server_id{{server_id=\"{:x}\"}} 1", own.0));
        kind_line(&mut text, "etcd_cluster_version", "gauge");
        line(&mut text, format_args!("etcd_cluster_version{{{cluster_version}}} 1"));
        for (name, kind, value) in [
            ("etcd_server_has_leader", "gauge", u64::from(status.leader.is_some())),
            ("etcd_server_is_leader", "gauge", u64::from(leads)),
            ("etcd_server_is_learner", "gauge", u64::from(learner)),
            ("etcd_server_proposals_committed_total", "gauge", commit),
            ("etcd_server_proposals_applied_total", "gauge", applied),
            ("etcd_server_proposals_pending", "gauge", pending),
            ("etcd_server_quota_backend_bytes", "gauge", space.quota),
            ("etcd_mvcc_db_total_size_in_bytes", "gauge", space.bytes),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", space.bytes),
            ("etcd_debugging_mvcc_db_total_size_in_bytes", "gauge", space.bytes),
            ("etcd_debugging_mvcc_current_revision", "gauge", gauges.revision.0),
            ("etcd_debugging_mvcc_compact_revision", "gauge", gauges.compacted.0),
            ("etcd_debugging_auth_revision", "gauge", self.service.store().auth().revision()),
            ("etcd_debugging_mvcc_keys_total", "gauge", gauges.keys),
            ("etcd_debugging_mvcc_watch_stream_total", "gauge", watches.streams),
            ("etcd_debugging_mvcc_watcher_total", "gauge", watches.watches),
            ("etcd_debugging_mvcc_slow_watcher_total", "gauge", watches.behind),
            ("etcd_debugging_mvcc_events_total", "counter", watches.events),
            ("raft_leases", "gauge", gauges.leases),
            ("raft_members", "gauge", status.membership.members().len() as u64),
            ("raft_voters", "gauge", status.membership.voter_count() as u64),
            ("raft_serving", "gauge", u64::from(self.is_serving())),
        ] {
            kind_line(&mut text, name, kind);
            line(&mut text, format_args!("{name} {value}"));
        }
        self.write_counts(&mut text);
        self.calls.write(&mut text);
        if let Some(more) = &self.more_metrics {
            more(&mut text);
        }
        text
    }
}

impl Core {
    /// What was done with the store of this member. etcd 3.4 tells some of it under two names.
    fn write_counts(&self, text: &mut String) {
        let counts = self.service.store().counts();
        for (name, count) in [
            ("mvcc_put_total", counts.puts),
            ("mvcc_delete_total", counts.deletes),
            ("mvcc_range_total", counts.ranges),
            ("mvcc_txn_total", counts.txns),
        ] {
            for prefix in ["etcd", "etcd_debugging"] {
                kind_line(text, &format!("{prefix}_{name}"), "counter");
                line(text, format_args!("{prefix}_{name} {count}"));
            }
        }
        for (name, count) in [
            ("etcd_debugging_lease_granted_total", counts.leases_granted),
            ("etcd_debugging_lease_revoked_total", counts.leases_revoked),
            ("etcd_debugging_lease_renewed_total", counts.leases_renewed),
        ] {
            kind_line(text, name, "counter");
            line(text, format_args!("{name} {count}"));
        }
    }
}

fn kind_line(text: &mut String, name: &str, kind: &str) {
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
