//! What a restarted node still holds to.

use raft_core::raft::{Config, Envelope, Input, Loaded, Message, Raft};
use raft_core::types::{HardState, LogId, Member, Membership, NodeId, Sender, SnapshotMeta, Term};

/// Whether `candidate` gets the vote of a restarted node 1 in a term in which that voted for
/// `voted`.
fn grants(voted: Option<NodeId>, candidate: NodeId) -> bool {
    let term = Term(5);
    let member = |id| (NodeId(id), Member::default());
    let membership = Membership::of_voters([1, 2, 3].map(member).into());
    let loaded = Loaded {
        hard_state: HardState { term, vote: voted },
        snapshot: SnapshotMeta { last: LogId::ZERO, membership },
        ..Loaded::default()
    };
    let config = Config { id: NodeId(1), ..Config::default() };
    let patience = config.election_ticks_min;
    let mut raft = Raft::new(config, loaded, SnapshotMeta::default(), 1).unwrap();
    // What it may have promised to a leader before its restart is over; its vote is not.
    (0..patience).for_each(|_| raft.step(Input::Tick));
    let message = Message::RequestVote { last_log: LogId::ZERO, pre_vote: false, transfer: false };
    let (to, sender) = (NodeId(1), Sender::default());
    raft.step(Input::Message(Envelope { from: candidate, to, term, sender, message }));
    let mut output = raft.take_output();
    if let Some(write) = output.write.take() {
        raft.step(Input::Persisted(write.seq));
        output.messages.extend(raft.take_output().messages);
    }
    let granted = |envelope: &Envelope| match envelope.message {
        Message::RequestVoteResponse { granted, .. } => Some(granted),
        _ => None,
    };
    output.messages.iter().find_map(granted).expect("the request is answered")
}

/// One vote a term (figure 2), across restarts.
#[test]
fn a_vote_holds_over_a_restart() {
    let [second, third] = [NodeId(2), NodeId(3)];
    assert!(grants(None, second), "it has not voted");
    assert!(grants(Some(second), second), "the answer may have been lost");
    assert!(!grants(Some(third), second), "it has voted for another");
    assert!(!grants(Some(NodeId(1)), second), "it has voted for itself");
}
