//! Keys and values on the command line: any bytes, taken as they are or with escapes.

use crate::failure::Failure;
use crate::records::unescape;
use bytes::Bytes;
use clap::Args;
use std::ffi::{OsStr, OsString};

/// The flag of verbs that take keys or values as arguments.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Escaped {
    /// Keys and values hold escapes: \t \n \r \\ and \xNN for any byte, as tables print them.
    #[arg(short, long)]
    pub escaped: bool,
}

impl Escaped {
    /// The bytes of an argument.
    ///
    /// # Errors
    /// Of kind `Usage` if an escape is malformed.
    pub fn bytes(self, text: &OsStr) -> Result<Bytes, Failure> {
        if !self.escaped {
            return Ok(Bytes::copy_from_slice(text.as_encoded_bytes()));
        }
        unescape(text.as_encoded_bytes())
            .map(Bytes::from)
            .map_err(|error| Failure::usage(format!("{}: {error}", text.display())))
    }

    /// The bytes of an optional argument.
    ///
    /// # Errors
    /// As [`Escaped::bytes`].
    pub fn optional(self, text: Option<&OsString>) -> Result<Option<Bytes>, Failure> {
        text.map(|text| self.bytes(text)).transpose()
    }
}
