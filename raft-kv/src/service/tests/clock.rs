//! What leaders do by themselves: time, leases, compaction, and what they refuse; on a real store.

use super::super::clock::KEEP_ALIVES_MAX;
use super::super::{Compaction, QUOTA_BYTES};
use super::*;
use crate::api::{
    Advance, AlarmChange, AlarmKind, Authority, Command, CommandReply, KEEP_ALIVE_MAX, LeaseAnswer,
    LeaseId, MemberAlarm, Space, Txn,
};
use crate::store::{KvStore, SESSION_IDLE_MS};
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, Payload, Run, Version};
use std::sync::MutexGuard;
use tokio::task::JoinSet;

const A: LeaseId = LeaseId(0xa);
const TTL_MS: u64 = 10_000;

/// What the nodes of a cluster share: a log that always commits, and what it makes of a store.
struct Shared {
    store: KvStore,
    log: Vec<Command>,
    /// How the next proposals fail instead of being applied.
    failures: VecDeque<ProposeError>,
}

/// A node of such a cluster; it leads if its status says so.
#[derive(Clone)]
struct StoreNode {
    status: watch::Sender<Arc<Status>>,
    shared: Arc<Mutex<Shared>>,
    /// How long a proposal takes.
    delay: Duration,
}

impl StoreNode {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("unpoisoned")
    }
}

impl Shared {
    fn apply(&mut self, command: &Bytes) -> Proposed {
        self.log.push(codec::decode(command).expect("a command"));
        let id = LogId::new(self.log.len() as u64, 1);
        let entry = Entry { id, payload: Payload::Command(command.clone()) };
        let run = Run::new(vec![entry]).expect("one entry is a run");
        Proposed { id, reply: self.store.apply(&run).remove(0) }
    }

    /// As somebody else's request.
    fn run(&mut self, action: Action) -> CommandReply {
        let command = codec::encode(&Command { request: None, fence: None, action });
        codec::decode(&self.apply(&command).reply).expect("a reply")
    }

    fn stamps(&self) -> Vec<&Advance> {
        let stamp = |command: &'_ Command| matches!(command.action, Action::Advance(_));
        let stamps = self.log.iter().filter(|command| stamp(command));
        stamps
            .map(|command| match &command.action {
                Action::Advance(advance) => advance,
                _ => unreachable!("filtered"),
            })
            .collect()
    }
}

impl Replica for StoreNode {
    async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        tokio::time::sleep(self.delay).await;
        let mut shared = self.shared();
        match shared.failures.pop_front() {
            Some(error) => Err(error),
            None => Ok(shared.apply(&command)),
        }
    }

    async fn query(&self, query: Bytes, _: ReadMode) -> Result<Queried, QueryError> {
        let shared = self.shared();
        let applied = Index(shared.log.len() as u64);
        Ok(Queried { reply: shared.store.query(&query), applied, staleness: None })
    }

    async fn change_membership(&self, _: Vec<Change>) -> Result<Changed, ChangeError> {
        std::future::pending().await
    }

    async fn transfer_leadership(&self, _: Option<NodeId>) -> Result<NodeId, TransferError> {
        std::future::pending().await
    }

    fn checkpoint(&self) -> Result<(), QueryError> {
        Ok(())
    }

    fn status(&self) -> Arc<Status> {
        let applied = Index(self.shared().log.len() as u64);
        self.status.send_if_modified(|status| {
            if status.last_applied != applied {
                *status = Arc::new(Status { last_applied: applied, ..(**status).clone() });
            }
            false
        });
        Arc::clone(&self.status.borrow())
    }

    async fn status_changed(&self) {
        self.status.subscribe().changed().await.expect("the sender lives as long");
    }

    async fn leader_changed(&self, from: Option<NodeId>) {
        self.status
            .subscribe()
            .wait_for(|status| status.leader != from)
            .await
            .expect("the sender lives as long");
    }

    async fn stopped(&self) -> StopCause {
        std::future::pending().await
    }
}

/// Node 1, with its clock running.
struct Leader {
    door: Arc<Door<StoreNode>>,
    node: StoreNode,
}

impl Leader {
    fn new(compaction: Compaction, quota_bytes: u64) -> Self {
        Self::delayed(compaction, quota_bytes, Duration::from_millis(3))
    }

    fn delayed(compaction: Compaction, quota_bytes: u64, delay: Duration) -> Self {
        let store = KvStore::in_memory();
        let handle = store.handle();
        let shared = Shared { store, log: Vec::new(), failures: VecDeque::new() };
        let shared = Arc::new(Mutex::new(shared));
        let status = watch::Sender::new(status(RoleName::Leader, Some(1), &[]));
        let node = StoreNode { status, shared, delay };
        let peers = Arc::<FakePeers>::default();
        let longest = Duration::from_secs(60);
        let mut door = Door::new(node.clone(), handle, longest, GroupId(0), peers, "1".into());
        door.quota_bytes = quota_bytes;
        tokio::spawn(door.take_ticker(compaction).run());
        Self { door: Arc::new(door), node }
    }

    fn plain() -> Self {
        Self::new(Compaction::Off, QUOTA_BYTES)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.node.shared()
    }

    async fn ask(&self, body: RequestBody) -> Reply {
        self.ask_within(DEADLINE_MS, body).await
    }

    async fn ask_within(&self, deadline_ms: u32, body: RequestBody) -> Reply {
        let frame = wire::encode_request(&Request { deadline_ms, body });
        wire::decode_reply(&self.door.answer(Asker::of(CLIENT), frame).await).expect("a reply")
    }

    async fn write(&self, action: Action) -> Result<ActionReply, KvError> {
        let command = codec::encode(&Command { request: None, fence: None, action });
        match self.ask(RequestBody::Write(command)).await? {
            ReplyBody::Write(reply) => codec::decode(&reply).expect("a reply"),
            other => panic!("{other:?}"),
        }
    }

    async fn grant(&self, id: LeaseId) {
        self.write(Action::Grant { id: Some(id), ttl_ms: TTL_MS }).await.expect("it is free");
    }

    async fn keep_alive(&self, leases: &[LeaseId]) -> Result<Vec<u64>, KvError> {
        match self.ask(RequestBody::KeepAlive(leases.to_vec())).await? {
            ReplyBody::KeptAlive(ttls) => Ok(ttls),
            other => panic!("{other:?}"),
        }
    }

    /// So many requests at once.
    async fn keep_alive_often(&self, count: usize, leases: &[LeaseId]) -> Vec<Reply> {
        let mut requests = JoinSet::new();
        let body = RequestBody::KeepAlive(leases.to_vec());
        let frame = wire::encode_request(&Request { deadline_ms: DEADLINE_MS, body });
        for _ in 0..count {
            let (door, frame) = (Arc::clone(&self.door), frame.clone());
            requests.spawn(async move { door.answer(Asker::of(CLIENT), frame).await });
        }
        let replies = requests.join_all().await;
        replies.iter().map(|reply| wire::decode_reply(reply).expect("a reply")).collect()
    }

    async fn lease(&self, id: LeaseId) -> LeaseAnswer {
        match self.ask(RequestBody::Lease { id, keys: true }).await {
            Ok(ReplyBody::Lease(lease)) => lease.map(|lease| *lease),
            other => panic!("{other:?}"),
        }
    }

    fn lead(&self, leader: Option<u64>) {
        self.node.status.send_replace(status(RoleName::Follower, leader, &[]));
    }
}

async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn put(value: usize) -> Action {
    Action::Op(Op::Put(Put::new("key", vec![7; value])))
}

#[tokio::test(start_paused = true)]
async fn an_idle_empty_store_writes_nothing() {
    let leader = Leader::plain();
    leader.write(put(1)).await.expect("there is room");
    pass(600_000).await;
    assert_eq!(leader.shared().log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn time_passes_once_a_second_while_leases_live_and_they_end_on_time() {
    let leader = Leader::plain();
    pass(5_500).await;
    let granted = Instant::now();
    leader.grant(A).await;
    while leader.lease(A).await.is_some() {
        pass(10).await;
    }
    let lived = granted.elapsed();
    assert!(lived >= Duration::from_millis(TTL_MS), "after {lived:?}");
    assert!(
        lived <= Duration::from_millis(TTL_MS + 2_100),
        "the clock is a simulated one: {lived:?}"
    );
    let stamps = leader.shared().stamps().len();
    assert!((11..=13).contains(&stamps), "{stamps}");
    pass(100_000).await;
    assert_eq!(leader.shared().stamps().len(), stamps);
}

#[tokio::test(start_paused = true)]
async fn time_passes_once_a_minute_while_only_sessions_live() {
    let leader = Leader::plain();
    leader.write(Action::OpenSession).await.expect("there is room");
    pass(SESSION_IDLE_MS).await;
    let stamps = leader.shared().stamps().len();
    assert!((55..=60).contains(&stamps), "{stamps}");
    assert_eq!(leader.shared().store.summary().sessions, 1);
    // It is dropped, and then nothing more is written.
    pass(180_000).await;
    assert_eq!(leader.shared().store.summary().sessions, 0);
    let entries = leader.shared().log.len();
    pass(600_000).await;
    assert_eq!(leader.shared().log.len(), entries);
}

/// Requests that come while a stamp is under way share the next one. Time passes nonetheless.
#[tokio::test(start_paused = true)]
async fn keep_alives_are_batched_and_time_passes_under_them() {
    const DELAY: Duration = Duration::from_millis(70);
    let started = Instant::now();
    let leader = Leader::delayed(Compaction::Off, QUOTA_BYTES, DELAY);
    leader.grant(A).await;
    leader.grant(LeaseId(0xb)).await;
    let mut asked = 0;
    while started.elapsed() < Duration::from_millis(2 * TTL_MS) {
        for reply in leader.keep_alive_often(30, &[LeaseId(9), A]).await {
            assert_eq!(reply, Ok(ReplyBody::KeptAlive(vec![0, TTL_MS])));
            asked += 1;
        }
    }
    // The other was not kept alive, and ended.
    assert!(leader.lease(A).await.is_some() && leader.lease(LeaseId(0xb)).await.is_none());
    let shared = leader.shared();
    let stamps = shared.stamps();
    assert!(stamps.len() * 10 < asked, "{} stamps for {asked}", stamps.len());
    // To the delay of a stamp it is as late as it should be: nothing is lost under way.
    let behind = started.elapsed() - Duration::from_millis(shared.store.summary().time_ms);
    assert!(behind < 3 * DELAY, "the clock is a simulated one: {behind:?}");
}

#[tokio::test(start_paused = true)]
async fn what_ends_at_once_ends_without_waiting_for_the_next_second() {
    let leader = Leader::plain();
    for id in 1..=3_500 {
        let action = Action::Grant { id: Some(LeaseId(id)), ttl_ms: TTL_MS };
        leader.shared().run(action).expect("it is free");
    }
    pass(TTL_MS + 900).await;
    assert_eq!(leader.shared().store.summary().leases, 3_500);
    pass(1_100).await;
    assert_eq!(leader.shared().store.summary().leases, 0);
}

#[tokio::test(start_paused = true)]
async fn keep_alives_are_forwarded_and_repeated_and_bounded() {
    let leader = Leader::plain();
    leader.grant(A).await;
    let lost = ProposeError::LeadershipLost;
    leader.shared().failures.extend([lost, ProposeError::Overloaded, lost]);
    assert_eq!(leader.keep_alive(&[A]).await, Ok(vec![TTL_MS]));
    assert_eq!(leader.keep_alive(&[]).await, Ok(vec![]));
    let many = vec![A; KEEP_ALIVE_MAX];
    assert_eq!(leader.keep_alive(&many).await, Ok(vec![TTL_MS; KEEP_ALIVE_MAX]));
    let refused = leader.keep_alive(&vec![A; KEEP_ALIVE_MAX + 1]).await;
    assert!(matches!(refused, Err(KvError::Malformed(_) | KvError::TooManyOps { .. })));

    // The queue is full: some are told so, all of them in time.
    let replies = leader.keep_alive_often(2 * KEEP_ALIVES_MAX, &many).await;
    let overloaded = replies.iter().filter(|reply| **reply == Err(KvError::Overloaded)).count();
    let kept = replies.iter().filter(|reply| reply.is_ok()).count();
    assert!(overloaded > 0 && kept > 0, "{overloaded} and {kept}");

    let at = Fixture::new(Some(2));
    at.peer_answers([lost_answer(), Ok(wire::encode_reply(&Ok(ReplyBody::KeptAlive(vec![5]))))]);
    let body = RequestBody::KeepAlive(vec![A]);
    assert_eq!(at.request(body.clone()).await, Ok(ReplyBody::KeptAlive(vec![5])));
    assert_eq!(at.called(), [NodeId(2), NodeId(2)]);
    let reply = at.ask(Caller::Node(NodeId(3)), request(body)).await;
    assert_eq!(reply, unavailable("not the leader, n2 is"));
}

fn lost_answer() -> Result<Bytes, CallError> {
    Err(CallError::Lost("connection lost".into()))
}

/// Whoever has given up is not served: it may believe that its lease is over.
#[tokio::test(start_paused = true)]
async fn a_keep_alive_is_not_carried_out_after_its_deadline() {
    let leader = Leader::plain();
    leader.grant(A).await;
    pass(2_000).await;
    leader.lead(None);
    pass(200).await;
    let body = RequestBody::KeepAlive(vec![A]);
    let late = leader.ask_within(500, body).await.unwrap_err();
    assert!(!late.may_have_run(), "{late}");
    leader.lead(Some(1));
    pass(TTL_MS).await;
    assert_eq!(leader.lease(A).await, None);
}

/// Nor when it waited for a stamp that took too long.
#[tokio::test(start_paused = true)]
async fn a_keep_alive_is_given_up_with_the_one_who_asked() {
    let delay = Duration::from_secs(2);
    let leader = Leader::delayed(Compaction::Off, QUOTA_BYTES, delay);
    for id in [A, LeaseId(0xb)] {
        let action = Action::Grant { id: Some(id), ttl_ms: TTL_MS };
        leader.shared().run(action).expect("it is free");
    }
    let ask =
        |deadline_ms, id| leader.ask_within(deadline_ms, RequestBody::KeepAlive(vec![LeaseId(id)]));
    let (kept, given_up) = tokio::join!(ask(60_000, 0xa), async {
        pass(500).await;
        ask(500, 0xb).await
    });
    assert_eq!(kept, Ok(ReplyBody::KeptAlive(vec![TTL_MS])));
    assert!(given_up.is_err());
    assert_eq!(ask(60_000, 0xa).await, Ok(ReplyBody::KeptAlive(vec![TTL_MS])));
    let shared = leader.shared();
    let renewed = shared.stamps().into_iter().flat_map(|stamp| &stamp.renewed);
    assert_eq!(renewed.copied().collect::<Vec<_>>(), [A, A]);
}

/// The time between the last stamp and the next leader's look is given to the holders; nothing
/// else is, and nothing is taken.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_lease_survives_a_change_of_leaders() {
    let leader = Leader::plain();
    let granted = Instant::now();
    leader.grant(A).await;
    pass(4_000).await;
    for _ in 0..2 {
        leader.lead(Some(2));
        pass(500).await;
        // Another leader has advanced the time meanwhile.
        let (seen, since) = (Index(0), leader.shared().store.summary().stamped);
        let time_ms = leader.shared().store.summary().time_ms + 100;
        let advance = Advance { time_ms, seen, since, renewed: vec![] };
        leader.shared().run(Action::Advance(advance)).expect("it is the next");
        pass(300).await;
        leader.lead(Some(1));
        pass(3_000).await;
    }
    let left = leader.lease(A).await.expect("it lives").remaining_ms;
    let lived = granted.elapsed().as_millis() as u64;
    assert!(left >= TTL_MS.saturating_sub(lived), "{left} after {lived}");
    assert!(left < TTL_MS - 6_000, "{left} after {lived}: every leader gives a second or two");
    while leader.lease(A).await.is_some() {
        pass(50).await;
    }
    assert!(granted.elapsed() >= Duration::from_millis(TTL_MS));
}

/// A stamp that names another than the last is refused, and made anew.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_paused_begins_anew() {
    let leader = Leader::plain();
    leader.grant(A).await;
    pass(2_500).await;
    // It does not notice that another one led.
    let since = leader.shared().store.summary().stamped;
    let time_ms = leader.shared().store.summary().time_ms;
    let seen = Index(leader.shared().log.len() as u64);
    let other = Advance { time_ms, seen, since, renewed: vec![] };
    leader.shared().run(Action::Advance(other)).expect("it is the next");
    assert_eq!(leader.keep_alive(&[A]).await, Ok(vec![TTL_MS]));
    let shared = leader.shared();
    let stamps = shared.stamps();
    let [.., refused, taken] = &stamps[..] else { panic!("{stamps:?}") };
    assert_eq!((refused.since, taken.since > since), (since, true));
    assert!(taken.time_ms < refused.time_ms, "what it had measured before does not count");
}

#[tokio::test(start_paused = true)]
async fn time_is_not_for_clients() {
    let leader = Leader::plain();
    let refused = leader.write(Action::Advance(Advance::default())).await;
    assert!(matches!(refused, Err(KvError::Malformed(_))), "{refused:?}");
    let action = Action::Advance(Advance::default());
    let command = codec::encode(&Command { request: None, fence: None, action });
    let frame = wire::encode_request(&Request {
        deadline_ms: DEADLINE_MS,
        body: RequestBody::Write(command),
    });
    let reply = leader.door.answer(Asker::of(Caller::Node(NodeId(2))), frame).await;
    assert!(matches!(wire::decode_reply(&reply), Ok(Err(KvError::Malformed(_)))));
    assert_eq!(leader.shared().log.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_growth_and_clears_by_itself() {
    let leader = Leader::new(Compaction::Off, 10_000);
    while leader.write(put(1_000)).await.is_ok() {}
    let full = leader.write(put(0)).await.unwrap_err();
    let KvError::Full { bytes, quota: 10_000 } = full else { panic!("{full}") };
    assert!(bytes >= 10_000);
    let within = || {
        let txn = Txn { failure: vec![Op::Put(Put::new("a", ""))], ..Txn::default() };
        Op::Txn(Box::new(txn))
    };
    let grow = [
        Action::Grant { id: None, ttl_ms: TTL_MS },
        Action::Txn(Txn { success: vec![within()], ..Txn::default() }),
        Action::Op(within()),
    ];
    for action in grow {
        let refused = leader.write(action).await;
        assert!(matches!(refused, Err(KvError::Full { .. })), "{refused:?}");
    }
    let space = Space { bytes, quota: 10_000 };
    assert!(space.warning().expect("it is full").contains("full: it takes no more"));
    let all = || Keys::all();
    let read = Op::Range(Range::of(all()));
    let delete = Op::Delete { keys: all(), prev_kv: false };
    leader.write(Action::OpenSession).await.expect("it takes no room that counts");
    leader.write(Action::Op(read)).await.expect("reads take none");
    leader.write(Action::Op(delete)).await.expect("it is to make room");
    let revision = leader.shared().store.summary().revision;
    leader.write(Action::Compact(revision)).await.expect("it makes room");
    leader.write(put(1_000)).await.expect("there is room again");
}

/// What would be refused where it is applied does not come into the log: that takes room, too.
#[tokio::test(start_paused = true)]
async fn what_an_alarm_refuses_is_not_logged() {
    let leader = Leader::new(Compaction::Revisions(0), u64::MAX);
    let alarm = MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(1) };
    leader.write(put(1)).await.expect("there is no alarm");
    leader.write(Action::Alarm(AlarmChange::Raise(alarm))).await.expect("there is room for it");
    let before = leader.shared().log.len();
    let refused = leader.write(put(1)).await;
    assert_eq!(refused, Err(KvError::Alarmed(AlarmKind::Corrupt)));
    // Nor does what the leader compacts by itself.
    pass(10_000).await;
    assert_eq!(leader.shared().log.len(), before);
    leader.write(Action::Alarm(AlarmChange::Clear(alarm))).await.expect("so that data is taken");
    leader.write(put(1)).await.expect("the alarm is over");
    pass(10_000).await;
    assert!(leader.shared().log.len() > before + 2, "history is compacted again");
}

#[tokio::test(start_paused = true)]
async fn health_warns_before_the_store_is_full() {
    let space = |bytes| Space { bytes, quota: 1_000 };
    assert_eq!((space(799).warning(), Space::default().warning().is_some()), (None, true));
    let warning = space(800).warning().expect("it is nearly full");
    let text = "the store is nearly full, 800 bytes of 1000: delete keys and compact, or let it \
                have a larger quota";
    assert_eq!(warning, text);
    let leader = Leader::new(Compaction::Off, 5_000);
    leader.write(put(1_000)).await.expect("there is room");
    let Ok(ReplyBody::Health(health)) = leader.ask(RequestBody::Health).await else { panic!() };
    let Ok(ReplyBody::Status(status)) = leader.ask(RequestBody::Status).await else { panic!() };
    assert_eq!((health.space, health.space.quota), (status.space, 5_000));
    assert!(health.space.bytes > 1_000);
}

#[tokio::test(start_paused = true)]
async fn old_revisions_are_compacted() {
    let compacted = |leader: &Leader| leader.shared().store.summary().compacted.0;
    let leader = Leader::new(Compaction::Revisions(160), QUOTA_BYTES);
    for _ in 0..169 {
        leader.shared().run(put(1)).expect("there is room");
    }
    pass(10_000).await;
    assert_eq!(compacted(&leader), 0, "a sixteenth more is kept, so that it is not done each time");
    for _ in 0..31 {
        leader.shared().run(put(1)).expect("there is room");
    }
    pass(1_500).await;
    assert_eq!(compacted(&leader), 201 - 160);
    let entries = leader.shared().log.len();
    pass(60_000).await;
    assert_eq!(leader.shared().log.len(), entries);

    let leader = Leader::new(Compaction::Periodic(Duration::from_secs(100)), QUOTA_BYTES);
    for _ in 0..300 {
        leader.shared().run(put(1)).expect("there is room");
        pass(1_000).await;
    }
    // A revision a second: what is older than the period is gone, but for a tenth of it.
    let summary = leader.shared().store.summary();
    let kept = summary.revision.0 - summary.compacted.0;
    assert!((99..=112).contains(&kept), "{kept}");
    pass(200_000).await;
    let summary = leader.shared().store.summary();
    assert_eq!(summary.compacted, summary.revision);
    let entries = leader.shared().log.len();
    pass(600_000).await;
    assert_eq!(leader.shared().log.len(), entries);
}

/// What older members would not understand does not come into the log.
#[tokio::test(start_paused = true)]
async fn nothing_new_is_proposed_while_a_member_is_old() {
    let leader = Leader::plain();
    leader.grant(A).await;
    let mut old = (*status(RoleName::Leader, Some(1), &[(2, 10), (3, 10)])).clone();
    old.membership = old.membership.upgraded(Version(2));
    old.peers[0].version = Version(3);
    leader.node.status.send_replace(Arc::new(old));
    let entries = leader.shared().log.len();
    let refused = leader.write(put(1)).await.unwrap_err();
    assert!(refused.to_string().contains("being upgraded: n3 is of an older"), "{refused}");
    assert!(leader.keep_alive(&[A]).await.is_err());
    pass(30_000).await;
    assert_eq!(leader.shared().log.len(), entries);
}

/// Alarms are newer than the rest, on whosoever's authority they are changed.
#[tokio::test(start_paused = true)]
async fn no_alarm_is_changed_while_a_member_is_old() {
    let leader = Leader::plain();
    let now = (*status(RoleName::Leader, Some(1), &[(2, 10), (3, 10)])).clone();
    let mut old = now.clone();
    old.membership = old.membership.upgraded(Version(3));
    old.peers[0].version = Version(4);
    old.peers[1].version = Version(3);
    leader.node.status.send_replace(Arc::new(old));
    leader.write(put(1)).await.expect("all members know it");
    let entries = leader.shared().log.len();
    let alarm = MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(1) };
    for change in [AlarmChange::Raise(alarm), AlarmChange::Clear(alarm)] {
        let refused = leader.write(Action::Alarm(change)).await.unwrap_err();
        assert!(refused.to_string().contains("being upgraded: n3 is of an older"), "{refused}");
        let signed = Action::As(Authority::Cluster, Box::new(Action::Alarm(change)));
        let command = codec::encode(&Command { request: None, fence: None, action: signed });
        let frame = wire::encode_request(&Request {
            deadline_ms: DEADLINE_MS,
            body: RequestBody::Write(command),
        });
        let reply = leader.door.answer(Asker::of(Caller::Node(NodeId(2))), frame).await;
        let refused = wire::decode_reply(&reply).expect("a reply").unwrap_err();
        assert!(refused.to_string().contains("being upgraded: n3 is of an older"), "{refused}");
    }
    assert_eq!(leader.shared().log.len(), entries);
    leader.node.status.send_replace(Arc::new(now));
    leader.write(Action::Alarm(AlarmChange::Raise(alarm))).await.expect("all members know it");
}
