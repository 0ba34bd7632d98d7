//! Programs that were written for etcd, and how they fare with this store: each is run against a
//! cluster of both.

mod case;
mod compare;
mod gateway;
mod grpc;
mod kubernetes;
mod metrics;
mod normal;
pub(crate) mod side;
mod verbs;
