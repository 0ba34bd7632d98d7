//! A whole cluster in one process: three nodes on one thread, QUIC on the loopback, every put
//! durable on a quorum before it is answered. For processes of their own, see `raft bench`.

use benches::{Cluster, payload};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::task::JoinSet;

fn cluster(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (cluster, client) = runtime.block_on(async {
        let cluster = Cluster::start().await;
        let client = cluster.client();
        (cluster, client)
    });
    let mut group = criterion.benchmark_group("cluster");
    group.sample_size(20);
    for clients in [1, 64, 256] {
        group.throughput(Throughput::Elements(clients));
        group.bench_function(format!("put_{clients}_clients"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut puts = JoinSet::new();
                    for number in 0..clients {
                        let client = client.clone();
                        let key = format!("key/{number}");
                        puts.spawn(async move { client.put(key, payload()).await });
                    }
                    puts.join_all().await.into_iter().for_each(|put| {
                        put.expect("a healthy cluster");
                    });
                });
            });
        });
    }
    group.finish();
    runtime.block_on(cluster.stop());
}

criterion_group!(benches, cluster);
criterion_main!(benches);
