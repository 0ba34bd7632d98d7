//! Transactions as they are asked for.

use super::{delete, keys, put, range};
use crate::api::{Compare, LeaseId, Op, Operator, Revision, TXN_OPS_MAX, Target, Txn};
use crate::etcd::error::{EMPTY_KEY, KEY_NOT_FOUND, TOO_MANY_OPS};
use crate::etcd::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use tonic::Status;

/// A transaction. What it may write twice is for the store to say; how deep it may be, for the
/// decoder, which bounds this recursion. How many operations it has is looked at first: they take
/// up to a hundred times as much here as the few bytes that announce them.
///
/// # Errors
/// What is wrong with any part of it.
pub(in crate::etcd) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    if lengths(&request) > TXN_OPS_MAX {
        return Err(TOO_MANY_OPS.into());
    }
    whole(request)
}

/// How long all its lists are together.
fn lengths(request: &pb::TxnRequest) -> usize {
    let within = |op: &pb::RequestOp| match &op.request {
        Some(Request::RequestTxn(request)) => lengths(request),
        _ => 0,
    };
    let ops = || request.success.iter().chain(&request.failure);
    request.compare.len() + ops().count() + ops().map(within).sum::<usize>()
}

fn whole(request: pb::TxnRequest) -> Result<Txn, Status> {
    let pb::TxnRequest { compare: compares, success, failure } = request;
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().map(op).collect::<Result<Vec<_>, _>>();
    let compares = compares.into_iter().map(compare).collect::<Result<Vec<_>, _>>()?;
    Ok(Txn { compares, success: ops(success)?, failure: ops(failure)? })
}

fn op(op: pb::RequestOp) -> Result<Op, Status> {
    Ok(match op.request {
        Some(Request::RequestRange(request)) => Op::Range(range(request)?.0),
        Some(Request::RequestPut(request)) => Op::Put(put(request)?),
        Some(Request::RequestDeleteRange(request)) => delete(request)?,
        Some(Request::RequestTxn(request)) => Op::Txn(Box::new(whole(request)?)),
        None => return Err(KEY_NOT_FOUND.into()),
    })
}

fn compare(compare: pb::Compare) -> Result<Compare, Status> {
    if compare.key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    let unknown = |what: &str| Status::invalid_argument(format!("etcdserver: unknown {what}"));
    let operator = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => Operator::Equal,
        Ok(CompareResult::Greater) => Operator::Greater,
        Ok(CompareResult::Less) => Operator::Less,
        Ok(CompareResult::NotEqual) => Operator::NotEqual,
        Err(_) => return Err(unknown("compare result")),
    };
    let target = CompareTarget::try_from(compare.target).map_err(|_| unknown("compare target"))?;
    let (operator, target) = target_of(target, compare.target_union, operator);
    Ok(Compare { keys: keys(compare.key, compare.range_end)?, operator, target })
}

/// What is compared with what; a value that is not given, or of another kind, is 0. No number of
/// ours is below that: such a compare is put so that it comes out the same.
fn target_of(
    target: CompareTarget,
    union: Option<TargetUnion>,
    operator: Operator,
) -> (Operator, Target) {
    let number = match (target, &union) {
        (CompareTarget::Version, Some(TargetUnion::Version(number)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(number)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(number)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    };
    let (operator, number) = match (u64::try_from(number), operator) {
        (Ok(number), operator) => (operator, number),
        // Whatever there is is greater than that, and not equal to it.
        (Err(_), Operator::Greater | Operator::NotEqual) => (Operator::NotEqual, u64::MAX),
        (Err(_), Operator::Equal | Operator::Less) => (Operator::Equal, u64::MAX),
    };
    let target = match (target, union) {
        (CompareTarget::Version, _) => Target::Version(number),
        (CompareTarget::Create, _) => Target::CreateRevision(Revision(number)),
        (CompareTarget::Mod, _) => Target::ModRevision(Revision(number)),
        (CompareTarget::Lease, _) => {
            Target::Lease(Some(LeaseId(number)).filter(|lease| lease.0 > 0))
        }
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => Target::Value(value),
        (CompareTarget::Value, _) => Target::Value(bytes::Bytes::new()),
    };
    (operator, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_all_others_compare_as_such() {
        for (result, expected) in [
            (CompareResult::Equal, Operator::Equal),
            (CompareResult::Less, Operator::Equal),
            (CompareResult::Greater, Operator::NotEqual),
            (CompareResult::NotEqual, Operator::NotEqual),
        ] {
            let request = pb::Compare {
                result: result.into(),
                target: CompareTarget::Mod.into(),
                key: "k".into(),
                target_union: Some(TargetUnion::ModRevision(-1)),
                ..Default::default()
            };
            let compare = compare(request).unwrap();
            assert_eq!(compare.operator, expected);
            assert_eq!(compare.target, Target::ModRevision(Revision(u64::MAX)));
        }
    }

    /// Before they are made anything of: none of these would be one.
    #[test]
    fn operations_are_counted_however_deep_they_are() {
        let nothing = || pb::RequestOp { request: None };
        let within = |ops| {
            let txn = pb::TxnRequest { failure: ops, ..Default::default() };
            pb::RequestOp { request: Some(Request::RequestTxn(txn)) }
        };
        let of = |count| {
            let half: Vec<_> = (0..count / 2).map(|_| nothing()).collect();
            let deep = vec![within(half.clone())];
            pb::TxnRequest { success: half, failure: deep, ..Default::default() }
        };
        let refused = txn(of(TXN_OPS_MAX)).unwrap_err();
        assert_eq!(refused.message(), "etcdserver: too many operations in txn request");
        let refused = txn(of(TXN_OPS_MAX - 2)).unwrap_err();
        assert_eq!(refused.message(), "etcdserver: key not found");
    }

    #[test]
    fn an_operation_that_asks_for_nothing_is_refused() {
        let request =
            pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
        let refused = txn(request).unwrap_err();
        assert_eq!(refused.message(), "etcdserver: key not found");
    }
}
