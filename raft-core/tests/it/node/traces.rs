//! What a node says in its log: warnings once, and a span for each stage of a write.

use super::*;
use raft_core::raft::{Envelope, Message};
use raft_core::transport::Transport;
use raft_core::types::{Change, Sender, Term, Version};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Keeps the text of warnings and the names of spans.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

/// Takes the message of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() || *metadata.level() <= Level::INFO
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.0.lock().unwrap().push(attributes.metadata().name().to_owned());
        span::Id::from_u64(1)
    }
    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

impl Heard {
    /// How often something with `text` in it was said. The nodes run on the test's own thread.
    fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|said| said.contains(text)).count()
    }

    async fn once(&self, node: &Node, text: &str) {
        while self.count(text) == 0 {
            node.status_changed().await;
        }
        for _ in 0..40 {
            node.status_changed().await;
        }
        assert_eq!(self.count(text), 1, "{text}");
    }
}

#[tokio::test]
async fn each_stage_of_a_write_on_the_loop_has_a_span() {
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    cluster.node(leader).propose("one".into()).await.unwrap();
    for stage in ["propose", "replicate", "commit", "answer"] {
        assert!(heard.count(stage) > 0, "{stage}");
    }
}

/// The timeout is so long that it elects nobody before the hint does.
#[tokio::test]
async fn a_leader_whose_process_is_gone_is_replaced_on_a_hint() {
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let patient = |id| {
        let config = config(id, 3);
        let (election_ticks_min, election_ticks_max) = (300, 600);
        let raft = Config { election_ticks_min, election_ticks_max, ..config.raft };
        NodeConfig { raft, ..config }
    };
    let cluster = Cluster::start_all((1..=3).map(patient));
    let old = cluster.leader(&[]).await;
    assert_eq!(heard.count("nobody listens"), 0);
    cluster.network.remove(old);
    cluster.leader(&[old]).await;
    assert!(heard.count("nobody listens where the leader did") > 0);
}

#[tokio::test]
async fn an_even_number_of_voters_is_warned_of_once() {
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let cluster = Cluster::start_one_of(2);
    let first = cluster.node(NodeId(1));
    shows(first, |status| status.leader == Some(NodeId(1))).await;
    // The other one's warnings do not count.
    cluster.node(NodeId(2)).shutdown().await;
    cluster.network.remove(NodeId(2));
    let add = Change::Add { node: NodeId(2), address: String::new(), promote: false };
    while first.change_membership(vec![add.clone()]).await.is_err() {
        first.status_changed().await;
    }
    assert_eq!(heard.count("even number"), 0, "a learner is no voter");
    let cluster = Cluster::start(2);
    cluster.leader(&[]).await;
    cluster.node(NodeId(2)).shutdown().await;
    // Each of the two has said it.
    while heard.count("even number") < 2 {
        cluster.node(NodeId(1)).status_changed().await;
    }
    for _ in 0..40 {
        cluster.node(NodeId(1)).status_changed().await;
    }
    assert_eq!(heard.count("even number"), 2);
}

#[tokio::test]
async fn an_election_timeout_that_is_too_short_is_warned_of_once() {
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let cluster = Cluster::start_all([config(1, 3)].into_iter());
    let lone = cluster.node(NodeId(1));
    // It belongs to no cluster, and has nobody to be late for.
    cluster.network.delay(Duration::from_millis(80));
    for _ in 0..40 {
        lone.status_changed().await;
    }
    assert_eq!(heard.count("too short"), 0);
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    for id in [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != leader) {
        cluster.node(id).shutdown().await;
    }
    cluster.network.delay(Duration::from_millis(80));
    let node = cluster.node(leader);
    heard.once(node, "the election timeout of 400 ms is too short").await;
}

#[tokio::test]
async fn a_second_process_with_the_same_name_is_warned_of() {
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    let twin = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != leader).unwrap();
    let message = Message::Hello { members: [1, 2, 3].map(NodeId).into(), seen: None };
    let sender = Sender { incarnation: Incarnation(99), version: Version::CURRENT };
    let envelope = Envelope { from: twin, to: leader, term: Term(0), sender, message };
    cluster.network.transport(twin).send(GroupId(0), envelope);
    heard.once(cluster.node(leader), "two processes").await;
    let status = cluster.node(leader).status();
    let peer = status.peers.iter().find(|peer| peer.id == twin).unwrap();
    assert_eq!(peer.other_life, Some(Incarnation(99)));
    assert_eq!(status.no_quorum(), None);
}
