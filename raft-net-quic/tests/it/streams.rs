//! Streams of services, of clients and of nodes.

use crate::hostile::{closed, dial, frame, hello};
use crate::kit::{Authority, CLUSTER, GROUP, TestNode, cluster, connect, introduce};
use bytes::Bytes;
use raft_core::transport::{
    BoxFuture, CallError, Caller, Duplex, FrameSource, Peers, Service, StreamError,
};
use raft_core::types::{NodeId, Version};
use raft_net_quic::ALPN_CLIENT;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const MIB: usize = 1024 * 1024;

/// Hands every stream to the test; answers a request with itself, and an empty one with who asks.
struct Hand(UnboundedSender<(Caller, Bytes, Duplex)>);

impl Service for Hand {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        let who = request.is_empty().then(|| format!("{caller:?}").into());
        Box::pin(async move { who.unwrap_or(request) })
    }

    fn serve_stream(&self, caller: Caller, first: Bytes, stream: Duplex) {
        let _ = self.0.send((caller, first, stream));
    }
}

/// What a node's service was handed.
type Handed = UnboundedReceiver<(Caller, Bytes, Duplex)>;

fn serve(node: &TestNode) -> Handed {
    let (sender, handed) = unbounded_channel();
    node.transport.serve(GROUP, Arc::new(Hand(sender)));
    handed
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

async fn rest(source: &mut dyn FrameSource) -> Result<Vec<Bytes>, StreamError> {
    let mut frames = Vec::new();
    while let Some(frame) = source.receive().await? {
        frames.push(frame);
    }
    Ok(frames)
}

fn broken(why: &str) -> StreamError {
    StreamError::Broken(why.into())
}

/// A service may share out what it has by connection.
#[tokio::test]
async fn each_connection_of_a_client_has_a_number_of_its_own() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut handed = serve(&node);
    let mut callers = Vec::new();
    for _ in 0..3 {
        let channel = connect(&authority, &node).await;
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let _near = channel.open_stream("for its number".into()).await.unwrap();
            numbers.push(handed.recv().await.unwrap().0);
        }
        let reply = channel.call(Bytes::new()).await.unwrap();
        assert_eq!(reply, format!("{:?}", numbers[0]));
        assert_eq!(numbers[0], numbers[1]);
        assert!(!callers.contains(&numbers[0]), "{:?} after {callers:?}", numbers[0]);
        callers.push(numbers[0]);
    }
}

#[tokio::test]
async fn frames_of_all_sizes_go_both_ways_until_the_clean_end() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut handed = serve(&node);
    let channel = connect(&authority, &node).await;
    let near = channel.open_stream("what for".into()).await.unwrap();
    let (caller, first, far) = handed.recv().await.unwrap();
    assert!(caller.is_client() && first == "what for", "{caller:?}: {first:?}");

    let sizes = [0, 1, 4096, 4097, 100_000, 3 * MIB, 16 * MIB];
    let frames: Vec<_> = sizes.into_iter().chain([7; 1000]).map(bytes).collect();
    let one_way = async |from: Duplex, to: Duplex| {
        let (Duplex { mut sink, source }, mut far) = (from, to);
        let sending = async {
            for frame in &frames {
                sink.send(frame.clone()).await.unwrap();
            }
            sink.finish().await.unwrap();
        };
        let (received, ()) = tokio::join!(rest(&mut *far.source), sending);
        assert!(received.unwrap() == frames);
        (source, far.sink)
    };
    let (source, sink) = one_way(near, far).await;
    // The other direction is not touched by the end of the first.
    let (there, back) = Duplex::pair(1);
    one_way(Duplex { sink, source: there.source }, Duplex { sink: back.sink, source }).await;
    assert_eq!(node.transport.counters().streams, 1);
}

#[tokio::test]
async fn nodes_stream_from_each_other() {
    let nodes = cluster(&Authority::new(), 2).await;
    let mut handed = serve(&nodes[1]);
    let near = nodes[0].transport.open_stream(GROUP, NodeId(2), "here".into()).await;
    let mut near = near.unwrap();
    let (caller, first, mut far) = handed.recv().await.unwrap();
    assert_eq!((caller, &first[..]), (Caller::Node(NodeId(1)), &b"here"[..]));
    far.sink.send(bytes(MIB)).await.unwrap();
    far.sink.finish().await.unwrap();
    assert_eq!(rest(&mut *near.source).await.unwrap(), [bytes(MIB)]);
    near.sink.send(bytes(5)).await.unwrap();
    assert_eq!(far.source.receive().await.unwrap(), Some(bytes(5)));

    let stranger = nodes[0].transport.open_stream(GROUP, NodeId(9), Bytes::new()).await;
    assert_eq!(stranger.err(), Some(CallError::NotSent("n9 is not known here".into())));
    // A node that goes breaks its streams.
    nodes[1].transport.close().await;
    let error = loop {
        if let Err(error) = near.sink.send(bytes(1)).await {
            break error;
        }
    };
    assert_eq!(error, broken("the node is stopping"));
    assert_eq!(far.source.receive().await, Err(broken("closed by this process")));
}

#[tokio::test]
async fn a_connection_that_is_lost_breaks_both_halves_at_both_ends() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut handed = serve(&node);
    let channel = connect(&authority, &node).await;
    let mut near = channel.open_stream(Bytes::new()).await.unwrap();
    let (_, _, mut far) = handed.recv().await.unwrap();
    drop(channel);
    assert_eq!(far.source.receive().await, Err(broken("the client is done")));
    assert_eq!(far.sink.send(bytes(1)).await, Err(broken("the client is done")));
    assert_eq!(near.source.receive().await, Err(broken("closed by this process")));
    assert_eq!(near.sink.send(bytes(1)).await, Err(broken("closed by this process")));
}

#[tokio::test]
async fn a_half_that_is_dropped_breaks_its_direction_only() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut handed = serve(&node);
    let channel = connect(&authority, &node).await;
    let mut near = channel.open_stream(Bytes::new()).await.unwrap();
    let (_, _, mut far) = handed.recv().await.unwrap();
    let given_up = broken("given up by the other end");
    drop(near.sink);
    assert_eq!(far.source.receive().await, Err(given_up.clone()));
    far.sink.send(bytes(2)).await.unwrap();
    assert_eq!(near.source.receive().await.unwrap(), Some(bytes(2)));
    drop(near.source);
    let error = loop {
        if let Err(error) = far.sink.send(bytes(1)).await {
            break error;
        }
    };
    assert_eq!(error, given_up);
    // The connection is as it was.
    assert_eq!(channel.call(bytes(3)).await.unwrap(), bytes(3));
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_their_senders_and_nothing_else() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut handed = serve(&node);
    let channel = connect(&authority, &node).await;
    let mut unread = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..3 {
        unread.push(channel.open_stream(Bytes::new()).await.unwrap());
        let (_, _, far) = handed.recv().await.unwrap();
        let (progress, mut sent) = tokio::sync::watch::channel(0);
        let sending = tokio::spawn(async move {
            let Duplex { mut sink, source } = far;
            for number in 1..=64 {
                sink.send(bytes(MIB / 4)).await.unwrap();
                progress.send_replace(number);
            }
            sink.finish().await.unwrap();
            source
        });
        // The stream's window is 2 MiB; what is beyond waits in the service.
        sent.wait_for(|sent| *sent >= 7).await.unwrap();
        senders.push((sending, sent));
    }
    // Requests and large replies pass by all of them.
    for _ in 0..50 {
        assert_eq!(channel.call(bytes(MIB)).await.unwrap(), bytes(MIB));
    }
    for (near, (sending, sent)) in unread.iter_mut().zip(senders) {
        assert!(*sent.borrow() <= 9, "{} frames are somewhere", *sent.borrow());
        assert!(!sending.is_finished());
        let frames = rest(&mut *near.source).await.unwrap();
        assert!(frames.len() == 64 && frames.iter().all(|frame| *frame == bytes(MIB / 4)));
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn streams_of_a_connection_are_bounded_and_make_room_when_they_end() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut handed = serve(&node);
    let channel = connect(&authority, &node).await;
    for _ in 0..50 {
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(channel.open_stream(Bytes::new()).await.unwrap());
        }
        let error = channel.open_stream(Bytes::new()).await.err().unwrap();
        assert_eq!(error, CallError::NotSent("too many streams are open (3)".into()));
        for stream in open {
            drop(stream);
            // What serves it learns of it, and lets it go.
            let (_, _, mut far) = handed.recv().await.unwrap();
            assert!(far.source.receive().await.is_err());
        }
    }
    assert_eq!(node.transport.counters().streams, 150);
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_and_the_connection_goes_on() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.stream_frame_bytes_max = MIB;
    });
    let channel = connect(&authority, &node).await;
    let error = channel.open_stream(Bytes::new()).await.err();
    assert_eq!(error, Some(CallError::NotSent("group g0 is not served there".into())));
    let mut handed = serve(&node);
    let error = channel.open_stream(bytes(16 * MIB + 1)).await.err();
    let text = "a frame of 16777217 bytes exceeds the limit of 16777216";
    assert_eq!(error, Some(CallError::NotSent(text.into())));
    // Given up while it is opened, at whatever point.
    for _ in 0..100 {
        let opening = tokio::spawn(channel.open_stream(Bytes::new()));
        tokio::task::yield_now().await;
        opening.abort();
        let _ = opening.await;
    }
    let taking = async {
        loop {
            let (_, first, far) = handed.recv().await.unwrap();
            if first == "last" {
                return far;
            }
        }
    };
    let (near, mut far) = tokio::join!(channel.open_stream("last".into()), taking);
    let mut near = near.unwrap();
    // The node's own limit is lower: it sends nothing above it, and the stream goes on.
    let too_large = StreamError::TooLarge { size: MIB + 1, limit: MIB };
    assert_eq!(far.sink.send(bytes(MIB + 1)).await, Err(too_large));
    far.sink.send(bytes(MIB)).await.unwrap();
    assert_eq!(near.source.receive().await.unwrap(), Some(bytes(MIB)));
    assert_eq!(node.transport.counters().violations, 0);
    // What comes in above it costs the connection.
    let _ = near.sink.send(bytes(MIB + 1)).await;
    let why = "frame of 1048578 bytes where 1048577 are the most";
    assert_eq!(far.source.receive().await, Err(broken(why)));
    assert_eq!(near.source.receive().await, Err(broken(why)));
    assert_eq!(node.transport.counters().violations, 1);
}

#[tokio::test]
async fn ends_without_streams_are_told_from_those_with() {
    let authority = Authority::new();
    let old = |config: &mut raft_net_quic::QuicConfig| config.version = Version(2);
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, old);
    let new = TestNode::start(&authority, 2);
    for node in [&node, &new] {
        drop(serve(node));
    }
    let earlier = "the node there is of an earlier version, without streams";
    let earlier = CallError::NotSent(earlier.into());
    let channel = connect(&authority, &node).await;
    assert_eq!(channel.call(bytes(5)).await.unwrap(), bytes(5));
    assert_eq!(channel.open_stream(Bytes::new()).await.err(), Some(earlier.clone()));
    let nodes = [node, new];
    introduce(&nodes).await;
    for (from, to) in [(0, 2), (1, 1)] {
        let opened = nodes[from].transport.open_stream(GROUP, NodeId(to), Bytes::new()).await;
        assert_eq!(opened.err(), Some(earlier.clone()));
        let reply = nodes[from].transport.call(GROUP, NodeId(to), bytes(5)).await;
        assert_eq!(reply.unwrap(), bytes(5));
    }
}

#[tokio::test]
async fn streams_that_do_not_begin_as_they_should_cost_the_connection() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.hello_timeout = std::time::Duration::from_millis(500);
    });
    let mut handed = serve(&node);
    tokio::spawn(async move {
        while let Some((_, _, mut far)) = handed.recv().await {
            tokio::spawn(async move { while far.source.receive().await.is_ok() {} });
        }
    });
    let group = GROUP.0.to_le_bytes();
    let huge = [&u32::MAX.to_le_bytes()[..], &[14]].concat();
    let too_large = format!("frame of {} bytes where {} are the most", u32::MAX, 16 * MIB + 9);
    let cases = [
        (vec![9, 0], "malformed stream: it does not begin".to_owned()),
        (frame(14, &group[..7]), "malformed stream head".into()),
        (frame(2, &[2]), "malformed stream purpose".into()),
        (frame(4, &[0; 20]), "unexpected frame kind 4".into()),
        (huge, too_large),
        ([frame(14, &group), frame(4, &[0; 20])].concat(), "unexpected frame kind 4".into()),
    ];
    for (bytes, text) in cases {
        let connection = dial(&authority, &node, ALPN_CLIENT).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&hello(2, 0, 0, 0)).await.unwrap();
        recv.read_exact(&mut [0; 42]).await.unwrap();
        // As many as the connection may have: those beyond the limit are not looked at.
        let mut streams = Vec::new();
        for _ in 0..63 {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&bytes).await.unwrap();
            streams.push((send, recv));
        }
        assert_eq!(closed(&connection).await, (7, text));
    }
}
