//! What a node does not pass on while a member would not understand it.

use super::*;
use crate::api::{AlarmChange, AlarmKind, MemberAlarm};
use raft_core::types::Version;

/// An older leader would call it nonsense.
#[tokio::test(start_paused = true)]
async fn no_alarm_is_forwarded_while_a_member_is_old() {
    let at = Fixture::new(Some(2));
    let now = (*status(RoleName::Follower, Some(2), &[(2, 10), (3, 10)])).clone();
    let mut old = now.clone();
    old.membership = old.membership.upgraded(Version(3));
    old.peers[0].version = Version(3);
    old.peers[1].version = Version(4);
    at.node.status.send_replace(Arc::new(old));
    let alarm = MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(1) };
    let raise = Action::Alarm(AlarmChange::Raise(alarm));
    let raise = || encode_write(DEADLINE_MS, None, None, &raise, 0);
    let refused = at.ask(CLIENT, raise()).await.unwrap_err();
    assert!(refused.to_string().contains("being upgraded: n2 is of an older"), "{refused}");
    assert_eq!(at.called(), []);
    at.peer_answers([Ok(wire::encode_reply(&written()))]);
    assert_eq!(at.ask(CLIENT, put(false)).await, written());
    at.node.status.send_replace(Arc::new(now));
    at.peer_answers([Ok(wire::encode_reply(&written()))]);
    assert_eq!(at.ask(CLIENT, raise()).await, written());
    assert_eq!(at.called(), [NodeId(2), NodeId(2)]);
}
