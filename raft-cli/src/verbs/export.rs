//! `raft export`: everything under a prefix as it is at one revision, page by page, so that memory
//! does not grow with the store. A file gets its name only when it is complete.

use super::pages::Pages;
use super::progress::Progress;
use super::temporary_beside;
use crate::args::export::Export;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::records::Format;
use raft_kv::api::{Consistency, Keys, Range, RangeReply, Revision};
use serde_json::json;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes keys and values to a file or stdout.
///
/// # Errors
/// Of every kind but `No`. A file of that name from before is then as it was.
pub async fn run(store: &Store, args: &Export, output: &mut Output<'_>) -> Result<(), Failure> {
    let range = Range {
        revision: args.rev.map(Revision),
        count_all: true,
        ..Range::of(Keys::prefix(args.escaped.bytes(&args.prefix)?))
    };
    if args.file == Path::new("-") {
        let format = args.format.unwrap_or(Format::Jsonl);
        pages(store, range, format, |lines| output.raw(lines)).await?;
        return Ok(());
    }
    let format = args.format.or_else(|| Format::of(&args.file)).ok_or_else(|| {
        Failure::usage(format!("cannot tell the format from the name {}", args.file.display()))
            .advice("give --format jsonl or --format tsv")
    })?;
    let failed = |error: std::io::Error| {
        Failure::local(format!("cannot write {}", args.file.display()), &error)
    };
    // Renaming over a device would replace it.
    if args.file.metadata().is_ok_and(|meta| !meta.is_file()) {
        return Err(Failure::usage(format!("{} is not a file", args.file.display()))
            .advice("give another name, or `-` for stdout"));
    }
    let file = temporary_beside(&args.file).map_err(failed)?;
    let mut writer = BufWriter::new(file);
    let write = |lines: &[u8]| writer.write_all(lines).map_err(failed);
    let (revision, keys) = pages(store, range, format, write).await?;
    let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&args.file).map_err(|error| failed(error.error))?;
    output.print(&json!({ "keys": keys, "revision": revision }), || {
        format!("{keys} keys at revision {revision} written to {}", args.file.display())
    })
}

/// Hands the lines of all pages to `write`; returns the revision read and the number of keys.
async fn pages(
    store: &Store,
    range: Range,
    format: Format,
    mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(Revision, u64), Failure> {
    let asked = range.revision;
    let mut pages = Pages::new(range, Consistency::Linearizable);
    let mut progress = None;
    let mut lines = Vec::new();
    let (mut revision, mut expected, mut written) = (Revision(0), 0, 0);
    while let Some(page) = pages.next(store).await? {
        if progress.is_none() {
            (revision, expected) = (asked.unwrap_or(page.revision), page.count);
        }
        let bar = progress.get_or_insert_with(|| Progress::of_keys(page.count));
        lines.clear();
        written += append(&page, format, &mut lines);
        write(&lines)?;
        bar.set(written, written);
    }
    if written != expected {
        let message = format!("{written} keys came, of {expected} that the first page counted");
        return Err(Failure::new(Kind::Refused, message)
            .advice("compare the state hashes in `raft status`"));
    }
    Ok((revision, written))
}

fn append(page: &RangeReply, format: Format, lines: &mut Vec<u8>) -> u64 {
    for pair in &page.kvs {
        format.write(&pair.key, &pair.value, lines);
    }
    page.kvs.len() as u64
}
