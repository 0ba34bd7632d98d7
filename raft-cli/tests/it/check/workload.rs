//! What the clients of `raft check` take down, of a store in memory that tells its watchers wrong
//! things or nothing.

use crate::fake::{self, ADDRESSES, block_on};
use bytes::Bytes;
use raft_cli::check::causal::Trace;
use raft_cli::check::history::{Action, Ending, History, Operation, Workload};
use raft_cli::check::recorder::Recorder;
use raft_cli::check::report::Report;
use raft_cli::check::workload::Plan;
use raft_core::transport::{BoxFuture, CallError, Channel, Connector, Duplex};
use raft_kv::api::{KvError, Revision, WatchReply, WatchRequest};
use raft_kv::clocks::Relation;
use raft_kv::codec::{decode_sequence, encode_sequence};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A store whose watches all end with an error. Without one they are told nothing.
#[derive(Clone)]
struct Watched {
    store: fake::Cluster,
    ends_with: Option<KvError>,
}

struct WatchedNode(Arc<dyn Channel>, Option<KvError>);

impl Connector for Watched {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let (connecting, error) = (self.store.connect(address), self.ends_with.clone());
        Box::pin(async move {
            let node = connecting.await?;
            Ok(Arc::new(WatchedNode(node, error)) as Arc<dyn Channel>)
        })
    }
}

impl Channel for WatchedNode {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        self.0.call(request)
    }

    fn open_stream(&self, _: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (here, there) = Duplex::pair(1024);
        tokio::spawn(serve(there, self.1.clone()));
        Box::pin(async move { Ok(here) })
    }
}

/// Ends every watch that is asked for, as soon as it is.
async fn serve(Duplex { mut sink, mut source }: Duplex, error: Option<KvError>) {
    let opened = sink.send(encode_sequence(&[WatchReply::Opened(3)])).await;
    if opened.is_err() {
        return;
    }
    while let Ok(Some(frame)) = source.receive().await {
        for request in decode_sequence::<WatchRequest>(&frame) {
            let Ok(WatchRequest::Create(id, _)) = request else { continue };
            let Some(error) = error.clone() else { continue };
            let reply = encode_sequence(&[WatchReply::Canceled(id, Some(error))]);
            if sink.send(reply).await.is_err() {
                return;
            }
        }
    }
}

/// Runs a workload until so many operations were answered.
fn run(workload: Workload, clients: u16, operations: u64, ends_with: Option<KvError>) -> History {
    let store = fake::Cluster::new(fake::Faults::default());
    let plan = Plan {
        workloads: vec![workload],
        clients,
        pause: Duration::from_micros(100),
        deadline: Duration::from_secs(60),
        // Enough for a read, which comes at once, and to be told nothing.
        patience: Duration::from_secs(3),
        prefix: "check/".into(),
        seed: 7,
        connector: Arc::new(Watched { store, ends_with }),
        endpoints: ADDRESSES[..2].iter().map(|address| (*address).to_owned()).collect(),
    };
    block_on(async {
        let clients = plan.connect().await.unwrap();
        let recorder = Arc::new(Recorder::new(None));
        let (stop, stopped) = watch::channel(false);
        let mut answered = recorder.answered();
        let enough = async {
            answered.wait_for(|answered| *answered >= operations).await.unwrap();
            stop.send(true).unwrap();
        };
        let (ran, ()) = tokio::join!(plan.run(&clients, &recorder, stopped), enough);
        ran.unwrap();
        recorder.take()
    })
}

/// The only violation, and what the watchers have taken down at their end.
fn of_watchers(ends_with: Option<KvError>) -> (Option<String>, Vec<Ending>) {
    let report = Report::of(run(Workload::Watch, 3, 20, ends_with), |_| {});
    let operations = report.history.operations.iter();
    let spans = operations.filter(|it| matches!(it.action, Action::Watched { .. }));
    let endings = spans.map(|it| it.outcome).collect();
    let [judged] = &report.judged[..] else { panic!("one workload") };
    (judged.violations.first().map(|violation| violation.what.clone()), endings)
}

#[test]
fn a_watch_that_is_told_nothing_is_found() {
    let (violation, endings) = of_watchers(None);
    assert_eq!(endings, [Ending::Failed]);
    let violation = violation.expect("there is one");
    assert!(violation.contains("never caught up"), "{violation}");
}

#[test]
fn compaction_is_the_only_excuse_of_a_watch() {
    let (requested, compacted) = (Revision(1), Revision(9));
    let compacted = KvError::Compacted { requested, compacted };
    assert_eq!(of_watchers(Some(compacted)), (None, vec![Ending::Ok]));

    let other = KvError::OtherHistory { asked: 3, current: 4 };
    let (violation, endings) = of_watchers(Some(other));
    assert!(violation.is_some());
    assert_eq!(endings, [Ending::Failed]);
}

/// Answers tell what they are as of, so that what clients did can be put in order without their
/// times: whoever reads a value comes after whoever wrote it, and knew of it.
#[test]
fn whoever_reads_comes_after_who_wrote() {
    let history = run(Workload::Register, 4, 200, None);
    let operations = &history.operations;
    assert!(operations.iter().all(|it| it.outcome != Ending::Ok || it.position.is_some()));
    let all = (0..operations.len()).collect();
    let trace = Trace::of(&history, &all);
    let written: BTreeMap<_, _> = operations
        .iter()
        .enumerate()
        .filter_map(|(at, operation)| match &operation.action {
            Action::Write { value, .. } => Some((value.as_u64()?, at)),
            Action::Cas { value, result: Some(true), .. } => Some((value.as_u64()?, at)),
            _ => None,
        })
        .collect();
    let mut read = 0;
    for (at, operation) in operations.iter().enumerate() {
        let Action::Read { result, .. } = &operation.action else { continue };
        let Some(write) = result.as_u64().and_then(|value| written.get(&value)) else { continue };
        assert_eq!(trace.relation(*write, at), Some(Relation::Before), "{operations:#?}");
        read += 1;
    }
    assert!(read > 0, "{operations:#?}");
}

#[test]
fn holders_read_what_they_write_under() {
    let history = run(Workload::Lock, 1, 40, None);
    let report = Report::of(history.clone(), |_| {});
    assert!(!report.is_violated(), "{:?}", report.judged);
    let actions = |operations: &[Operation]| -> Vec<Action> {
        operations.iter().map(|operation| operation.action.clone()).collect()
    };
    let is_of = |action: &Action, of: u64| match action {
        Action::Read { token, revision: Some(_), .. } => *token == Some(of),
        _ => false,
    };
    let actions = actions(&history.operations);
    let mut tenures = 0;
    for (at, action) in actions.iter().enumerate() {
        if let Action::Acquire { token: Some(token) } = action {
            let rest = &actions[at..];
            let end = rest.iter().position(|action| *action == Action::Release).expect("it ends");
            assert!(is_of(&rest[1], *token) && is_of(&rest[end - 1], *token), "{rest:?}");
            tenures += 1;
        }
    }
    assert!(tenures > 0);
    let last = actions.last().expect("there are some");
    assert!(matches!(last, Action::Read { token: None, revision: Some(_), .. }), "{last:?}");
}
