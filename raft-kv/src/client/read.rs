//! Reads: at once, by how fresh they have to be, and page by page.

use super::call::unexpected;
use super::{Client, ClientError};
use crate::api::{
    Consistency, Freshness, KeyValue, Keys, KvError, Order, OrderBy, Position, Range, RangeReply,
    ReplyBody, RequestBody,
};
use bytes::Bytes;
use std::time::Duration;

/// What a read answers that says how fresh it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReply {
    /// What was found; its revision is the one it saw.
    pub range: RangeReply,
    /// How far the store had come: the token for [`Consistency::AtLeast`].
    pub position: Position,
    /// How old it may be: how long ago the node last heard of a leader, or a leader of a quorum;
    /// `None` if it never did. 0 of a linearizable read.
    pub staleness: Option<Duration>,
}

impl Client {
    /// Reads a range. One reply holds about a mebibyte at most; see [`RangeReply::more`], and
    /// [`pages`](Self::pages) for all of it.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn get(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<RangeReply, ClientError> {
        match self.request(RequestBody::Read { range, consistency }, true).await? {
            ReplyBody::Range(reply) => Ok(reply),
            _ => Err(unexpected(false)),
        }
    }

    /// Reads one key, linearizably; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_one(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, ClientError> {
        let range = Range::of(Keys::One(key.into()));
        let reply = self.get(range, Consistency::Linearizable).await?;
        Ok(reply.kvs.into_iter().next())
    }

    /// Reads a range, and says how fresh the answer is. Its position is not behind any later
    /// answer to [`Consistency::AtLeast`] that position, whichever node gives it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn read(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<ReadReply, ClientError> {
        match self.request(RequestBody::DatedRead { range, consistency }, true).await? {
            ReplyBody::Dated(Freshness { epoch, staleness }, range) => {
                let position = Position { epoch, revision: range.revision };
                Ok(ReadReply { range, position, staleness })
            }
            _ => Err(unexpected(false)),
        }
    }

    /// Reads a range of any size page by page, all of it as of one revision: `range.revision` or,
    /// without that, the revision of the first page, which is as fresh as `consistency` wants it.
    ///
    /// Nothing is read ahead: memory holds one page, a mebibyte or a single larger pair. Writers
    /// are not held up; if the store is compacted above the revision before the last page was read,
    /// that ends with [`KvError::Compacted`].
    ///
    /// ```
    /// # use raft_kv::{Client, api::{Consistency, Keys, Range}, client::ClientError};
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// let mut pages = client.pages(Range::of(Keys::prefix("users/")), Consistency::default());
    /// while let Some(page) = pages.next().await? {
    ///     println!("{} of them as of revision {}", page.kvs.len(), page.revision);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pages(&self, range: Range, consistency: Consistency) -> Pages {
        Pages { client: self.clone(), range, consistency, at: None, page_max: 0, ended: false }
    }
}

/// A large read on its way; see [`Client::pages`].
pub struct Pages {
    client: Client,
    /// What is still to be read; its limit is what is left of it.
    range: Range,
    /// How fresh the first page is to be.
    consistency: Consistency,
    /// What the first page saw.
    at: Option<Position>,
    /// Most pairs of a page; 0 for no limit.
    page_max: u64,
    ended: bool,
}

impl Pages {
    /// At most so many pairs in a page; 0 for as many as a reply holds.
    #[must_use]
    pub const fn of_at_most(mut self, pairs: u64) -> Self {
        self.page_max = pairs;
        self
    }

    /// What the first page saw, and all of them show; `None` before it.
    pub const fn position(&self) -> Option<Position> {
        self.at
    }

    /// The next page, `None` after the last. The first one comes even if it is empty, because it
    /// tells the revision. [`RangeReply::more`] of the last one is true if `range.limit` has left
    /// pairs out.
    ///
    /// After an error the same page can be asked for again. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`]. [`KvError::Malformed`] for a range in
    /// another order than that of its keys: no page of such a one is cheaper than all of it.
    pub async fn next(&mut self) -> Result<Option<RangeReply>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        let descending = match self.range.order {
            None => false,
            Some(Order { by: OrderBy::Key, descending }) => descending,
            Some(_) => {
                let text = "pages come in the order of the keys".into();
                return Err(ClientError::Refused(KvError::Malformed(text)));
            }
        };
        let mut range = self.range.clone();
        if self.page_max > 0 && (range.limit == 0 || range.limit > self.page_max) {
            range.limit = self.page_max;
        }
        let consistency = match self.at {
            None => self.consistency,
            // Whichever node is asked has to have come so far.
            Some(position) => {
                range.revision = self.range.revision.or(Some(position.revision));
                Consistency::AtLeast(position)
            }
        };
        let mut read = self.client.read(range, consistency).await?;
        self.at.get_or_insert(read.position);
        if let Some(position) = self.at {
            // All of it is as of the first page.
            read.range.revision = position.revision;
        }
        self.go_on_after(&mut read.range, descending);
        Ok(Some(read.range))
    }

    /// Takes from what is to be read what `page` holds.
    fn go_on_after(&mut self, page: &mut RangeReply, descending: bool) {
        let returned = page.kvs.len() as u64;
        let rest = page.kvs.last().and_then(|last| after(&self.range.keys, &last.key, descending));
        let wanted = match self.range.limit {
            0 => true,
            limit => {
                // 0 would be no limit.
                self.range.limit = limit.saturating_sub(returned).max(1);
                limit > returned
            }
        };
        self.ended = !page.more || !wanted || rest.is_none();
        if let Some(rest) = rest {
            self.range.keys = rest;
        }
    }
}

/// The keys that come after `last`; `None` if there can be none.
fn after(keys: &Keys, last: &Bytes, descending: bool) -> Option<Keys> {
    let Keys::Range { start, end } = keys else { return None };
    if descending {
        return Some(Keys::Range { start: start.clone(), end: Some(last.clone()) });
    }
    let mut next = Vec::with_capacity(last.len() + 1);
    next.extend_from_slice(last);
    next.push(0);
    Some(Keys::Range { start: next.into(), end: end.clone() })
}
