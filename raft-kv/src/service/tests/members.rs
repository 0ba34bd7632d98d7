//! Members told and changed, and what a node says that is none.

use super::*;
use crate::api::{Health, Members};
use raft_core::types::InvalidChange;

fn add() -> Vec<Change> {
    vec![Change::Add { node: NodeId(4), address: "host4:1".into(), promote: true }]
}

fn change() -> RequestBody {
    RequestBody::ChangeMembers(add())
}

fn grown() -> Membership {
    status(RoleName::Leader, Some(1), &[]).membership.changed(&add()).expect("it makes sense")
}

fn members() -> Reply {
    let (cluster, leader) = (ClusterId(5), Some(NodeId(1)));
    Ok(ReplyBody::Members(Box::new(Members { cluster, leader, membership: grown() })))
}

impl Fixture {
    fn changes(&self, answers: impl IntoIterator<Item = Result<Membership, ChangeError>>) {
        self.node.changes.lock().expect("unpoisoned").extend(answers);
    }

    fn tried(&self) -> usize {
        self.node.changed.lock().expect("unpoisoned").len()
    }

    fn know(&self, change: impl FnOnce(&mut Status)) {
        let mut status = (*self.node.status()).clone();
        change(&mut status);
        self.node.status.send_replace(Arc::new(status));
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_changes_the_members() {
    let at = Fixture::new(Some(1));
    at.changes([Ok(grown())]);
    assert_eq!(at.request(change()).await, members());
    assert_eq!(*at.node.changed.lock().expect("unpoisoned"), [add()]);

    let at = Fixture::new(Some(2));
    at.peer_answers([Ok(wire::encode_reply(&members()))]);
    assert_eq!(at.request(change()).await, members());
    assert_eq!((at.called(), at.tried()), (vec![NodeId(2)], 0));
    let reply = at.ask(Caller::Node(NodeId(3)), request(change())).await;
    assert_eq!(reply, unavailable("not the leader, n2 is"));
}

/// The cluster makes changes of its own.
#[tokio::test(start_paused = true)]
async fn a_change_waits_for_the_one_before() {
    let at = Fixture::new(Some(1));
    let pending = ChangeError::Pending { index: Index(9) };
    at.changes([Err(ChangeError::NotReady), Err(pending), Err(ChangeError::HandingOver)]);
    at.changes([Ok(grown())]);
    assert_eq!(at.request(change()).await, members());
    assert_eq!(at.tried(), 4);
    at.node.status.send_replace(status(RoleName::Leader, Some(1), &[(2, 10), (3, 10)]));
    at.changes((0..1000).map(|_| Err(pending)));
    let reply = at.request(change()).await;
    assert_eq!(reply, unavailable("another membership change is under way, at index 9"));
}

#[tokio::test(start_paused = true)]
async fn a_change_in_doubt_is_not_repeated() {
    let at = Fixture::new(Some(1));
    at.changes([Err(ChangeError::LeadershipLost), Ok(grown())]);
    let reply = at.request(change()).await;
    assert_eq!(reply, unknown("leadership lost before the outcome was known"));
    assert_eq!(at.tried(), 1);

    let at = Fixture::new(Some(2));
    at.peer_answers([lost(), Ok(wire::encode_reply(&members()))]);
    assert_eq!(at.request(change()).await, unknown("leader n2: connection lost"));
    assert_eq!(at.called().len(), 1);

    // A leader that lost its quorum meanwhile cannot know either.
    let at = Fixture::new(Some(1));
    at.node.status.send_replace(status(RoleName::Leader, Some(1), &[(2, 4100), (3, 10)]));
    at.know(|status| status.peers[1].stalled = Duration::from_secs(2));
    let error = at.request(change()).await.unwrap_err();
    assert!(error.may_have_run(), "{error}");
    let text = "outcome unknown: no quorum 1/3: n2 unreachable 4.1 s, n3 disk stalled 2.0 s";
    assert_eq!(error.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_with_the_reason_and_a_way_out() {
    let at = Fixture::new(Some(1));
    let invalid = [
        (InvalidChange::NoVoters.into(), "no voter would be left", "add another voter first"),
        (InvalidChange::Unheard(NodeId(4)).into(), "n4 was never heard of", "start it"),
        (ChangeError::TooOld, "some member is of a version", "upgrade every node"),
        (ChangeError::Behind { node: NodeId(4) }, "n4 has not caught up", "try again"),
        (ChangeError::NoQuorum, "too few voters of the new", "start those that are away"),
    ];
    for (error, why, what) in invalid {
        at.changes([Err(error)]);
        let error = at.request(change()).await.unwrap_err();
        let KvError::ChangeRefused { reason, advice } = &error else { panic!("{error}") };
        assert!(reason.starts_with(why) && advice.starts_with(what), "{reason}; {advice}");
    }
    let tried = at.tried();
    let malformed = [
        vec![],
        vec![Change::Readdress { node: NodeId(1), address: String::new() }],
        vec![Change::Readdress { node: NodeId(1), address: "h".repeat(262) }],
        vec![Change::Promote { node: NodeId(1) }; 65],
    ];
    for changes in malformed {
        let reply = at.request(RequestBody::ChangeMembers(changes)).await;
        assert!(!reply.unwrap_err().may_have_run());
    }
    assert_eq!(at.tried(), tried);
}

#[tokio::test(start_paused = true)]
async fn a_node_says_that_it_does_not_belong_to_the_cluster() {
    let at = Fixture::new(None);
    let refused = async || at.request(change()).await.unwrap_err().to_string();
    at.know(|status| {
        (status.membership, status.bound) = (Membership::default(), false);
        status.missing = vec![NodeId(2), NodeId(3)];
    });
    assert_eq!(refused().await, "not formed yet: waiting for n2, n3");
    at.know(|status| status.missing.clear());
    assert_eq!(refused().await, "not formed yet: waiting to be added to a cluster");
    at.know(|status| {
        let two = [2, 3].map(|id| (NodeId(id), Member::default()));
        status.membership = Membership::of_voters(two.into());
    });
    assert_eq!(refused().await, "n1 was removed from the cluster: ask another node");
    at.node.status.send_replace(status(RoleName::Follower, None, &[(2, 10), (3, 10)]));
    at.know(|status| status.bound = false);
    let lost =
        "n1 has come back without what it had stored, and waits for a leader to take it back";
    assert_eq!(refused().await, lost);
}

#[tokio::test(start_paused = true)]
async fn health_tells_what_may_be_wrong() {
    let at = Fixture::new(None);
    at.node.status.send_replace(status(RoleName::PreCandidate, None, &[(2, 4100), (3, 9000)]));
    at.know(|status| {
        (status.waiting, status.transfer) = (Duration::from_millis(300), Some(NodeId(2)));
        status.peers[0].other_life = Some(Incarnation(9));
    });
    let Ok(ReplyBody::Health(health)) = at.request(RequestBody::Health).await else { panic!() };
    let Health { members, bound, waiting_ms, transfer, timing, no_quorum, peers, .. } = *health;
    assert_eq!((members.cluster, members.membership.voters().len()), (ClusterId(5), 3));
    assert_eq!((bound, waiting_ms, transfer, timing), (true, 300, Some(NodeId(2)), None));
    let text = "no quorum 1/3: n2 back as another life, n3 unreachable 9.0 s";
    assert_eq!(no_quorum.expect("there is none").text, text);
    assert!(peers[0].other_life && !peers[1].other_life);
}
