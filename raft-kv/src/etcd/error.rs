//! What the interface's clients are told when something is not done: the codes and the exact texts
//! that they know, and which of them each of our own errors is.

use crate::api::{AlarmKind, AuthError, KvError};
use crate::client::{Cause, ClientError};
use tonic::{Code, Status};

/// A code with its text. Clients match the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known(pub(super) Code, pub(super) &'static str);

pub(super) const EMPTY_KEY: Known = Known(Code::InvalidArgument, "etcdserver: key is not provided");
pub(super) const KEY_NOT_FOUND: Known = Known(Code::InvalidArgument, "etcdserver: key not found");
pub(super) const VALUE_PROVIDED: Known =
    Known(Code::InvalidArgument, "etcdserver: value is provided");
pub(super) const LEASE_PROVIDED: Known =
    Known(Code::InvalidArgument, "etcdserver: lease is provided");
pub(super) const TOO_MANY_OPS: Known =
    Known(Code::InvalidArgument, "etcdserver: too many operations in txn request");
pub(super) const DUPLICATE_KEY: Known =
    Known(Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
pub(super) const INVALID_SORT: Known =
    Known(Code::InvalidArgument, "etcdserver: invalid sort option");
pub(super) const TOO_LARGE: Known =
    Known(Code::InvalidArgument, "etcdserver: request is too large");
pub(super) const BAD_URLS: Known =
    Known(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
/// A text of our own: etcd takes whatever number there is.
pub(super) const BAD_ALARM: Known =
    Known(Code::InvalidArgument, "etcdserver: there is no such alarm");
pub(super) const COMPACTED: Known =
    Known(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
pub(super) const FUTURE_REVISION: Known =
    Known(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
pub(super) const LEASE_TTL_TOO_LARGE: Known =
    Known(Code::OutOfRange, "etcdserver: too large lease TTL");
pub(super) const NO_SPACE: Known =
    Known(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
pub(super) const TOO_MANY_REQUESTS: Known =
    Known(Code::ResourceExhausted, "etcdserver: too many requests");
/// A text of our own, of a request that does not end.
pub(super) const TOO_SLOW: Known =
    Known(Code::DeadlineExceeded, "etcdserver: the request takes too long to come");
/// The same: the interface knows no limit of answers.
pub(super) const REPLY_TOO_LARGE: Known =
    Known(Code::ResourceExhausted, "etcdserver: the answer is too large, ask for less at a time");
pub(super) const LEASE_NOT_FOUND: Known =
    Known(Code::NotFound, "etcdserver: requested lease not found");
pub(super) const MEMBER_NOT_FOUND: Known = Known(Code::NotFound, "etcdserver: member not found");
pub(super) const LEASE_EXISTS: Known =
    Known(Code::FailedPrecondition, "etcdserver: lease already exists");
pub(super) const PEER_URL_EXISTS: Known =
    Known(Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
pub(super) const NOT_LEARNER: Known =
    Known(Code::FailedPrecondition, "etcdserver: can only promote a learner member");
pub(super) const LEARNER_BEHIND: Known = Known(
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader",
);
pub(super) const TOO_FEW_STARTED: Known = Known(
    Code::FailedPrecondition,
    "etcdserver: re-configuration failed due to not enough started members",
);
pub(super) const NOT_LEADER: Known = Known(Code::FailedPrecondition, "etcdserver: not leader");
pub(super) const BAD_TRANSFEREE: Known =
    Known(Code::FailedPrecondition, "etcdserver: bad leader transferee");
pub(super) const NO_LEADER: Known = Known(Code::Unavailable, "etcdserver: no leader");
pub(super) const STOPPED: Known = Known(Code::Unavailable, "etcdserver: server stopped");
pub(super) const TIMED_OUT: Known = Known(Code::Unavailable, "etcdserver: request timed out");
pub(super) const TIMED_OUT_BY_LEADER: Known = Known(
    Code::Unavailable,
    "etcdserver: request timed out, possibly due to previous leader failure",
);
pub(super) const TIMED_OUT_BY_CONNECTION: Known =
    Known(Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost");
pub(super) const LEADER_CHANGED: Known = Known(Code::Unavailable, "etcdserver: leader changed");
pub(super) const UNHEALTHY: Known = Known(Code::Unavailable, "etcdserver: unhealthy cluster");
pub(super) const CORRUPT: Known = Known(Code::DataLoss, "etcdserver: corrupt cluster");
pub(super) const NO_ELECTION_LEADER: Known = Known(Code::Unknown, "election: no leader");

/// In a watch's reason to be refused: it is no error of the stream.
pub(super) const DUPLICATE_WATCH: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// The same of a watch of no keys.
pub(super) const EMPTY_WATCH: &str = "mvcc: watcher range is empty";

impl From<Known> for Status {
    fn from(Known(code, text): Known) -> Self {
        Self::new(code, text)
    }
}

/// What a client is told of an error of the store's own interface, by a node that knows of a leader
/// or does not.
pub(super) fn of_kv(error: &KvError, led: bool) -> Status {
    let known = match error {
        KvError::KeyEmpty => EMPTY_KEY,
        KvError::TooLarge { .. } | KvError::TooManyKeys { .. } => TOO_LARGE,
        KvError::TooManyOps { .. } | KvError::TooDeep(_) => TOO_MANY_OPS,
        KvError::DuplicateKey(_) => DUPLICATE_KEY,
        KvError::FutureRevision { .. } => FUTURE_REVISION,
        KvError::Compacted { .. } => COMPACTED,
        KvError::KeyNotFound(_) => KEY_NOT_FOUND,
        KvError::LeaseNotFound(_) => LEASE_NOT_FOUND,
        KvError::LeaseExists(_) => LEASE_EXISTS,
        KvError::LeaseTooLong { .. } => LEASE_TTL_TOO_LARGE,
        KvError::Full { .. } | KvError::Alarmed(AlarmKind::NoSpace) => NO_SPACE,
        KvError::Alarmed(AlarmKind::Corrupt) => CORRUPT,
        KvError::Overloaded | KvError::TooManyLeases { .. } | KvError::TooManyAlarms { .. } => {
            TOO_MANY_REQUESTS
        }
        KvError::NoQuorum { may_have_run: false, .. } => NO_LEADER,
        KvError::Unavailable(_) if !led => NO_LEADER,
        // It may have run, or it has not in all that time.
        KvError::Unknown(_)
        | KvError::AnsweredBefore(_)
        | KvError::SessionUnknown(_)
        | KvError::NoQuorum { .. }
        | KvError::Unavailable(_) => TIMED_OUT,
        KvError::Malformed(text) => {
            return Status::invalid_argument(format!("etcdserver: {text}"));
        }
        KvError::ChangeRefused { reason, advice } => {
            return Status::failed_precondition(format!("etcdserver: {reason}: {advice}"));
        }
        KvError::Auth(error) => return of_auth(*error),
        KvError::Fenced { .. } | KvError::OtherHistory { .. } => {
            return Status::failed_precondition(format!("etcdserver: {error}"));
        }
    };
    known.into()
}

/// What a client is told of what some member would not understand: to repeat it does not help
/// before that is mended. etcd has no such text.
pub(super) fn of_upgrade(error: &KvError) -> Status {
    Status::failed_precondition(format!("etcdserver: {error}"))
}

/// Why a watch has ended. Of rights the whole error is told, as its clients know it.
pub(super) fn of_canceled(error: &KvError) -> String {
    let status = of_kv(error, true);
    match error {
        KvError::Auth(_) => {
            format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
        }
        _ => status.message().to_owned(),
    }
}

/// The same of what is wrong with users and roles: its texts are those of the interface.
fn of_auth(error: AuthError) -> Status {
    let code = match error {
        AuthError::UserEmpty
        | AuthError::RoleEmpty
        | AuthError::Failed
        | AuthError::InvalidManagement
        | AuthError::PermissionNotGiven
        | AuthError::OldRevision
        | AuthError::TooLarge => Code::InvalidArgument,
        AuthError::Denied => Code::PermissionDenied,
        AuthError::InvalidToken => Code::Unauthenticated,
        AuthError::UserExists
        | AuthError::UserNotFound
        | AuthError::RoleExists
        | AuthError::RoleNotFound
        | AuthError::RoleNotGranted
        | AuthError::PermissionNotGranted
        | AuthError::RootUserMissing
        | AuthError::RootRoleMissing
        | AuthError::NotEnabled => Code::FailedPrecondition,
    };
    Status::new(code, format!("etcdserver: {error}"))
}

/// The same of what a call of the client comes to.
pub(super) fn of_client(error: &ClientError, led: bool) -> Status {
    match error {
        ClientError::Refused(error) => of_kv(error, led),
        ClientError::NotDone { source: Some(Cause::Node(error)), .. } => of_kv(error, led),
        ClientError::NotDone { source: Some(Cause::WindowFull(_)), .. } => TOO_MANY_REQUESTS.into(),
        ClientError::NotDone { .. } if !led => NO_LEADER.into(),
        ClientError::NotDone { .. } | ClientError::Unknown { .. } => TIMED_OUT.into(),
    }
}

/// What there is to say when a stream of requests breaks: nobody is there any more, or what came
/// makes no sense.
pub(super) fn of_decoding(status: Status) -> Status {
    if is_oversize(&status) { TOO_LARGE.into() } else { status }
}

/// Whether it is what the decoder says of a message that is too long.
pub(super) fn is_oversize(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().starts_with(OVERSIZE)
}

/// How the decoder begins to say that a message is too long.
pub(super) const OVERSIZE: &str = "Error, decoded message length too large";
