//! The example that grows and shrinks a cluster under load, as a test.

#[allow(dead_code, unreachable_pub, reason = "an example is a crate of its own, with a main")]
#[path = "../../../examples/grow_and_shrink.rs"]
mod example;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_under_load_and_loses_nothing() {
    let report = example::grow_and_shrink().await.unwrap();
    assert_eq!(report.lost, 0);
    assert!(report.writes > 1000);
}
