//! The conformance kits: good implementations pass, and each bad one is found by its rule.

mod faulty;
mod ledger;
mod log_store;
mod plain_log;
mod state_machine;
mod transport;
