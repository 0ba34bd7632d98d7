//! What the engine's errors become.

use super::*;

#[test]
fn a_file_that_ends_early_or_makes_no_sense_is_corrupt() {
    for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData] {
        let error = engine(Path::new("log.redb"), "reading", redb::Error::Io(kind.into()));
        assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("log.redb") && text.contains("must not vote"), "{text}");
    }
    let full = redb::Error::Io(io::ErrorKind::StorageFull.into());
    let error = engine(Path::new("log.redb"), "writing", full);
    assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
}
