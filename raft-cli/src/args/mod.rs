//! The command line: what every verb takes, and the examples its help teaches with. One file per
//! verb. Nothing here acts; it parses.

pub mod cert;
pub mod demo;
pub mod inspect;
pub mod serve;
pub mod values;
