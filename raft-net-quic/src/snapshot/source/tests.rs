//! What is kept, and what is sent again.

use super::*;

const CHUNK: u64 = CHUNK_BYTES as u64;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 31 % 253) as u8).collect()
}

async fn drain(source: &mut Source) -> Vec<u8> {
    let mut taken = Vec::new();
    while !source.is_full()
        && let Some(chunk) = source.next().await.unwrap()
    {
        taken.extend_from_slice(&chunk);
    }
    taken
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let data = bytes(5 * CHUNK_BYTES + 7);
    let mut source = Source::new(Box::new(io::Cursor::new(data.clone())));
    assert!(source.is_fresh());
    assert!(drain(&mut source).await == data);
    assert!(source.acknowledge(2 * CHUNK));
    // Acknowledgements that came late change nothing.
    assert!(source.acknowledge(CHUNK));
    for offset in [2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 5, 5 * CHUNK + 7] {
        assert!(source.rewind(offset));
        assert_eq!(source.taken_to(), offset);
        assert!(drain(&mut source).await == data[offset as usize..]);
    }
    assert!(!source.rewind(2 * CHUNK), "it was let go");
    assert!(!source.rewind(5 * CHUNK + 8), "it does not exist");
    let whole = xxhash_rust::xxh3::xxh3_128(&data);
    assert_eq!(source.whole(), (data.len() as u64, whole));
}

#[tokio::test]
async fn what_was_not_sent_cannot_be_acknowledged() {
    let mut source = Source::new(Box::new(io::repeat(1).take(4 * CHUNK)));
    source.next().await.unwrap();
    source.next().await.unwrap();
    assert!(source.rewind(0));
    source.next().await.unwrap();
    assert!(!source.acknowledge(CHUNK + 1));
    assert!(source.acknowledge(CHUNK));
}

#[tokio::test]
async fn a_full_window_waits() {
    let mut source = Source::new(Box::new(io::repeat(1)));
    assert_eq!(drain(&mut source).await.len() as u64, WINDOW_BYTES);
    assert!(source.acknowledge(CHUNK));
    assert_eq!(drain(&mut source).await.len() as u64, CHUNK);
    // What is kept may be sent again all the same.
    assert!(source.rewind(CHUNK));
    assert_eq!(drain(&mut source).await.len() as u64, WINDOW_BYTES);
}
