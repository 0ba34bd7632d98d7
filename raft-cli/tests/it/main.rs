//! Tests of the binary `raft` and its library. Verbs are tested with a cluster of one in memory,
//! everything about processes with real ones on loopback.

mod arguments;
mod auth;
mod bench;
mod cert;
mod check;
mod cluster;
mod config;
mod damage;
mod docs;
mod doctor;
mod etcd;
mod etcd_flags;
mod failures;
mod fake;
mod fuzz;
mod health;
mod import;
mod inspect;
mod leases;
mod members;
mod nemesis;
mod printing;
mod records;
mod recover;
mod resume;
mod scrub;
mod serve;
mod snapshot;
mod verbs;
