//! Large reads page by page.

use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{
    Consistency, Keys, KvError, Op, Order, OrderBy, Put, RANGE_BYTES_MAX, Range, Revision, Txn,
};
use raft_kv::client::{ClientError, Pages};

/// Every key a page at a time, and how many pages there were; all of one revision.
async fn keys_of(mut pages: Pages) -> (Vec<Bytes>, usize, Revision) {
    let (mut keys, mut count, mut revision) = (Vec::new(), 0, None);
    while let Some(page) = pages.next().await.unwrap() {
        assert_eq!(*revision.get_or_insert(page.revision), page.revision);
        keys.extend(page.kvs.into_iter().map(|pair| pair.key));
        count += 1;
    }
    assert_eq!(pages.next().await.unwrap(), None);
    (keys, count, revision.unwrap())
}

async fn fill(client: &Client, keys: usize, value: &Bytes) {
    for some in (0..keys).collect::<Vec<_>>().chunks(100) {
        let put = |number: &usize| Op::Put(Put::new(format!("k/{number:04}"), value.clone()));
        let success = some.iter().map(put).collect();
        client.txn(Txn { success, ..Txn::default() }).await.unwrap();
    }
}

fn names(numbers: impl Iterator<Item = usize>) -> Vec<Bytes> {
    numbers.map(|number| format!("k/{number:04}").into()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_everything_once_in_order_at_one_revision() {
    let cluster = Cluster::start(3);
    let client = cluster.client(NodeId(1));
    fill(&client, 1000, &"value".into()).await;
    let all = || Range::of(Keys::prefix("k/"));
    let pages = |range| client.pages(range, Consistency::Linearizable).of_at_most(64);

    let (keys, count, _) = keys_of(pages(all())).await;
    assert_eq!((keys, count), (names(0..1000), 16));
    let order = Some(Order { by: OrderBy::Key, descending: true });
    let (keys, count, _) = keys_of(pages(Range { order, ..all() })).await;
    assert_eq!((keys, count), (names((0..1000).rev()), 16));
    // As many as are wanted, also where a page ends.
    for limit in [1, 63, 64, 65, 128, 999, 1000, 1001] {
        let (keys, ..) = keys_of(pages(Range { limit, ..all() })).await;
        assert_eq!(keys, names(0..1000.min(limit as usize)));
    }
    let (keys, count, _) = keys_of(pages(Range::of(Keys::prefix("none")))).await;
    assert_eq!((keys, count), (vec![], 1));
    let (keys, count, _) = keys_of(pages(Range::of(Keys::One("k/0007".into())))).await;
    assert_eq!((keys, count), (names(7..8), 1));

    // What is written meanwhile is not seen, through whatever node the rest is read.
    let mut begun = pages(all());
    let first = begun.next().await.unwrap().unwrap();
    cluster.client(NodeId(2)).delete(Keys::all()).await.unwrap();
    let (rest, _, revision) = keys_of(begun).await;
    assert_eq!((first.kvs.len() + rest.len(), revision), (1000, first.revision));
    let before = Range { revision: Some(revision), ..all() };
    let (keys, _, now) = keys_of(pages(before)).await;
    assert_eq!(keys.len(), 1000);
    assert!(now > revision, "pages tell the revision the store was at");

    let order = Some(Order { by: OrderBy::Value, descending: false });
    let error = pages(Range { order, ..all() }).next().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(KvError::Malformed(_))), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_no_larger_than_a_reply() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    let value = Bytes::from(vec![7; 10_000]);
    fill(&client, 400, &value).await;
    let mut pages = client.pages(Range::of(Keys::all()), Consistency::Linearizable);
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        sizes.push(page.kvs.iter().map(|pair| pair.value.len()).sum::<usize>());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 400 * value.len());
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size <= RANGE_BYTES_MAX), "{sizes:?}");
}
