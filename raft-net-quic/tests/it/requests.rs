//! Requests and replies, of clients and of nodes.

use crate::kit::{Authority, CLUSTER, GROUP, Serve, TestNode, cluster, connect, echo};
use bytes::Bytes;
use raft_core::transport::{CallError, Caller, Peers, Transport};
use raft_core::types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

fn request(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

#[tokio::test]
async fn ten_thousand_calls_at_once_are_all_answered_right() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    // Every third answer comes later, so that order is lost.
    node.transport.serve(
        GROUP,
        Arc::new(Serve(|_, request: Bytes| async move {
            if request[0].is_multiple_of(3) {
                tokio::task::yield_now().await;
            }
            let number = u32::from_le_bytes(request[..].try_into().unwrap());
            Bytes::copy_from_slice(&(u64::from(number) * 2).to_le_bytes())
        })),
    );
    let channel = connect(&authority, &node).await;
    let mut calls = JoinSet::new();
    for number in 0..10_000_u32 {
        let call = channel.call(request(number));
        calls.spawn(async move { (number, call.await) });
    }
    while let Some(done) = calls.join_next().await {
        let (number, reply) = done.unwrap();
        assert_eq!(reply.unwrap()[..], (u64::from(number) * 2).to_le_bytes());
    }
    assert_eq!(node.transport.counters().requests, 10_000);
}

#[tokio::test]
async fn large_requests_and_replies_arrive_whole() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    node.transport.serve(GROUP, echo());
    let channel = connect(&authority, &node).await;
    let large: Bytes = (0..8 * 1024 * 1024_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    let (first, small, second) = tokio::join!(
        channel.call(large.clone()),
        channel.call(request(1)),
        channel.call(large.slice(1..300_000)),
    );
    assert!(first.unwrap() == large);
    assert_eq!(small.unwrap(), request(1));
    assert!(second.unwrap() == large.slice(1..300_000));
}

#[tokio::test]
async fn a_request_over_the_limit_is_not_sent() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    node.transport.serve(GROUP, echo());
    let channel = connect(&authority, &node).await;
    let error = channel.call(Bytes::from(vec![0; 16 * 1024 * 1024 + 1])).await.unwrap_err();
    assert_eq!(error.to_string(), "a request of 16777217 bytes exceeds the limit of 16777216");
    assert!(matches!(error, CallError::NotSent(_)));
    assert_eq!(channel.call(request(1)).await.unwrap(), request(1));
}

#[tokio::test]
async fn a_slow_request_does_not_hold_up_others() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let gate = Arc::new(Notify::new());
    let open = Arc::clone(&gate);
    node.transport.serve(
        GROUP,
        Arc::new(Serve(move |_, request: Bytes| {
            let gate = Arc::clone(&gate);
            async move {
                if request[..] == *b"slow" {
                    gate.notified().await;
                }
                request
            }
        })),
    );
    let channel = connect(&authority, &node).await;
    let slow = tokio::spawn(channel.call(Bytes::from_static(b"slow")));
    for number in 0..100 {
        assert_eq!(channel.call(request(number)).await.unwrap(), request(number));
    }
    assert!(!slow.is_finished());
    open.notify_one();
    assert_eq!(slow.await.unwrap().unwrap()[..], *b"slow");
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_the_rest_wait() {
    let authority = Authority::new();
    let credentials = authority.node(1);
    let node = TestNode::start_with(credentials, 1, CLUSTER, 0, |config| {
        config.limits.client_requests_in_flight_max = 8;
    });
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let open = Arc::clone(&gate);
    node.transport.serve(
        GROUP,
        Arc::new(Serve(move |_, request: Bytes| {
            started.send(()).unwrap();
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                request
            }
        })),
    );
    let channel = connect(&authority, &node).await;
    let mut calls = JoinSet::new();
    for number in 0..100 {
        calls.spawn(channel.call(request(number)));
    }
    for running in 0..100 {
        starts.recv().await.unwrap();
        if running >= 7 {
            assert!(starts.is_empty(), "more than 8 run");
            open.add_permits(1);
        }
    }
    open.add_permits(7);
    assert_eq!(calls.join_all().await.into_iter().filter(Result::is_ok).count(), 100);
}

#[tokio::test]
async fn a_lost_connection_ends_calls_as_lost_and_later_ones_as_not_sent() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    node.transport.serve(
        GROUP,
        Arc::new(Serve(move |_, _| {
            started.send(()).unwrap();
            std::future::pending()
        })),
    );
    let channel = connect(&authority, &node).await;
    let call = tokio::spawn(channel.call(request(1)));
    starts.recv().await.unwrap();
    node.transport.close().await;
    let error = call.await.unwrap().unwrap_err();
    let text = "connection lost: the node is stopping".to_owned();
    assert_eq!(error, CallError::Lost(text.clone()));
    assert_eq!(channel.call(request(2)).await, Err(CallError::NotSent(text)));
}

#[tokio::test]
async fn a_service_that_panics_or_is_missing_is_told() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let channel = connect(&authority, &node).await;
    let error = channel.call(request(1)).await.unwrap_err();
    assert_eq!(error, CallError::NotSent("group g0 is not served there".into()));
    node.transport.serve(
        GROUP,
        Arc::new(Serve(|_, request: Bytes| async move {
            tokio::task::yield_now().await;
            assert!(request.is_empty(), "a bug in the service");
            request
        })),
    );
    let error = channel.call(request(1)).await.unwrap_err();
    assert_eq!(error, CallError::Lost("the service gave no reply".into()));
    assert!(channel.call(Bytes::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_call_given_up_leaves_nothing_behind() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    node.transport.serve(GROUP, echo());
    let channel = connect(&authority, &node).await;
    for number in 0..1000 {
        drop(channel.call(request(number)));
    }
    assert_eq!(channel.call(request(1)).await.unwrap(), request(1));
    // What was given up before it was written never left.
    assert_eq!(node.transport.counters().requests, 1);
}

#[tokio::test]
async fn nodes_forward_over_the_connection_they_keep() {
    let nodes = cluster(&Authority::new(), 2).await;
    nodes[1].transport.serve(
        GROUP,
        Arc::new(Serve(|caller, request: Bytes| async move {
            assert_eq!(caller, Caller::Node(NodeId(1)));
            request
        })),
    );
    let mut calls = JoinSet::new();
    for number in 0..1000 {
        let call = nodes[0].transport.call(GROUP, NodeId(2), request(number));
        calls.spawn(async move { assert_eq!(call.await.unwrap(), request(number)) });
    }
    let large = Bytes::from(vec![9; 1024 * 1024]);
    assert!(nodes[0].transport.call(GROUP, NodeId(2), large.clone()).await.unwrap() == large);
    calls.join_all().await;
}

#[tokio::test]
async fn forwarding_to_an_unreachable_node_fails_at_once() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.dial_timeout = Duration::from_millis(100);
    });
    let error = node.transport.call(GROUP, NodeId(2), request(1)).await.unwrap_err();
    assert_eq!(error, CallError::NotSent("n2 is not known here".into()));
    node.transport.set_peers(GROUP, vec![(NodeId(2), "127.0.0.1:9".into())]);
    node.fails(NodeId(2), "no answer").await;
    let error = node.transport.call(GROUP, NodeId(2), request(1)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("n2 at 127.0.0.1:9 unreachable for "), "{text}");
    assert!(text.ends_with(" s: no answer within 0.1 s"), "{text}");
    assert!(matches!(error, CallError::NotSent(_)));
}
