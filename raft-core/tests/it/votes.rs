//! Who gets a vote, over every pair of small logs (§5.4.1).

use raft_core::raft::{Config, Envelope, Input, Loaded, Message, Raft};
use raft_core::types::{
    Entry, HardState, LogId, Member, Membership, NodeId, Payload, Run, Sender, SnapshotMeta, Term,
};

const TERMS: u64 = 3;
const LENGTH: usize = 3;

/// Every log of up to `LENGTH` entries of terms up to `TERMS`, which do not fall along it.
fn logs() -> Vec<Vec<u64>> {
    let mut logs: Vec<Vec<u64>> = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..LENGTH {
        let to = logs.len();
        for at in from..to {
            let least = logs[at].last().copied().unwrap_or(1);
            let longer = (least..=TERMS).map(|term| [logs[at].clone(), vec![term]].concat());
            logs.extend(longer.collect::<Vec<_>>());
        }
        from = to;
    }
    logs
}

fn last(log: &[u64]) -> LogId {
    log.last().map_or(LogId::ZERO, |term| LogId::new(log.len() as u64, *term))
}

/// Whether a node with the log `voter` grants its vote for the next term to one with `candidate`.
fn grants(voter: &[u64], candidate: &[u64]) -> bool {
    let member = |id| (NodeId(id), Member::default());
    let membership = Membership::of_voters([1, 2].map(member).into());
    let entry = |(at, term): (usize, &u64)| Entry {
        id: LogId::new(at as u64 + 1, *term),
        payload: Payload::Noop,
    };
    let run = Run::new(voter.iter().enumerate().map(entry).collect());
    let loaded = Loaded {
        hard_state: HardState { term: Term(TERMS), vote: None },
        snapshot: SnapshotMeta { last: LogId::ZERO, membership },
        entries: run.into_iter().collect(),
        ..Loaded::default()
    };
    let config = Config { id: NodeId(1), ..Config::default() };
    let patience = config.election_ticks_min;
    let mut raft = Raft::new(config, loaded, SnapshotMeta::default(), 1).unwrap();
    // What it may have promised before its restart is over.
    (0..patience).for_each(|_| raft.step(Input::Tick));
    let last_log = last(candidate);
    let message = Message::RequestVote { last_log, pre_vote: false, transfer: false };
    let (from, to, sender) = (NodeId(2), NodeId(1), Sender::default());
    raft.step(Input::Message(Envelope { from, to, term: Term(TERMS + 1), sender, message }));
    let write = raft.take_output().write.expect("the newer term is written down");
    raft.step(Input::Persisted(write.seq));
    let answers = raft.take_output().messages;
    let granted = |envelope: &Envelope| match envelope.message {
        Message::RequestVoteResponse { granted, .. } => Some(granted),
        _ => None,
    };
    answers.iter().find_map(granted).expect("the request is answered")
}

#[test]
fn a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date() {
    let logs = logs();
    assert_eq!(logs.len(), 20);
    for voter in &logs {
        for candidate in &logs {
            let (own, other) = (last(voter), last(candidate));
            // In the paper's words: the later term is more up-to-date, of equal ones the longer.
            let at_least =
                other.term > own.term || (other.term == own.term && other.index >= own.index);
            assert_eq!(grants(voter, candidate), at_least, "{voter:?} asked by {candidate:?}");
        }
    }
}
