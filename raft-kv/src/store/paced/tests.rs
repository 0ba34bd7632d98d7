//! On a backend that counts its flushes.

use super::*;
use redb::backends::InMemoryBackend;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Counted {
    memory: InMemoryBackend,
    flushes: Arc<AtomicU64>,
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

#[test]
fn what_is_written_is_flushed_bit_by_bit() {
    let counted = Counted::default();
    let flushes = Arc::clone(&counted.flushes);
    let paced = Paced::new(counted);
    let page = vec![7; 64 * 1024];
    paced.set_len(10 * UNFLUSHED_MAX).unwrap();
    for number in 0..10 * UNFLUSHED_MAX / page.len() as u64 {
        paced.write(number * page.len() as u64, &page).unwrap();
    }
    assert_eq!(flushes.load(Ordering::Relaxed), 10);
    paced.write(0, &page).unwrap();
    paced.sync_data().unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 11);
}
