//! What a node measures of itself.

use super::*;
use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use raft_core::node::metrics;
use std::collections::BTreeMap;

/// The last value of each gauge, the sum of each counter, the number of values of each histogram.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, f64>>>);

/// One of them.
struct Value {
    name: String,
    recorded: Recorded,
}

impl Recorded {
    fn value(&self, key: &Key) -> Arc<Value> {
        let name = key.labels().fold(key.name().to_owned(), |name, label| {
            format!("{name} {}={}", label.key(), label.value())
        });
        self.0.lock().unwrap().insert(name.clone(), 0.0);
        Arc::new(Value { name, recorded: self.clone() })
    }

    fn of(&self, name: &str) -> f64 {
        self.of_node(name, NodeId(1))
    }

    fn of_node(&self, name: &str, node: NodeId) -> f64 {
        self.0.lock().unwrap()[&format!("{name} node={node} group=g0")]
    }
}

impl Value {
    fn update(&self, update: impl Fn(f64) -> f64) {
        let mut values = self.recorded.0.lock().unwrap();
        let value = values.get_mut(&self.name).unwrap();
        *value = update(*value);
    }
}

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        self.update(|value| value + by as f64);
    }
    fn absolute(&self, value: u64) {
        self.update(|_| value as f64);
    }
}

impl GaugeFn for Value {
    fn increment(&self, by: f64) {
        self.update(|value| value + by);
    }
    fn decrement(&self, by: f64) {
        self.update(|value| value - by);
    }
    fn set(&self, value: f64) {
        self.update(|_| value);
    }
}

impl HistogramFn for Value {
    fn record(&self, _value: f64) {
        self.update(|count| count + 1.0);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}

#[tokio::test]
async fn every_stage_of_a_write_is_measured() {
    let recorded = Recorded::default();
    let start = || Cluster::start_all([before_it_leads()].into_iter());
    let cluster = ::metrics::with_local_recorder(&recorded, start);
    let node = cluster.node(NodeId(1));
    let refused = node.propose("early".into()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    cluster.leader(&[]).await;
    for _ in 0..10 {
        node.propose("x".into()).await.unwrap();
    }
    let last = node.status().last_log.index.max(Index(11));
    shows(node, |status| status.last_applied >= last).await;
    node.status_changed().await;
    assert_eq!(recorded.of(metrics::PROPOSALS_ACCEPTED), 10.0);
    let name = format!("{} node=n1 group=g0 reason=not_leader", metrics::PROPOSALS_REFUSED);
    assert_eq!(recorded.0.lock().unwrap()[&name], 1.0);
    // One at a time, so each was a batch of its own.
    assert_eq!(recorded.of(metrics::COMMIT_SECONDS), 10.0);
    for name in [metrics::WRITE_SECONDS, metrics::WRITE_BYTES, metrics::WRITE_OPS] {
        assert!(recorded.of(name) >= 10.0, "{name}");
    }
    for name in [metrics::APPLY_SECONDS, metrics::APPLY_ENTRIES, metrics::TURN_EVENTS] {
        assert!(recorded.of(name) >= 10.0, "{name}");
    }
    assert_eq!(recorded.of(metrics::TERM), 1.0);
    assert!(recorded.of(metrics::COMMIT_INDEX) >= 11.0);
    assert_eq!(recorded.of(metrics::LEADER_CHANGES), 1.0);
    assert_eq!(recorded.of(metrics::MESSAGES_DROPPED), 0.0);
}

/// How far members are behind is seen on the leader, and goes with them.
#[tokio::test]
async fn what_members_lack_is_measured() {
    let recorded = Recorded::default();
    let cluster = ::metrics::with_local_recorder(&recorded, || Cluster::start(3));
    let leader = cluster.leader(&[]).await;
    let node = cluster.node(leader);
    let [behind, _] =
        [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..]
    else {
        unreachable!("two of three follow")
    };
    cluster.network.isolate(behind, true);
    for _ in 0..10 {
        node.propose("x".into()).await.unwrap();
    }
    let lag = |name| recorded.of_node(name, leader);
    while lag(metrics::REPLICATION_LAG) < 10.0 {
        node.status_changed().await;
    }
    assert_eq!(recorded.of_node(metrics::REPLICATION_LAG, behind), 0.0, "it does not lead");
    cluster.network.isolate(behind, false);
    while lag(metrics::REPLICATION_LAG) > 0.0 || lag(metrics::APPLY_LAG) > 0.0 {
        node.status_changed().await;
    }
}
