//! Reading a range of any size page by page, all pages as of one revision.

use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::pairs::Dated;
use bytes::{BufMut, Bytes, BytesMut};
use raft_kv::api::{Consistency, Filter, Keys, Range, RangeReply};

/// What of a range is still to be read.
pub struct Pages {
    /// The next page; `None` when the last was read.
    next: Option<Range>,
    consistency: Consistency,
    dated: Option<Dated>,
}

impl Pages {
    /// Begins at the start of `range`; its limit is that of all pages together.
    pub const fn new(range: Range, consistency: Consistency) -> Self {
        Self { next: Some(range), consistency, dated: None }
    }

    /// Reads the next page; `None` after the last. If the range asks to
    /// count all keys, the first page does.
    ///
    /// # Errors
    /// As [`Store::read`]; the page may be asked for again.
    pub async fn next(&mut self, store: &Store) -> Result<Option<RangeReply>, Failure> {
        let Some(range) = &self.next else { return Ok(None) };
        let reply = store.read(range.clone(), self.consistency).await?;
        self.next = following(range, &reply.range)?;
        if self.dated.is_none() {
            let (position, staleness) = (reply.position, reply.staleness);
            self.dated = Some(Dated { position, staleness });
            // Whichever node has the next page must have come as far as this one.
            if self.consistency != Consistency::Linearizable {
                self.consistency = Consistency::AtLeast(position);
            }
        }
        Ok(Some(reply.range))
    }

    /// How fresh the pages are; `None` before the first.
    pub const fn dated(&self) -> Option<Dated> {
        self.dated
    }
}

/// The read that goes on where `reply` ends, if there is more to read.
fn following(range: &Range, reply: &RangeReply) -> Result<Option<Range>, Failure> {
    let read = reply.kvs.len() as u64;
    let limit_reached = range.limit != 0 && read >= range.limit;
    if !reply.more || range.count_only || limit_reached {
        return Ok(None);
    }
    let Some(last) = reply.kvs.last() else {
        // Those that were left out may be the rest.
        if range.filter != Filter::NONE {
            return Ok(None);
        }
        return Err(Failure::new(
            Kind::Refused,
            "the node sent an empty page and says more follow",
        )
        .advice("compare `raft status` and `raft --version` for different versions"));
    };
    let end = match &range.keys {
        Keys::One(_) => return Ok(None),
        Keys::Range { end, .. } => end.clone(),
    };
    Ok(Some(Range {
        keys: Keys::Range { start: after(&last.key), end },
        limit: range.limit.saturating_sub(read),
        // The first page has counted them.
        count_all: false,
        // Every page must show the store as the first did.
        revision: Some(range.revision.unwrap_or(reply.revision)),
        ..*range
    }))
}

/// The smallest key that follows `key`.
fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}
