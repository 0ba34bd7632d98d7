//! Every verb of `etcdctl` that does not read etcd's own files.

mod auth;
mod data;
mod upkeep;
mod waiting;
