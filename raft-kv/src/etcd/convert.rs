//! Between the interface's messages and our own: what is asked, with the checks that are made
//! before anything enters the log, and what is answered. It asks nobody.

mod reply;
mod txn;

pub(super) use reply::{delete_reply, event, pair, put_reply, range_reply, txn_reply};
pub(super) use txn::txn;

use super::error::{EMPTY_KEY, INVALID_SORT, LEASE_NOT_FOUND, LEASE_PROVIDED, VALUE_PROVIDED};
use super::proto::etcdserverpb as pb;
use crate::api::{
    Attach, Consistency, Filter, Keys, LeaseId, Op, Order, OrderBy, Put, Range, Revision,
};
use bytes::Bytes;
use pb::range_request::{SortOrder, SortTarget};
use tonic::Status;

/// Which keys are meant: one, those up to an end, or, if the end is a single zero byte, all from
/// the first one on.
///
/// # Errors
/// If there is no first key.
pub(super) fn keys(key: Bytes, range_end: Bytes) -> Result<Keys, Status> {
    if key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    Ok(match &range_end[..] {
        [] => Keys::One(key),
        [0] => Keys::Range { start: key, end: None },
        _ => Keys::Range { start: key, end: Some(range_end) },
    })
}

/// A read, and how fresh it has to be.
///
/// # Errors
/// As [`keys`]; if there is no such order.
pub(super) fn range(request: pb::RangeRequest) -> Result<(Range, Consistency), Status> {
    let order = order(request.sort_order, request.sort_target)?;
    let consistency = match request.serializable {
        true => Consistency::Serializable,
        false => Consistency::Linearizable,
    };
    let least = |revision: i64| positive(revision).map(Revision);
    // Below 0 there is nothing.
    let most = |revision: i64| (revision != 0).then(|| Revision(positive(revision).unwrap_or(0)));
    let filter = Filter {
        min_mod_revision: least(request.min_mod_revision),
        max_mod_revision: most(request.max_mod_revision),
        min_create_revision: least(request.min_create_revision),
        max_create_revision: most(request.max_create_revision),
    };
    let range = Range {
        keys: keys(request.key, request.range_end)?,
        limit: positive(request.limit).unwrap_or(0),
        revision: positive(request.revision).map(Revision),
        keys_only: request.keys_only,
        count_only: request.count_only,
        count_all: false,
        order,
        filter,
    };
    Ok((range, consistency))
}

fn order(order: i32, target: i32) -> Result<Option<Order>, Status> {
    let (Ok(order), Ok(target)) = (SortOrder::try_from(order), SortTarget::try_from(target)) else {
        return Err(INVALID_SORT.into());
    };
    let by = match target {
        SortTarget::Key => OrderBy::Key,
        SortTarget::Version => OrderBy::Version,
        SortTarget::Create => OrderBy::CreateRevision,
        SortTarget::Mod => OrderBy::ModRevision,
        SortTarget::Value => OrderBy::Value,
    };
    Ok(match order {
        SortOrder::None | SortOrder::Ascend if by == OrderBy::Key => None,
        // Without an order, anything but the key still sorts.
        SortOrder::None | SortOrder::Ascend => Some(Order { by, descending: false }),
        SortOrder::Descend => Some(Order { by, descending: true }),
    })
}

/// A write of one key.
///
/// # Errors
/// If there is no key, or something to keep is given all the same.
pub(super) fn put(request: pb::PutRequest) -> Result<Put, Status> {
    let pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    if key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    if ignore_value && !value.is_empty() {
        return Err(VALUE_PROVIDED.into());
    }
    if ignore_lease && lease != 0 {
        return Err(LEASE_PROVIDED.into());
    }
    let attach = match lease {
        _ if ignore_lease => Attach::Keep,
        0 => Attach::None,
        lease => Attach::To(lease_id(lease)?),
    };
    let value = (!ignore_value).then_some(value);
    Ok(Put { key, value, lease: attach, prev_kv, sequential: false })
}

/// A deletion.
///
/// # Errors
/// As [`keys`].
pub(super) fn delete(request: pb::DeleteRangeRequest) -> Result<Op, Status> {
    let pb::DeleteRangeRequest { key, range_end, prev_kv } = request;
    Ok(Op::Delete { keys: keys(key, range_end)?, prev_kv })
}

/// A lease.
///
/// # Errors
/// If there can be none with this number.
pub(super) fn lease_id(id: i64) -> Result<LeaseId, Status> {
    positive(id).map(LeaseId).ok_or_else(|| LEASE_NOT_FOUND.into())
}

/// A number that is 0 where nothing is meant.
pub(super) fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_ranges_are_understood() {
        let of = |key: &'static [u8], end: &'static [u8]| keys(key.into(), end.into()).ok();
        let from = |end: Option<&'static [u8]>| {
            Some(Keys::Range { start: "a".into(), end: end.map(Into::into) })
        };
        assert_eq!(of(b"a", b""), Some(Keys::One("a".into())));
        assert_eq!(of(b"a", b"\0"), from(None));
        assert_eq!(of(b"a", b"\0\0"), from(Some(b"\0\0")));
        assert_eq!(of(b"a", b"b"), from(Some(b"b")));
        assert_eq!(of(b"", b"\0"), None);
    }

    #[test]
    fn numbers_out_of_range_ask_for_nothing_special() {
        let request = pb::RangeRequest {
            key: "a".into(),
            limit: -1,
            revision: -7,
            min_mod_revision: -1,
            max_mod_revision: -1,
            ..Default::default()
        };
        let (range, consistency) = range(request).unwrap();
        assert_eq!((range.limit, range.revision), (0, None));
        assert_eq!(range.filter.min_mod_revision, None);
        assert_eq!(range.filter.max_mod_revision, Some(Revision(0)));
        assert_eq!(consistency, Consistency::Linearizable);
    }

    #[test]
    fn orders_that_do_not_exist_are_refused() {
        let asks = |sort_order, sort_target| {
            let request =
                pb::RangeRequest { key: "a".into(), sort_order, sort_target, ..Default::default() };
            range(request).map(|(range, _)| range.order)
        };
        assert_eq!(asks(0, 0).unwrap(), None);
        let modified = Order { by: OrderBy::ModRevision, descending: false };
        assert_eq!(asks(0, 3).unwrap(), Some(modified));
        let keys = Order { by: OrderBy::Key, descending: true };
        assert_eq!(asks(2, 0).unwrap(), Some(keys));
        for (order, target) in [(3, 0), (-1, 0), (0, 5), (1, -1)] {
            let refused = asks(order, target).unwrap_err();
            assert_eq!(refused.message(), "etcdserver: invalid sort option");
        }
    }
}
