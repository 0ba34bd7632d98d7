//! Snapshots of version 2, spoken by hand.

use crate::hostile::{closed, dial, frame, hello};
use crate::kit::{Authority, CLUSTER, Event, GROUP, TestNode};
use bytes::{BufMut, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use raft_core::codec;
use raft_core::types::{LogId, SnapshotMeta};
use raft_net_quic::{ALPN_PEER, ALPN_PEER_V1};
use std::io::Read;
use xxhash_rust::xxh3::xxh3_128;

const OFFER: u8 = 11;
const PROGRESS: u8 = 12;
const BUSY: u8 = 13;
const CHUNK: u8 = 8;
const END: u8 = 9;
const RECEIVED: u8 = 10;
const FAILURE: u8 = 6;

/// A connection of node 9 for snapshots.
async fn connect(authority: &Authority, node: &TestNode) -> Connection {
    let connection = dial(authority, node, ALPN_PEER).await;
    let (mut control, mut welcome) = connection.open_bi().await.unwrap();
    control.write_all(&hello(1, CLUSTER.0, 9, 1)).await.unwrap();
    welcome.read_exact(&mut [0; 42]).await.unwrap();
    connection
}

fn offer(transfer: u64, index: u64) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u64_le(transfer);
    body.put_u64_le(GROUP.0);
    body.put_u64_le(5);
    let meta = SnapshotMeta { last: LogId::new(index, 2), ..SnapshotMeta::default() };
    codec::put(&meta, &mut body);
    frame(OFFER, &body)
}

fn end(bytes: &[u8]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u64_le(bytes.len() as u64);
    body.put_u128_le(xxh3_128(bytes));
    frame(END, &body)
}

/// A stream on which this was sent.
async fn send(connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    (send, recv)
}

async fn answer(recv: &mut RecvStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    recv.read_exact(&mut head).await.unwrap();
    let length = u32::from_le_bytes(head[..4].try_into().unwrap());
    let mut body = vec![0; length as usize - 1];
    recv.read_exact(&mut body).await.unwrap();
    (head[4], body)
}

fn progress(offset: u64) -> (u8, Vec<u8>) {
    (PROGRESS, offset.to_le_bytes().to_vec())
}

fn failure(later: bool, text: &str) -> (u8, Vec<u8>) {
    let mut body = vec![0; 8];
    body.push(u8::from(later));
    body.extend_from_slice(text.as_bytes());
    (FAILURE, body)
}

async fn delivered(node: &TestNode) -> Vec<u8> {
    let Event::Snapshot(_, _, _, mut snapshot) = node.event().await else { panic!() };
    let mut read = Vec::new();
    snapshot.data.read_to_end(&mut read).unwrap();
    read
}

/// The bytes of these frames are part of the protocol.
#[tokio::test]
async fn an_offer_is_taken_in_these_bytes() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let connection = connect(&authority, &node).await;
    let mut head = vec![0, 0, 0, 0, 11];
    for number in [7_u64, GROUP.0, 5] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    // Last entry 8@2, and no members.
    head.extend_from_slice(&[2, 8, 0, 0, 0]);
    head[0] = head.len() as u8 - 4;
    assert_eq!(head, offer(7, 8));
    let (mut sending, mut recv) = send(&connection, &head).await;
    assert_eq!(answer(&mut recv).await, progress(0));
    sending.write_all(&[5, 0, 0, 0, 8, 1, 2, 3, 4]).await.unwrap();
    sending.write_all(&end(&[1, 2, 3, 4])).await.unwrap();
    assert_eq!(answer(&mut recv).await, (RECEIVED, vec![]));
    assert_eq!(delivered(&node).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_was_handed_over_is_not_handed_over_again() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    for times in 0..3 {
        // The word that it arrived may be lost with the connection.
        let connection = connect(&authority, &node).await;
        let (mut sending, mut recv) = send(&connection, &offer(7, 8)).await;
        if times == 0 {
            assert_eq!(answer(&mut recv).await, progress(0));
            sending.write_all(&end(&[])).await.unwrap();
        }
        assert_eq!(answer(&mut recv).await, (RECEIVED, vec![]));
    }
    let connection = connect(&authority, &node).await;
    let (_sending, mut recv) = send(&connection, &offer(8, 8)).await;
    assert_eq!(answer(&mut recv).await, progress(0), "another transfer of the same");
    assert_eq!(node.transport.counters().snapshots_received, 1);
}

#[tokio::test]
async fn a_newer_stream_takes_over() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let (first, second) = (connect(&authority, &node).await, connect(&authority, &node).await);
    let chunk = vec![3; 100_000];
    let sent = [offer(7, 8), frame(CHUNK, &chunk)].concat();
    let (_sending, mut recv) = send(&first, &sent).await;
    assert_eq!(answer(&mut recv).await, progress(0));
    while node.files() == 0 {
        tokio::task::yield_now().await;
    }
    let (mut sending, mut newer) = send(&second, &offer(7, 8)).await;
    assert_eq!(answer(&mut recv).await, failure(true, "a newer stream takes its place"));
    // Whole chunks only: all of it or nothing had been read by then.
    let (kind, offset) = answer(&mut newer).await;
    let offset = u64::from_le_bytes(offset.try_into().unwrap());
    assert!(kind == PROGRESS && [0, 100_000].contains(&offset), "{kind} {offset}");
    if offset == 0 {
        sending.write_all(&frame(CHUNK, &chunk)).await.unwrap();
    }
    sending.write_all(&end(&chunk)).await.unwrap();
    assert_eq!(answer(&mut newer).await, (RECEIVED, vec![]));
    assert!(delivered(&node).await == chunk);
}

#[tokio::test]
async fn another_snapshot_begins_at_zero_and_drops_the_part() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let chunk = vec![3; 100_000];
    for (transfer, index) in [(7, 8), (9, 8), (9, 11)] {
        let connection = connect(&authority, &node).await;
        let (mut sending, mut recv) = send(&connection, &offer(transfer, index)).await;
        assert_eq!(answer(&mut recv).await, progress(0));
        // More than is acknowledged at once, so that it is known to be written.
        for _ in 0..11 {
            sending.write_all(&frame(CHUNK, &chunk)).await.unwrap();
        }
        assert_eq!(answer(&mut recv).await, progress(1_100_000));
        connection.close(0_u32.into(), b"");
    }
    let connection = connect(&authority, &node).await;
    let (_sending, mut recv) = send(&connection, &offer(9, 11)).await;
    assert_eq!(answer(&mut recv).await, progress(1_100_000));
    assert_eq!(node.files(), 1);
}

#[tokio::test]
async fn what_is_damaged_or_given_up_leaves_nothing() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let chunk = frame(CHUNK, &[5; 1000]);
    let mut given_up = vec![0; 9];
    given_up.extend_from_slice(b"disk gone");
    let cases = [
        (end(&[6; 1000]), "malformed snapshot: length or checksum differ"),
        (end(&[5; 999]), "malformed snapshot: length or checksum differ"),
        (frame(FAILURE, &given_up), "its sender gave it up: disk gone"),
        (frame(CHUNK, &[]), "unexpected frame kind 8"),
        (frame(99, &[]), "unexpected frame kind 99"),
    ];
    for (bytes, text) in cases {
        let connection = connect(&authority, &node).await;
        let (mut sending, mut recv) = send(&connection, &offer(7, 8)).await;
        assert_eq!(answer(&mut recv).await, progress(0));
        sending.write_all(&[&chunk[..], &bytes].concat()).await.unwrap();
        assert_eq!(answer(&mut recv).await, failure(false, text));
        assert_eq!(node.files(), 0);
    }
    assert_eq!(node.transport.counters().snapshots_received, 0);
}

#[tokio::test]
async fn who_must_wait_is_told_so() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.snapshots_in_max = 0;
    });
    let connection = connect(&authority, &node).await;
    let (_sending, mut recv) = send(&connection, &offer(7, 8)).await;
    let text = "too many snapshots are being received there";
    assert_eq!(answer(&mut recv).await, (BUSY, text.as_bytes().to_vec()));
    // In version 1 there is no such answer.
    let old = frame(7, &offer(7, 8)[5 + 8..]);
    let (_sending, mut recv) = send(&connection, &old).await;
    assert_eq!(answer(&mut recv).await, failure(false, text));
}

#[tokio::test]
async fn an_offer_needs_version_2() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let connection = dial(&authority, &node, ALPN_PEER_V1).await;
    let (mut control, mut welcome) = connection.open_bi().await.unwrap();
    let mut hello = hello(1, CLUSTER.0, 9, 1);
    hello[5] = 1;
    control.write_all(&hello).await.unwrap();
    welcome.read_exact(&mut [0; 42]).await.unwrap();
    let (_sending, mut recv) = send(&connection, &offer(7, 8)).await;
    assert_eq!(answer(&mut recv).await, failure(false, "unexpected frame kind 11"));
}

#[tokio::test]
async fn connections_for_snapshots_are_bounded() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(connect(&authority, &node).await);
    }
    let crowded = dial(&authority, &node, ALPN_PEER).await;
    let (mut control, _welcome) = crowded.open_bi().await.unwrap();
    control.write_all(&hello(1, CLUSTER.0, 9, 1)).await.unwrap();
    assert_eq!(closed(&crowded).await, (8, "8 connections of n9 are open".into()));
}
