//! Quorums counted by hand, changes step by step and at random, and the bytes of both versions.

use super::*;
use proptest::prelude::*;
use std::ops::Range;

const NODES: Range<u64> = 1..7;

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// A configuration of these sets, in which every node is bound to the life of its number.
fn of(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Membership {
    let member = |id: &u64| {
        let incarnation = Some(Incarnation(*id));
        (NodeId(*id), Member { incarnation, ..Member::new(format!("h{id}:1")) })
    };
    let members = [voters, outgoing, learners].into_iter().flatten().map(member).collect();
    let (voters, outgoing) = (ids(voters), ids(outgoing));
    Membership { voters, outgoing, members, version: Version::CURRENT, ..Membership::default() }
}

const fn add(node: u64, promote: bool) -> Change {
    Change::Add { node: NodeId(node), address: String::new(), promote }
}

const fn promote(node: u64) -> Change {
    Change::Promote { node: NodeId(node) }
}

const fn demote(node: u64) -> Change {
    Change::Demote { node: NodeId(node) }
}

const fn remove(node: u64) -> Change {
    Change::Remove { node: NodeId(node) }
}

fn readdress(node: u64, address: &str) -> Change {
    Change::Readdress { node: NodeId(node), address: address.into() }
}

const fn prioritize(node: u64, priority: u8) -> Change {
    Change::Prioritize { node: NodeId(node), priority }
}

/// All sets of nodes that are quorums, as bits.
fn quorums(membership: &Membership) -> Vec<u64> {
    let sets = 0..1_u64 << NODES.end;
    sets.filter(|set| membership.is_quorum(|node| set >> node.0 & 1 == 1)).collect()
}

/// What `overlaps` says, by looking at every two quorums.
fn overlaps_naively(a: &Membership, b: &Membership) -> bool {
    let b = quorums(b);
    quorums(a).iter().all(|a| b.iter().all(|b| a & b != 0))
}

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

fn decoded(bytes: &[u8]) -> Option<Membership> {
    let (membership, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(membership)
}

#[test]
fn quorums_and_the_failures_they_bear() {
    let table =
        [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (6, 4, 2), (7, 4, 3), (8, 5, 3)];
    for (voters, quorum, tolerated) in table.into_iter().chain([(9, 5, 4)]) {
        let membership = of(&(1..=voters).collect::<Vec<_>>(), &[], &[10, 11]);
        assert_eq!(membership.voter_count() as u64, voters);
        assert_eq!(membership.quorum_size() as u64, quorum, "{voters} voters");
        assert_eq!(membership.tolerated_failures() as u64, tolerated, "{voters} voters");
        for present in 0..=voters {
            let enough = present >= quorum;
            assert_eq!(membership.is_quorum(|node| node.0 <= present || node.0 > 9), enough);
        }
    }
    assert_eq!(Membership::default().tolerated_failures(), 0);
    assert!(!Membership::default().is_quorum(|_| true), "nobody can decide anything");
}

#[test]
fn a_joint_configuration_needs_both_halves() {
    let joint = of(&[1, 4, 5], &[1, 2, 3], &[6]);
    assert_eq!((joint.voter_count(), joint.quorum_size(), joint.tolerated_failures()), (5, 2, 1));
    let quorum = |nodes: &[u64]| joint.is_quorum(|node| nodes.contains(&node.0));
    assert!(quorum(&[1, 2, 4]) && quorum(&[2, 3, 4, 5]));
    assert!(!quorum(&[1, 2, 3]) && !quorum(&[1, 4, 5]) && !quorum(&[4, 5, 6, 2]));
    let values = [9, 7, 5, 3, 1];
    // Outgoing: 9, 7, 5. Incoming: 9, 3, 1.
    assert_eq!(joint.quorum_value(|node| values[node.0 as usize - 1]), 3);
}

#[test]
fn every_refusal() {
    let membership = of(&[1, 2, 3], &[], &[4]);
    let unheard = membership.changed(&[add(5, true)]).unwrap();
    let refused = |changes: &[Change]| unheard.changed(changes).unwrap_err();
    assert_eq!(refused(&[add(0, true)]), InvalidChange::NodeZero);
    for node in [1, 4, 5] {
        assert_eq!(refused(&[add(node, false)]), InvalidChange::AlreadyMember(NodeId(node)));
    }
    for change in [promote(9), demote(9), remove(9), readdress(9, "x:1"), prioritize(9, 1)] {
        assert_eq!(refused(&[change]), InvalidChange::NotMember(NodeId(9)));
    }
    assert_eq!(refused(&[promote(1)]), InvalidChange::AlreadyVoter(NodeId(1)));
    assert_eq!(refused(&[demote(4)]), InvalidChange::NotVoter(NodeId(4)));
    assert_eq!(refused(&[promote(5)]), InvalidChange::Unheard(NodeId(5)));
    assert_eq!(refused(&[remove(1), demote(2), remove(3)]), InvalidChange::NoVoters);
    for changes in [&[][..], &[readdress(1, "h1:1")], &[prioritize(1, 0)]] {
        assert_eq!(refused(changes), InvalidChange::Nothing);
    }
    // The first that is wrong, and nothing of the others.
    assert_eq!(refused(&[promote(4), demote(5), add(0, true)]), InvalidChange::NotVoter(NodeId(5)));
}

/// It would stay a voter without being a member, or leave twice.
#[test]
fn who_is_removed_is_not_changed_in_the_same_change() {
    let membership = of(&[1, 2, 3], &[], &[4]);
    for node in [2, 4] {
        for then in [remove(node), promote(node), readdress(node, "x:1"), prioritize(node, 1)] {
            let refused = membership.changed(&[remove(node), then]);
            assert_eq!(refused, Err(InvalidChange::NotMember(NodeId(node))));
        }
        let again = membership.changed(&[remove(node), add(node, true)]);
        assert_eq!(again, Err(InvalidChange::AlreadyMember(NodeId(node))));
    }
}

#[test]
fn a_joint_configuration_is_left_before_it_is_changed() {
    let joint = of(&[1, 2, 3], &[], &[4]).changed(&[promote(4)]).unwrap();
    for change in [remove(1), add(5, false), readdress(1, "x:1")] {
        assert_eq!(joint.changed(&[change]), Err(InvalidChange::Joint));
    }
    assert!(joint.left().changed(&[remove(1)]).is_ok());
}

#[test]
fn learners_come_and_go_without_a_joint_configuration() {
    let membership = of(&[1, 2, 3], &[], &[4]);
    let changes = [add(5, true), add(6, false), remove(4), readdress(3, "new:1"), prioritize(2, 7)];
    let next = membership.changed(&changes).unwrap();
    assert!(!next.is_joint());
    assert_eq!((next.voters(), next.learners().collect()), (&ids(&[1, 2, 3])[..], ids(&[5, 6])));
    assert!(next.members()[&NodeId(5)].promote && !next.members()[&NodeId(6)].promote);
    assert_eq!(next.members()[&NodeId(3)].address, "new:1");
    assert_eq!((next.priority(NodeId(2)), next.priority(NodeId(9))), (7, 0));
    assert!(next.admits(NodeId(5), Incarnation(1)), "it is not bound yet");
    assert!(!next.admits(NodeId(4), Incarnation(4)), "it is gone");
}

#[test]
fn voters_change_by_a_joint_configuration() {
    let membership = of(&[1, 2, 3], &[], &[4, 5]);
    let joint = membership.changed(&[promote(4), remove(3), remove(5), demote(2)]).unwrap();
    assert_eq!((joint.voters(), joint.outgoing()), (&ids(&[1, 4])[..], &ids(&[1, 2, 3])[..]));
    // A voter that goes stays a member as long as its vote is needed; a learner goes at once.
    assert!(joint.contains(NodeId(3)) && !joint.contains(NodeId(5)));
    assert!(joint.is_voter(NodeId(2)) && joint.is_voter(NodeId(3)));
    assert!(!joint.members()[&NodeId(2)].promote, "it is to stay a learner");
    let left = joint.left();
    assert_eq!(left, of(&[1, 4], &[], &[2]));
    assert_eq!(left.left(), left);
}

#[test]
fn a_whole_cluster_moves_in_one_change() {
    let membership = of(&[1, 2, 3], &[], &[4, 5, 6]);
    let changes: Vec<_> = (1..=3).map(remove).chain((4..=6).map(promote)).collect();
    let joint = membership.changed(&changes).unwrap();
    assert_eq!(joint.voter_count(), 6);
    assert_eq!(joint.left(), of(&[4, 5, 6], &[], &[]));
    assert!(!joint.left().overlaps(&membership), "so it must not be done in one step");
}

#[test]
fn a_member_is_bound_to_a_life() {
    let life = Incarnation(99);
    let unbound = of(&[1, 2, 3], &[], &[]).changed(&[add(4, true)]).unwrap();
    let bound = unbound.bound(NodeId(4), life);
    assert_eq!(bound.members()[&NodeId(4)].incarnation, Some(life));
    assert!(bound.admits(NodeId(4), life) && !bound.admits(NodeId(4), Incarnation(4)));
    assert!(!bound.is_joint());
    assert_eq!(bound.bound(NodeId(4), life), bound);
    assert_eq!(bound.bound(NodeId(9), life), bound, "no member");
    // A learner has promised nothing.
    let again = bound.bound(NodeId(4), Incarnation(100));
    assert!(!again.is_joint() && again.admits(NodeId(4), Incarnation(100)));
}

#[test]
fn a_voter_with_another_life_becomes_a_learner() {
    let life = Incarnation(99);
    let membership = of(&[1, 2, 3], &[], &[]);
    let joint = membership.bound(NodeId(2), life);
    assert_eq!((joint.voters(), joint.outgoing()), (&ids(&[1, 3])[..], &ids(&[1, 2, 3])[..]));
    let left = joint.left();
    assert!(left.members()[&NodeId(2)].promote, "it is to be a voter again");
    assert_eq!(left.learners().collect::<Vec<_>>(), ids(&[2]));
    let promoted = left.changed(&[promote(2)]).unwrap().left();
    assert_eq!(promoted.voters(), membership.voters());
    // Nothing is known of an earlier life.
    let mut unheard = membership;
    unheard.members.insert(NodeId(2), Member::new("h2:1"));
    assert!(!unheard.bound(NodeId(2), life).is_joint());
}

/// Nobody would be left to vote; or two changes of the voters would be one.
#[test]
fn the_only_voter_and_a_voter_in_transition_keep_their_life() {
    let alone = of(&[1], &[], &[2]);
    assert_eq!(alone.bound(NodeId(1), Incarnation(99)), alone);
    let joint = of(&[1, 2, 3], &[], &[4]).changed(&[remove(3), promote(4)]).unwrap();
    for voter in [1, 3, 4] {
        assert_eq!(joint.bound(NodeId(voter), Incarnation(99)), joint);
    }
    let learner = of(&[1, 2], &[1, 2, 3], &[4]).bound(NodeId(4), Incarnation(99));
    assert!(learner.admits(NodeId(4), Incarnation(99)));
}

#[test]
fn what_survives_begins_a_new_history() {
    let joint = of(&[1, 2, 4], &[1, 2, 3], &[5]);
    let survivor = Member { incarnation: Some(Incarnation(50)), ..Member::new("new:1") };
    // All that is left is this node: older members no longer hold it back.
    let recovered = joint.upgraded(Version::OLDEST).recovered(NodeId(2), survivor.clone());
    assert_eq!((recovered.epoch(), recovered.version()), (1, Version::CURRENT));
    assert_eq!((recovered.voters(), recovered.members().len()), (&ids(&[2])[..], 1));
    assert!(!recovered.is_joint() && recovered.is_quorum(|node| node == NodeId(2)));
    assert_eq!(decoded(&encoded(&recovered)), Some(recovered.clone()));
    assert_eq!(recovered.recovered(NodeId(2), survivor.clone()).epoch(), 2);
    let again = |epoch| recovered.refounded(BTreeMap::from([(NodeId(2), survivor.clone())]), epoch);
    assert_eq!((again(1).epoch(), again(9).epoch()), (2, 9));
}

type MemberBytes = (String, Option<Incarnation>, bool);
type BodyBytes = (Vec<NodeId>, Vec<NodeId>, Vec<(NodeId, (MemberBytes, u8))>, Vec<NodeId>, u64);

/// Bytes of version 1, whatever they say.
fn bytes_1(voters: &[u64], outgoing: &[u64], members: &[u64]) -> Vec<u8> {
    let member = |node| (node, MemberBytes::default());
    let members: Vec<_> = ids(members).into_iter().map(member).collect();
    encoded(&(ids(voters), ids(outgoing), members))
}

/// Bytes of a later version, whatever they say.
fn bytes_2(version: u16, sets: [&[u64]; 4]) -> Vec<u8> {
    let [voters, outgoing, leaving, members] = sets.map(ids);
    let members = members.into_iter().map(|node| (node, Default::default())).collect();
    let body: BodyBytes = (voters, outgoing, members, leaving, 7);
    encoded(&(ids(&[0]), version, body))
}

#[test]
fn malformed_bytes_are_refused() {
    let good = |bytes: &[u8]| decoded(bytes).is_some();
    assert!(good(&bytes_1(&[], &[], &[])) && good(&bytes_1(&[1, 3], &[1, 2], &[1, 2, 3, 4])));
    assert!(!good(&bytes_1(&[0], &[], &[0])) && !good(&bytes_1(&[1], &[], &[0, 1])), "node 0");
    assert!(!good(&bytes_1(&[3, 1], &[], &[1, 3])), "out of order");
    assert!(!good(&bytes_1(&[1, 1], &[], &[1])), "twice");
    assert!(!good(&bytes_1(&[1, 2], &[], &[1])), "no member");

    let good = |sets| good(&bytes_2(2, sets));
    assert!(good([&[1, 3], &[1, 2], &[2], &[1, 2, 3, 4]]) && good([&[], &[], &[], &[]]));
    assert!(!good([&[0], &[], &[], &[0]]) && !good([&[1], &[], &[], &[0, 1]]), "node 0");
    assert!(!good([&[3, 1], &[], &[], &[1, 3]]) && !good([&[1], &[2, 1], &[], &[1, 2]]));
    assert!(!good([&[1, 1], &[], &[], &[1]]), "twice");
    assert!(!good([&[1], &[1, 2, 3], &[3, 2], &[1, 2, 3]]), "leaving out of order");
    assert!(!good([&[1], &[1, 2], &[2, 2], &[1, 2]]), "leaving twice");
    assert!(!good([&[1, 2], &[], &[], &[1]]) && !good([&[1], &[2], &[], &[1]]), "no member");
    assert!(!good([&[1], &[1, 2], &[3], &[1, 2, 3]]), "leaving and not outgoing");
    assert!(!good([&[1, 2], &[1, 2, 3], &[2], &[1, 2, 3]]), "leaving and still a voter");
    assert!(!good([&[1, 2], &[], &[2], &[1, 2]]), "leaving and not joint");
    for version in [0, 1, Version::CURRENT.0 + 1, u16::MAX] {
        assert_eq!(decoded(&bytes_2(version, [&[1], &[], &[], &[1]])), None, "{version}");
    }
}

/// An older program must not take a newer membership for one that it knows.
#[test]
fn bytes_of_version_2_are_malformed_to_version_1() {
    let bytes = encoded(&of(&[1, 2], &[], &[3]));
    let voters: Vec<NodeId> = postcard::take_from_bytes(&bytes).unwrap().0;
    assert_eq!(voters, ids(&[0]));
    assert_eq!(decoded(&bytes_1(&[0], &[2], &[2])), None);
}

fn any_member() -> impl Strategy<Value = Member> {
    (".{0,9}", any::<Option<u64>>(), any::<bool>(), any::<u8>()).prop_map(
        |(address, life, promote, priority)| {
            let incarnation = life.map(Incarnation);
            Member { address, incarnation, promote, priority }
        },
    )
}

/// Any configuration that can be read, reachable or not.
fn any_membership() -> impl Strategy<Value = Membership> {
    let roles = any::<(bool, bool, bool)>();
    let members = prop::collection::btree_map(NODES.prop_map(NodeId), (any_member(), roles), 0..7);
    (members, any::<u64>()).prop_map(|(members, epoch)| {
        let set = |chosen: fn((bool, bool, bool)) -> bool| {
            let of = members.iter().filter(|(_, (_, roles))| chosen(*roles));
            of.map(|(node, _)| *node).collect()
        };
        let voters = set(|(voter, ..)| voter);
        let outgoing = set(|(_, outgoing, _)| outgoing);
        let leaving = set(|(voter, outgoing, leaving)| outgoing && leaving && !voter);
        let members = members.into_iter().map(|(node, (member, _))| (node, member)).collect();
        Membership { voters, outgoing, members, leaving, version: Version::CURRENT, epoch }
    })
}

fn any_with_voters() -> impl Strategy<Value = Membership> {
    any_membership().prop_filter("there are voters", |membership| !membership.voters.is_empty())
}

/// One step from a configuration to the next.
#[derive(Clone, Debug)]
enum Step {
    Changed(Vec<Change>),
    Left,
    Bound(NodeId, Incarnation),
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = || NODES.prop_map(NodeId);
    let change = prop_oneof![
        (NODES, any::<bool>()).prop_map(|(node, promote)| add(node, promote)),
        NODES.prop_map(promote),
        NODES.prop_map(demote),
        NODES.prop_map(remove),
        NODES.prop_map(|node| readdress(node, "moved:1")),
        (NODES, 0..3_u8).prop_map(|(node, priority)| prioritize(node, priority)),
    ];
    prop_oneof![
        3 => prop::collection::vec(change, 1..4).prop_map(Step::Changed),
        3 => Just(Step::Left),
        2 => (node(), 0..3_u64).prop_map(|(node, life)| Step::Bound(node, Incarnation(life))),
    ]
}

proptest! {
    #[test]
    fn overlaps_is_what_every_two_quorums_say(a in any_with_voters(), b in any_with_voters()) {
        let naively = overlaps_naively(&a, &b);
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        // It looks at the halves of joint configurations one by one, so may see too little.
        prop_assert!(naively || !a.overlaps(&b));
        if !a.is_joint() && !b.is_joint() {
            prop_assert_eq!(a.overlaps(&b), naively);
        }
    }

    #[test]
    fn every_step_overlaps_with_the_configuration_before(
        voters in 1..6_u64,
        steps in prop::collection::vec(any_step(), 1..30),
    ) {
        let mut now = of(&(1..=voters).collect::<Vec<_>>(), &[], &[]);
        for step in steps {
            let next = match &step {
                Step::Changed(changes) => now.changed(changes).unwrap_or_else(|_| now.clone()),
                Step::Left => now.left(),
                Step::Bound(node, life) => now.bound(*node, *life),
            };
            prop_assert!(now.overlaps(&next) && overlaps_naively(&now, &next), "{:?}", step);
            prop_assert!(!next.voters.is_empty());
            prop_assert_eq!(decoded(&encoded(&next)), Some(next.clone()), "it can be read again");
            if let Step::Changed(_) | Step::Bound(..) = step {
                let joint = now.is_joint() || next.voters != now.voters;
                prop_assert_eq!(next.is_joint(), joint, "joint exactly when voters change");
            }
            prop_assert_eq!(&next.left().voters, &next.voters);
            prop_assert!(next.left().leaving.is_empty());
            now = next;
        }
    }

    #[test]
    fn memberships_come_back(membership in any_membership()) {
        prop_assert_eq!(decoded(&encoded(&membership)), Some(membership));
    }

    #[test]
    fn memberships_of_version_1_come_back(membership in any_membership()) {
        let older = membership.upgraded(Version(1));
        prop_assert_eq!(older.voters(), membership.voters());
        prop_assert_eq!(older.outgoing(), membership.outgoing());
        let bytes = encoded(&older);
        prop_assert_eq!(decoded(&bytes), Some(older.clone()));
        let member = |(node, member): (NodeId, Member)| {
            (node, (member.address, member.incarnation, member.promote))
        };
        let members: Vec<(NodeId, MemberBytes)> = older.members.into_iter().map(member).collect();
        prop_assert_eq!(bytes, encoded(&(older.voters, older.outgoing, members)));
    }

    #[test]
    fn flipped_bytes_do_not_panic(
        membership in any_membership(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&membership);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decoded(&bytes);
    }
}
