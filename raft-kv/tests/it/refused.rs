//! What a client may ask wrongly, as one list: every member answers each with the same error,
//! whichever leads, nothing is done, and the next write goes on as if nothing had been asked. Also
//! how fresh reads are that a member without a vote answers.

use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::node::Node;
use raft_core::transport::Connector;
use raft_core::types::{Change, Index, NodeId};
use raft_kv::api::*;
use raft_kv::client::{Client, ClientError};
use raft_kv::store::SESSION_IDLE_MS;
use raft_kv::{codec, wire};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A member without a vote.
const OBSERVER: NodeId = NodeId(4);
/// One that nobody has.
const NO_LEASE: LeaseId = LeaseId(0xdead);

/// A request that cannot be answered as asked.
struct Bad {
    /// What is wrong with it.
    what: &'static str,
    ask: Ask,
    /// What it is answered with; of [`KvError::Malformed`] the text is not compared.
    says: KvError,
}

enum Ask {
    Do(Action),
    Fenced(Fence),
    Read(Range),
    Write(Option<RequestId>),
    Body(RequestBody),
    Frame(Bytes),
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
    Op::Put(Put::new(key, value))
}

fn txn(success: Vec<Op>) -> Txn {
    Txn { compares: vec![], success, failure: vec![] }
}

/// A transaction so many deep within others.
fn nested(depth: usize) -> Txn {
    let inner = txn(vec![put("deep", "")]);
    (1..depth).fold(inner, |inner, _| txn(vec![Op::Txn(Box::new(inner))]))
}

fn malformed() -> KvError {
    KvError::Malformed(String::new())
}

fn too_large(what: &str, size: usize, limit: usize) -> KvError {
    KvError::TooLarge { what: what.into(), size: size as u64, limit: limit as u64 }
}

/// What a store at revision `current`, compacted at `compacted`, cannot do.
fn of_data(current: Revision, compacted: Revision) -> Vec<Bad> {
    let one = |key: &'static str| Range::of(Keys::One(key.into()));
    let at = |revision| Range { revision: Some(revision), ..one("a") };
    let (ahead, gone) = (Revision(current.0 + 1000), Revision(compacted.0 - 1));
    let future = || KvError::FutureRevision { requested: ahead, current };
    let past = || KvError::Compacted { requested: gone, compacted };
    let lost = || KvError::LeaseNotFound(NO_LEASE);
    let keep = Put { value: None, ..Put::new("nowhere", "") };
    let fence = |key: &'static str| Fence { key: key.into(), token: Revision(1) };
    let bad = |what, ask, says| Bad { what, ask, says };
    let act = |op| Ask::Do(Action::Op(op));
    vec![
        bad("a read ahead", Ask::Read(at(ahead)), future()),
        bad("a read of what is compacted", Ask::Read(at(gone)), past()),
        bad("a compaction ahead", Ask::Do(Action::Compact(ahead)), future()),
        bad("a compaction again", Ask::Do(Action::Compact(gone)), past()),
        bad(
            "a put with an unknown lease",
            act(Op::Put(Put::new("a", "").with_lease(NO_LEASE))),
            lost(),
        ),
        bad("the end of an unknown lease", Ask::Do(Action::Revoke(NO_LEASE)), lost()),
        bad("a value kept of no key", act(Op::Put(keep)), KvError::KeyNotFound("nowhere".into())),
        bad(
            "a fence that was never held",
            Ask::Fenced(fence("b")),
            KvError::Fenced { token: Revision(1) },
        ),
        bad(
            "a fence without a key",
            Ask::Fenced(fence("")),
            KvError::Fenced { token: Revision(1) },
        ),
    ]
}

/// What is over a limit, or makes no sense, whatever there is.
fn of_form() -> Vec<Bad> {
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    let value = vec![b'v'; VALUE_BYTES_MAX + 1];
    let longer = vec![b'k'; KEY_BYTES_MAX + 2];
    let range = |start: Vec<u8>| Range::of(Keys::Range { start: start.into(), end: None });
    let many: Vec<Op> = (0..=TXN_OPS_MAX).map(|number| put(number.to_string(), "")).collect();
    let (count, limit) = (TXN_OPS_MAX as u64 + 1, TXN_OPS_MAX as u64);
    let twice = txn(vec![put("twice", "1"), put("twice", "2")]);
    let within = txn(vec![put("twice", "1"), Op::Txn(Box::new(txn(vec![put("twice", "2")])))]);
    let duplicate = || KvError::DuplicateKey("twice".into());
    let grant = |id, ttl_ms| Ask::Do(Action::Grant { id: Some(LeaseId(id)), ttl_ms });
    let (ttl_ms, limit_ms) = (LEASE_TTL_MAX_MS + 1, LEASE_TTL_MAX_MS);
    let deep = TXN_DEPTH_MAX + 1;
    let bad = |what, ask, says| Bad { what, ask, says };
    let act = |op| Ask::Do(Action::Op(op));
    vec![
        bad("a put without a key", act(put("", "")), KvError::KeyEmpty),
        bad(
            "a read without a key",
            Ask::Read(Range::of(Keys::One(Bytes::new()))),
            KvError::KeyEmpty,
        ),
        bad(
            "a key too long",
            act(put(key.clone(), "")),
            too_large("key", key.len(), KEY_BYTES_MAX),
        ),
        bad(
            "a range that begins with a key too long",
            Ask::Read(range(longer.clone())),
            too_large("key", longer.len(), KEY_BYTES_MAX + 1),
        ),
        bad(
            "a value too long",
            act(put("a", value.clone())),
            too_large("value", value.len(), VALUE_BYTES_MAX),
        ),
        bad(
            "too many operations",
            Ask::Do(Action::Txn(txn(many))),
            KvError::TooManyOps { count, limit },
        ),
        bad("too deep", Ask::Do(Action::Txn(nested(deep))), KvError::TooDeep(deep as u64)),
        bad("a key twice", Ask::Do(Action::Txn(twice)), duplicate()),
        bad("a key twice, once deeper", Ask::Do(Action::Txn(within)), duplicate()),
        bad("a lease for too long", grant(7, ttl_ms), KvError::LeaseTooLong { ttl_ms, limit_ms }),
        bad("a lease without a number", grant(0, 1000), malformed()),
        bad("a lease of a negative number", grant(1 << 63, 1000), malformed()),
    ]
}

/// What no client sends that means well.
fn of_the_wire(session: SessionId, expired: SessionId) -> Vec<Bad> {
    let id = |session, seq, unanswered_from| Some(RequestId { session, seq, unanswered_from });
    let unknown = SessionId(u64::MAX);
    let advance = Action::Advance(Advance { time_ms: u64::MAX, ..Advance::default() });
    let advance = codec::encode(&Command { request: None, fence: None, action: advance });
    let large = 2 * REQUEST_BYTES_MAX;
    let bad = |what, ask, says| Bad { what, ask, says };
    let write = |command: &'static [u8]| Ask::Body(RequestBody::Write(command.into()));
    vec![
        bad("an unknown session", Ask::Write(id(unknown, 1, 1)), KvError::SessionUnknown(unknown)),
        bad("an expired session", Ask::Write(id(expired, 2, 2)), KvError::SessionUnknown(expired)),
        bad("a request without a number", Ask::Write(id(session, 0, 0)), malformed()),
        bad("an answer of what comes later", Ask::Write(id(session, 2, 3)), malformed()),
        bad("a request far ahead", Ask::Write(id(session, 1 << 40, 1)), KvError::Overloaded),
        bad("a command that is none", write(b"\xff\xff\xff"), malformed()),
        bad("a command cut short", write(b"\x02\x00"), malformed()),
        bad("time", Ask::Body(RequestBody::Write(advance)), malformed()),
        bad("no request", Ask::Frame(Bytes::from_static(b"\xff\xfe\xfd")), malformed()),
        bad("nothing", Ask::Frame(Bytes::new()), malformed()),
        bad(
            "a request too large",
            Ask::Frame(vec![0; large].into()),
            too_large("request", large, REQUEST_BYTES_MAX),
        ),
    ]
}

/// What a client makes of it; `None` if its interface cannot say such a thing.
async fn by_client(client: &Client, ask: &Ask) -> Option<Result<(), ClientError>> {
    Some(match ask {
        Ask::Do(Action::Op(op)) => client.op(op.clone()).await.map(drop),
        Ask::Do(Action::Txn(txn)) => client.txn(txn.clone()).await.map(drop),
        Ask::Do(Action::Compact(revision)) => client.compact(*revision).await.map(drop),
        Ask::Do(Action::Revoke(id)) => client.revoke_lease(*id).await.map(drop),
        Ask::Do(Action::Grant { id, ttl_ms }) => {
            client.grant_lease(*id, Duration::from_millis(*ttl_ms)).await.map(drop)
        }
        Ask::Fenced(fence) => client.fenced(fence.clone()).put("a", "late").await.map(drop),
        Ask::Read(range) => client.get(range.clone(), Consistency::Linearizable).await.map(drop),
        _ => return None,
    })
}

/// Asks one member, and no other, with nothing in between that looks at the request.
async fn raw(cluster: &Cluster, node: NodeId, ask: &Ask) -> KvError {
    let late = || Action::Op(put("a", "late"));
    let command = |request, fence, action| {
        RequestBody::Write(codec::encode(&Command { request, fence, action }))
    };
    let body = match ask {
        Ask::Do(action) => command(None, None, action.clone()),
        Ask::Fenced(fence) => command(None, Some(fence.clone()), late()),
        Ask::Write(request) => command(*request, None, late()),
        Ask::Read(range) => {
            let (range, consistency) = (range.clone(), Consistency::Linearizable);
            RequestBody::Read { range, consistency }
        }
        Ask::Body(body) => body.clone(),
        Ask::Frame(frame) => return refusal(cluster, node, frame.clone()).await,
    };
    refusal(cluster, node, request(body)).await
}

fn request(body: RequestBody) -> Bytes {
    wire::encode_request(&Request { deadline_ms: PATIENCE.as_millis() as u32, body })
}

async fn refusal(cluster: &Cluster, node: NodeId, frame: Bytes) -> KvError {
    match asked(cluster, node, frame).await {
        Err(error) => error,
        Ok(ReplyBody::Write(reply)) => codec::decode::<CommandReply>(&reply).unwrap().unwrap_err(),
        Ok(other) => panic!("{other:?}"),
    }
}

async fn asked(cluster: &Cluster, node: NodeId, frame: Bytes) -> Reply {
    let channel = cluster.doors.connect(&node.to_string()).await.unwrap();
    wire::decode_reply(&channel.call(frame).await.unwrap()).unwrap()
}

fn assert_says(error: &KvError, bad: &Bad, by: &str) {
    let text_aside = |error: &KvError| match error {
        KvError::Malformed(_) => malformed(),
        other => other.clone(),
    };
    assert_eq!(text_aside(error), bad.says, "{}, {by}", bad.what);
}

/// Three voters and an observer.
async fn with_an_observer() -> Cluster {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    cluster.join(OBSERVER);
    let address = OBSERVER.to_string();
    let add = Change::Add { node: OBSERVER, address, promote: false };
    cluster.client(leader).with_deadline(PATIENCE).change_members(vec![add]).await.unwrap();
    cluster
}

/// Opens a session at a member.
async fn session(cluster: &Cluster) -> SessionId {
    let command = Command { request: None, fence: None, action: Action::OpenSession };
    let body = RequestBody::Write(codec::encode(&command));
    match asked(cluster, NodeId(1), request(body)).await {
        Ok(ReplyBody::Write(reply)) => match codec::decode::<CommandReply>(&reply).unwrap() {
            Ok(ActionReply::Session(id)) => id,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Lets so much time pass in the log that sessions end that were opened before.
async fn sessions_end(cluster: &Cluster) {
    for step in 1..=4 {
        // Whoever leads may have told the time meanwhile.
        loop {
            let node: &Node = &cluster.nodes[&cluster.leader().await];
            let summary = codec::encode(&Query::Summary);
            let mode = raft_core::node::ReadMode::Local;
            let summary: Summary =
                codec::decode(&node.query(summary, mode).await.unwrap().reply).unwrap();
            let (seen, since) = (summary.last_applied, summary.stamped);
            let time_ms = summary.time_ms.max(step * SESSION_IDLE_MS) + SESSION_IDLE_MS;
            let advance = Advance { time_ms, seen, renewed: vec![], since };
            let action = Action::Advance(advance);
            let command = codec::encode(&Command { request: None, fence: None, action });
            let Ok(done) = node.propose(command).await else { continue };
            if codec::decode::<CommandReply>(&done.reply).unwrap().is_ok() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_wrongly_is_answered_the_same_by_every_member() {
    let cluster = with_an_observer().await;
    let first = cluster.client(NodeId(1)).with_deadline(PATIENCE);
    let expired = session(&cluster).await;
    sessions_end(&cluster).await;
    let session = session(&cluster).await;
    for value in ["1", "2", "3"] {
        first.put("a", value).await.unwrap();
    }
    let compacted = first.get_one("a").await.unwrap().unwrap().mod_revision;
    first.compact(compacted).await.unwrap();
    let mut current = compacted;
    let members: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    assert_eq!(members.len(), 4);
    for node in members {
        let client = cluster.client(node).with_deadline(PATIENCE);
        let count = of_data(current, compacted).len();
        for number in 0..count + of_form().len() + of_the_wire(session, expired).len() {
            let all = of_data(current, compacted).into_iter().chain(of_form());
            let bad = all.chain(of_the_wire(session, expired)).nth(number).unwrap();
            assert_says(&raw(&cluster, node, &bad.ask).await, &bad, &format!("raw, by {node}"));
            if let Some(answer) = by_client(&client, &bad.ask).await {
                let Err(ClientError::Refused(error)) = answer else {
                    panic!("{}: {answer:?}", bad.what)
                };
                assert_says(&error, &bad, &format!("by {node}'s client"));
            }
            // Nothing came of it, and nothing is in the way.
            let after = client.put("after", bad.what).await.unwrap().revision;
            assert_eq!(after, Revision(current.0 + 1), "{} at {node}", bad.what);
            current = after;
        }
    }
    assert_eq!(first.get_one("a").await.unwrap().unwrap().value, "3");
}

/// Who writes a client finds every refusal in one place.
#[test]
fn the_documentation_names_every_error_of_the_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/consistency.md");
    let text = fs::read_to_string(path).unwrap();
    let (some, other) = (Revision(9), Revision(4));
    let all = of_data(some, other).into_iter().chain(of_form());
    let all = all.chain(of_the_wire(SessionId(1), SessionId(2)));
    let name = |bad: Bad| {
        let says = format!("{:?}", bad.says);
        says.split([' ', '(', '{']).next().unwrap().to_owned()
    };
    let missing: BTreeSet<String> =
        all.map(name).filter(|name| !text.contains(&format!("| `{name}` |"))).collect();
    assert_eq!(missing, BTreeSet::new());
}

/// A member without a vote answers reads of one key and of ranges in every mode, each as fresh as
/// it has to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_answers_reads_of_every_mode() {
    let cluster = with_an_observer().await;
    let voter = cluster.client(NodeId(1)).with_deadline(PATIENCE);
    let observer = cluster.client(OBSERVER).with_deadline(PATIENCE);
    let ranges = || [Range::of(Keys::One("key".into())), Range::of(Keys::prefix("k"))];
    let values = |found: &RangeReply| -> Vec<Bytes> {
        found.kvs.iter().map(|pair| pair.value.clone()).collect()
    };
    let mut position = observer.read(ranges()[0].clone(), Consistency::Linearizable).await.unwrap();
    assert_eq!(values(&position.range), Vec::<Bytes>::new());
    for number in 0..20 {
        let value = Bytes::from(number.to_string());
        let revision = voter.put("key", value.clone()).await.unwrap().revision;
        let token = Position { epoch: position.position.epoch, revision };
        // In turn, as whatever reads first has the observer come so far.
        let first = match number % 2 {
            0 => Consistency::Linearizable,
            _ => Consistency::AtLeast(token),
        };
        for mode in [first, Consistency::Serializable, Consistency::AtLeast(token)] {
            for range in ranges() {
                let found = observer.read(range, mode).await.unwrap();
                assert_eq!(values(&found.range), std::slice::from_ref(&value), "{mode:?}");
                assert!(found.position >= token, "{mode:?}");
                if mode == Consistency::Linearizable {
                    assert_eq!(found.staleness, Some(Duration::ZERO));
                }
                position = found;
            }
        }
    }

    // Cut off it still has what it had, and promises no more. A client would ask another one.
    cluster.isolate(OBSERVER);
    let revision = voter.put("key", "after").await.unwrap().revision;
    let ahead = Position { revision, ..position.position };
    let alone = async |range: Range, consistency| {
        let body = RequestBody::Read { range, consistency };
        let request = wire::encode_request(&Request { deadline_ms: 1_000, body });
        match asked(&cluster, OBSERVER, request).await {
            Ok(ReplyBody::Range(found)) => Ok(values(&found)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    for range in ranges() {
        for mode in [Consistency::Serializable, Consistency::AtLeast(position.position)] {
            assert_eq!(alone(range.clone(), mode).await, Ok(vec!["19".into()]), "{mode:?}");
        }
        for mode in [Consistency::Linearizable, Consistency::AtLeast(ahead)] {
            let refused = alone(range.clone(), mode).await.unwrap_err();
            let why = matches!(refused, KvError::Unavailable(_) | KvError::NoQuorum { .. });
            assert!(why, "{mode:?}: {refused:?}");
        }
    }
    cluster.network.isolate(OBSERVER, false);
    for range in ranges() {
        for mode in [Consistency::AtLeast(ahead), Consistency::Linearizable] {
            let found = observer.get(range.clone(), mode).await.unwrap();
            assert_eq!(values(&found), ["after"], "{mode:?}");
        }
    }
    assert_ne!(cluster.nodes[&OBSERVER].status().last_applied, Index::ZERO);
}
