//! Streams of frames: order, back-pressure, and what each way of ending looks like.

use bytes::Bytes;
use raft_core::transport::{
    BoxFuture, CallError, Caller, Channel, Duplex, FRAME_OVERHEAD, FrameSource, MemoryNetwork,
    Peers, Service, StreamError,
};
use raft_core::types::{GroupId, NodeId};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

const GROUP: GroupId = GroupId(0);

fn frame(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// Whether `future` has nothing to say at its first poll; it is dropped.
async fn waits<T>(future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

async fn rest(source: &mut dyn FrameSource) -> Result<Vec<Bytes>, StreamError> {
    let mut frames = Vec::new();
    while let Some(frame) = source.receive().await? {
        frames.push(frame);
    }
    Ok(frames)
}

#[tokio::test]
async fn frames_arrive_in_order_until_the_clean_end() {
    let (mut near, mut far) = Duplex::pair(4 * (FRAME_OVERHEAD + 8));
    let sending = tokio::spawn(async move {
        for number in 0..1000 {
            near.sink.send(frame(number)).await.unwrap();
        }
        near.sink.finish().await.unwrap();
        near.source
    });
    let frames = rest(&mut *far.source).await.unwrap();
    assert_eq!(frames, (0..1000).map(frame).collect::<Vec<_>>());
    // The other direction goes on.
    let mut back = sending.await.unwrap();
    far.sink.send(Bytes::new()).await.unwrap();
    far.sink.finish().await.unwrap();
    assert_eq!(rest(&mut *back).await.unwrap(), [Bytes::new()]);
}

#[tokio::test]
async fn a_sender_waits_for_a_slow_receiver_and_loses_nothing() {
    let (mut near, mut far) = Duplex::pair(2 * (FRAME_OVERHEAD + 8));
    near.sink.send(frame(1)).await.unwrap();
    near.sink.send(frame(2)).await.unwrap();
    assert!(waits(near.sink.send(frame(3))).await);
    assert_eq!(far.source.receive().await.unwrap(), Some(frame(1)));
    near.sink.send(frame(4)).await.unwrap();
    // Waiting for a frame and giving up loses none.
    let large = Bytes::from(vec![7; 1000]);
    assert_eq!(far.source.receive().await.unwrap(), Some(frame(2)));
    assert_eq!(far.source.receive().await.unwrap(), Some(frame(4)));
    assert!(waits(far.source.receive()).await);
    // An empty direction takes a frame of any size.
    near.sink.send(large.clone()).await.unwrap();
    assert!(waits(near.sink.send(frame(5))).await);
    assert_eq!(far.source.receive().await.unwrap(), Some(large));
}

#[tokio::test]
async fn a_half_that_is_dropped_breaks_its_direction() {
    let given_up = StreamError::Broken("given up by the other end".into());
    let (mut near, mut far) = Duplex::pair(1000);
    near.sink.send(frame(1)).await.unwrap();
    drop(near.sink);
    assert_eq!(far.source.receive().await, Err(given_up.clone()));
    // Only that direction.
    far.sink.send(frame(2)).await.unwrap();
    assert_eq!(near.source.receive().await.unwrap(), Some(frame(2)));
    let waiting = async {
        loop {
            if let Err(error) = far.sink.send(frame(3)).await {
                return error;
            }
        }
    };
    let dropping = async { drop(near.source) };
    assert_eq!(tokio::join!(waiting, dropping).0, given_up);
    assert_eq!(far.sink.finish().await, Err(given_up));
}

/// Sends back what it gets, behind the caller and the first frame.
struct Echo;

impl Service for Echo {
    fn call(&self, _caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        Box::pin(async move { request })
    }

    fn serve_stream(&self, caller: Caller, first: Bytes, mut stream: Duplex) {
        tokio::spawn(async move {
            stream.sink.send(format!("{caller:?}").into()).await?;
            stream.sink.send(first).await?;
            while let Some(frame) = stream.source.receive().await? {
                stream.sink.send(frame).await?;
            }
            stream.sink.finish().await
        });
    }
}

#[tokio::test]
async fn nodes_stream_from_each_other_and_a_cut_breaks_the_stream() {
    let network = MemoryNetwork::new();
    let (one, two) = (NodeId(1), NodeId(2));
    network.serve(GROUP, two, Arc::new(Echo));
    let node = network.transport(one);
    let unreachable = CallError::NotSent("n3 is unreachable".into());
    assert_eq!(node.open_stream(GROUP, NodeId(3), frame(1)).await.err(), Some(unreachable));

    let mut stream = node.open_stream(GROUP, two, "first".into()).await.unwrap();
    stream.sink.send(frame(1)).await.unwrap();
    stream.sink.finish().await.unwrap();
    let frames = rest(&mut *stream.source).await.unwrap();
    assert_eq!(frames, [Bytes::from("Node(n1)"), "first".into(), frame(1)]);

    let mut stream = node.open_stream(GROUP, two, "first".into()).await.unwrap();
    for _ in 0..2 {
        stream.source.receive().await.unwrap();
    }
    let waiting = stream.source.receive();
    let cutting = async { network.isolate(two, true) };
    let cut = StreamError::Broken("n2 is cut off".into());
    assert_eq!(tokio::join!(waiting, cutting).0, Err(cut.clone()));
    assert_eq!(stream.sink.send(frame(2)).await, Err(cut));
    let unreachable = CallError::NotSent("n2 is unreachable".into());
    assert_eq!(node.open_stream(GROUP, two, frame(1)).await.err(), Some(unreachable));
    network.isolate(two, false);
    assert!(node.open_stream(GROUP, two, frame(1)).await.is_ok());
}

/// What was written before there were streams: it carries none, and serves none.
struct Plain;

impl Channel for Plain {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(async move { Ok(request) })
    }
}

impl Service for Plain {
    fn call(&self, _caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        Box::pin(async move { request })
    }
}

#[tokio::test]
async fn what_knows_no_streams_says_so() {
    let error = Plain.open_stream(frame(1)).await.err();
    assert_eq!(error, Some(CallError::NotSent("streams are not carried here".into())));
    let network = MemoryNetwork::new();
    network.serve(GROUP, NodeId(2), Arc::new(Plain));
    let mut stream =
        network.transport(NodeId(1)).open_stream(GROUP, NodeId(2), frame(1)).await.unwrap();
    let given_up = StreamError::Broken("given up by the other end".into());
    assert_eq!(stream.source.receive().await, Err(given_up));
}
