//! Topics: every subscriber sees one sequence.

use super::client;
use super::histories::Histories;
use crate::cluster::Cluster;
use raft_kv::Client;
use raft_kv::api::{KvError, Position, Revision};
use raft_kv::client::ClientError;
use raft_kv::recipes::{Message, RecipeError, Topic};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

const SENDERS: u64 = 4;
const MESSAGES: usize = 50;
const ALL: usize = SENDERS as usize * MESSAGES;

fn topic(client: &Client) -> Topic {
    Topic::new(client, "topic")
}

/// So many messages after one.
async fn hear(topic: Topic, after: Revision, count: usize) -> Vec<Message> {
    let mut subscription = topic.subscribe(after);
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.push(subscription.next().await.unwrap());
    }
    heard
}

/// The same, by somebody who begins anew after every few messages, each time through another node,
/// knowing only the last message.
async fn hear_with_restarts(cluster: &Cluster, alive: &[u64], count: usize) -> Vec<Message> {
    let mut heard: Vec<Message> = Vec::new();
    let mut nodes = alive.iter().cycle();
    while heard.len() < count {
        let client = client(cluster, *nodes.next().unwrap());
        let after = heard.last().map_or(Revision(0), |message| message.revision);
        let some = 7.min(count - heard.len());
        heard.extend(hear(topic(&client), after, some).await);
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_subscribers_see_one_sequence_also_late_and_restarted_ones() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let alive: Vec<u64> =
        cluster.nodes.keys().filter(|id| **id != leader).map(|id| id.0 - 1).collect();
    let (mut senders, mut subscribers) = (JoinSet::new(), JoinSet::new());
    for number in 0..3 {
        let topic = topic(&client(&cluster, number));
        subscribers.spawn(hear(topic, Revision(0), ALL));
    }
    for sender in 0..SENDERS {
        let topic = topic(&client(&cluster, sender));
        senders.spawn(async move {
            let mut sent = Vec::new();
            for number in 0..MESSAGES {
                let revision = topic.broadcast(format!("{sender}/{number}")).await.unwrap();
                sent.push((revision, format!("{sender}/{number}")));
            }
            sent
        });
    }
    // Half of them are there before the leader dies, with those who subscribed through it.
    hear(topic(&client(&cluster, alive[0])), Revision(0), ALL / 2).await;
    cluster.kill(leader);
    let restarted = hear_with_restarts(&cluster, &alive, ALL).await;
    let sent: BTreeSet<_> = senders.join_all().await.concat().into_iter().collect();
    let late = hear(topic(&client(&cluster, alive[1])), Revision(0), ALL).await;

    let seen: Vec<_> = late
        .iter()
        .map(|message| (message.revision, String::from_utf8(message.value.to_vec()).unwrap()))
        .collect();
    assert!(seen.iter().eq(sent.iter()), "each message once, where its sender was told it is");
    assert_eq!(restarted, late);
    for heard in subscribers.join_all().await {
        assert_eq!(heard, late);
    }
    let last = topic(&client(&cluster, alive[0])).last().await.unwrap();
    assert_eq!(last, late.last().map(|message| message.revision));
    // What one sender said is in the order in which it said it.
    for sender in 0..SENDERS {
        let of_one = seen.iter().filter(|(_, value)| value.starts_with(&format!("{sender}/")));
        let numbers = of_one.map(|(_, value)| value[2..].parse::<usize>().unwrap());
        assert!(numbers.eq(0..MESSAGES));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_unseen_is_told() {
    let cluster = Cluster::start(3);
    let (near, far) = (topic(&client(&cluster, 0)), topic(&client(&cluster, 1)));
    assert_eq!(near.last().await.unwrap(), None);
    let mut places = Vec::new();
    for number in 0..5 {
        places.push(near.broadcast(number.to_string()).await.unwrap());
    }
    let mut live = far.subscribe(Revision(0));
    for number in 0..5 {
        assert_eq!(live.next().await.unwrap().value, number.to_string());
    }
    near.drop_until(places[2]).await.unwrap();
    let mut early = far.subscribe(Revision(0));
    assert_eq!(early.next().await, Err(RecipeError::Dropped(places[2])));
    for number in 3..5 {
        assert_eq!(early.next().await.unwrap().value, number.to_string());
    }
    // Whoever has had them misses nothing.
    let heard = hear(far, places[2], 2).await;
    assert_eq!(heard[0].revision, places[3]);
    near.broadcast("5").await.unwrap();
    assert_eq!(live.next().await.unwrap().value, "5");
}

/// Several keep a topic short, each as it sees fit: nobody takes back what another has dropped, and
/// so what it says of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_stays_dropped() {
    let cluster = Cluster::start(3);
    let (near, far) = (topic(&client(&cluster, 0)), topic(&client(&cluster, 1)));
    let mut places = Vec::new();
    for number in 0..6 {
        places.push(near.broadcast(number.to_string()).await.unwrap());
    }
    let mut dropping = JoinSet::new();
    for place in [places[1], places[4], places[0], places[3]] {
        let topic = topic(&client(&cluster, place.0));
        dropping.spawn(async move { topic.drop_until(place).await.unwrap() });
    }
    dropping.join_all().await;
    assert_eq!(near.drop_until(places[0]).await.unwrap(), places[4]);
    let mut late = far.subscribe(places[1]);
    assert_eq!(late.next().await, Err(RecipeError::Dropped(places[4])));
    assert_eq!(late.next().await.unwrap().value, "5");
}

/// A place that is not there yet: what comes later is not swallowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_come_are_not_dropped() {
    let cluster = Cluster::start(1);
    let topic = topic(&cluster.client(raft_core::types::NodeId(1)));
    let place = topic.broadcast("past").await.unwrap();
    assert_eq!(topic.drop_until(Revision(u64::MAX)).await.unwrap(), place);
    topic.broadcast("to come").await.unwrap();
    let mut messages = topic.subscribe(Revision(0));
    assert_eq!(messages.next().await, Err(RecipeError::Dropped(place)));
    assert_eq!(messages.next().await.unwrap().value, "to come");
}

/// More than a reply holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_topic_is_read_in_pieces() {
    let cluster = Cluster::start(1);
    let topic = topic(&cluster.client(raft_core::types::NodeId(1)));
    let mut places = Vec::new();
    for number in 0..30_u8 {
        places.push(topic.broadcast(vec![number; 100_000]).await.unwrap());
    }
    let heard = hear(topic, Revision(0), 30).await;
    assert!(heard.iter().map(|message| message.revision).eq(places));
}

/// A worker has acted on a message that the backup does not have, of which the cluster was made
/// anew: others are told another sequence, and so this one is told that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_of_another_history_is_told() {
    let cluster = Cluster::start(1);
    let histories = Histories::of(&cluster);
    histories.begin(3);
    let topic = topic(&histories.client());
    let mut places = Vec::new();
    for number in 0..3 {
        places.push(topic.broadcast(number.to_string()).await.unwrap());
    }
    let mut live = topic.subscribe(Revision(0));
    let mut reading = topic.subscribe(Revision(0));
    for (number, revision) in places.iter().copied().enumerate() {
        let message = live.next().await.unwrap();
        let position = Position { epoch: 3, revision };
        assert_eq!((message.position(), message.value), (position, number.to_string().into()));
    }
    topic.broadcast("3").await.unwrap();
    assert_eq!(live.next().await.unwrap().epoch, 3);
    assert_eq!(reading.next().await.unwrap().revision, places[0]);

    histories.begin(8);
    let told = KvError::OtherHistory { asked: 3, current: 8 };
    let told = RecipeError::Client(ClientError::Refused(told));
    // Whoever remembers a position, and whoever is subscribed.
    let position = Position { epoch: 3, revision: places[1] };
    let mut remembered = topic.subscribe_after(position);
    assert_eq!(remembered.next().await, Err(told.clone()));
    assert_eq!(live.next().await, Err(told));
    // Both were told, and go on with what is there.
    assert_eq!(remembered.next().await.unwrap().revision, places[2]);
    topic.broadcast("4").await.unwrap();
    let next = live.next().await.unwrap();
    assert_eq!((next.epoch, next.value), (8, "4".into()));
    let mut bare = topic.subscribe(places[1]);
    assert_eq!(bare.next().await.unwrap().position().epoch, 8);
}
