//! Integration tests of the replicated store.

mod store;
