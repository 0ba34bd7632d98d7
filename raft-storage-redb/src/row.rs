//! The bytes of a row: a header that checks it and chains it to the row before, then records.
//!
//! The layout is described in the crate documentation. This module owns it alone: everything that
//! reads or writes rows goes through here. It never trusts a byte before the checksum has matched.

use crate::record::Record;
use bytes::BytesMut;
use raft_core::types::Version;

/// Newest format version of a row. A row has the oldest version that knows all of its records, so
/// that an older program can read what it would have written itself, and sees what it cannot read.
const VERSION: u8 = stamp(Version::CURRENT);
const _: () = assert!(Version::CURRENT.0 == 4, "is a new version told by the memberships alone?");

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 12;
/// Largest row of a commit that is not larger than this. With redb's own bytes it stays below
/// 16 KiB: pages are powers of two, and one byte more would take twice the space.
pub(crate) const SMALL_ROW_BYTES: usize = 16_320;
/// Largest row of a larger commit, below 64 KiB for the same reason.
pub(crate) const LARGE_ROW_BYTES: usize = 65_400;

/// The body continues the record that the row before left unfinished.
const CONTINUED: u8 = 1;
/// The record goes on in the next row.
const CONTINUES: u8 = 2;

/// Where a record stands: the row it begins in, and its length over all rows it spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Sequence number of the row.
    pub(crate) row: u64,
    /// Length in bytes.
    pub(crate) bytes: u32,
}

/// What a header says, once its checksum has matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// The oldest version that knows all records of this row.
    pub(crate) version: Version,
    /// Whether the body continues the record of the row before.
    pub(crate) continued: bool,
    /// Whether the record goes on in the next row.
    pub(crate) continues: bool,
    /// How many records begin in this row.
    pub(crate) records: u16,
    /// Checksum of the row before.
    pub(crate) previous: u32,
    /// Checksum of this row.
    pub(crate) checksum: u32,
}

/// What is wrong with a row.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("row {0} is missing")]
    Missing(u64),
    #[error("row {0} is shorter than its header")]
    Short(u64),
    #[error(
        "row {seq} was written by a newer version of this program: it has format version \
         {version}, this one reads up to {VERSION}"
    )]
    Version { seq: u64, version: u8 },
    #[error("row {0} does not match its checksum")]
    Checksum(u64),
    #[error("row {0} does not follow the row before it")]
    Chain(u64),
    #[error("row {seq}, record {position}: not a record")]
    Record { seq: u64, position: usize },
    #[error("row {0} does not hold the records it announces")]
    Count(u64),
    #[error("row {0} breaks a record that spans several rows")]
    Span(u64),
}

/// Checks the row `seq` by itself and splits it into header and body.
pub(crate) fn open(seq: u64, row: &[u8]) -> Result<(Header, &[u8]), RowError> {
    let (header, body) = row.split_first_chunk::<HEADER_BYTES>().ok_or(RowError::Short(seq))?;
    let [version, flags, r0, r1, p0, p1, p2, p3, c0, c1, c2, c3] = *header;
    if version > VERSION {
        return Err(RowError::Version { seq, version });
    }
    let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
    if version == 0 || checksum != checksum_of(seq, &header[..8], body) {
        return Err(RowError::Checksum(seq));
    }
    let header = Header {
        version: Version(version.into()),
        continued: flags & CONTINUED != 0,
        continues: flags & CONTINUES != 0,
        records: u16::from_le_bytes([r0, r1]),
        previous: u32::from_le_bytes([p0, p1, p2, p3]),
        checksum,
    };
    Ok((header, body))
}

/// The byte for `version`.
const fn stamp(version: Version) -> u8 {
    if version.0 < 256 { version.0 as u8 } else { u8::MAX }
}

fn checksum_of(seq: u64, head: &[u8], body: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&seq.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(checksum, head), body)
}

/// The records of one commit, being cut into rows. Its buffers are reused from commit to commit.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bodies: BytesMut,
    cuts: Vec<Cut>,
    /// Sequence number of the first row.
    first: u64,
    limit: usize,
    /// Where the row being filled begins in `bodies`.
    open: usize,
    /// Records in the row being filled.
    records: u16,
    /// The oldest version that knows all of these records.
    version: Version,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    end: usize,
    records: u16,
    version: Version,
    flags: u8,
}

impl Batch {
    /// Memory kept from one commit to the next.
    const KEPT_BYTES: usize = 4 << 20;

    /// Starts over; the first row will be `first`, and no row larger than `limit` unless a record
    /// is.
    pub(crate) fn begin(&mut self, first: u64, limit: usize) {
        if self.bodies.capacity() > Self::KEPT_BYTES {
            self.bodies = BytesMut::new();
        }
        self.bodies.clear();
        self.cuts.clear();
        self.first = first;
        self.limit = limit;
        self.open = 0;
        self.records = 0;
        self.version = Version::OLDEST;
    }

    /// Sequence number of the first row.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// From here on rows may be large.
    pub(crate) const fn allow_large_rows(&mut self) {
        self.limit = LARGE_ROW_BYTES;
    }

    /// Adds the record that `encode` writes; it returns the oldest version that knows the record.
    pub(crate) fn add(&mut self, encode: impl FnOnce(&mut BytesMut) -> Version) -> Place {
        let start = self.bodies.len();
        let version = encode(&mut self.bodies);
        let bytes = self.bodies.len() - start;
        if bytes > LARGE_ROW_BYTES - HEADER_BYTES {
            return self.span(start, version);
        }
        if self.bodies.len() - self.open > self.limit - HEADER_BYTES {
            self.cut(start, 0);
        }
        self.records += 1;
        self.version = self.version.max(version);
        self.place(self.filling(), bytes)
    }

    /// How many rows it makes, and their length altogether; rather more than less.
    pub(crate) fn size(&self) -> (usize, usize) {
        let rows = self.cuts.len() + 1;
        (rows, rows * HEADER_BYTES + self.bodies.len())
    }

    /// Closes the last row.
    pub(crate) fn finish(&mut self) {
        self.cut(self.bodies.len(), 0);
    }

    /// The rows with their headers' checksums: chained to `previous`, the checksum of the last row
    /// in the log.
    pub(crate) fn rows(&self, previous: u32) -> impl Iterator<Item = SealedRow<'_>> {
        let mut start = 0;
        let mut previous = previous;
        self.cuts.iter().zip(self.first..).map(move |(cut, seq)| {
            let row = SealedRow::new(seq, cut, previous, &self.bodies[start..cut.end]);
            start = cut.end;
            previous = row.checksum;
            row
        })
    }

    /// Number of the row being filled.
    const fn filling(&self) -> u64 {
        self.first + self.cuts.len() as u64
    }

    fn place(&self, row: u64, bytes: usize) -> Place {
        let bytes = u32::try_from(bytes).expect("a record is far smaller than 4 GiB");
        Place { row, bytes }
    }

    /// Ends the row being filled at `end`; an empty one vanishes.
    fn cut(&mut self, end: usize, flags: u8) {
        if end > self.open {
            let (records, version) = (self.records, self.version);
            self.cuts.push(Cut { end, records, version, flags });
        }
        self.open = end;
        self.records = 0;
        self.version = Version::OLDEST;
    }

    /// Gives the record from `start` on, larger than any row, rows of its own.
    fn span(&mut self, start: usize, version: Version) -> Place {
        self.cut(start, 0);
        let row = self.filling();
        self.records = 1;
        self.version = version;
        let end = self.bodies.len();
        let mut flags = CONTINUES;
        let mut at = start + (LARGE_ROW_BYTES - HEADER_BYTES);
        while at < end {
            self.cut(at, flags);
            self.version = version;
            flags = CONTINUED | CONTINUES;
            at += LARGE_ROW_BYTES - HEADER_BYTES;
        }
        self.cut(end, CONTINUED);
        self.place(row, end - start)
    }
}

/// A row ready to be written.
pub(crate) struct SealedRow<'a> {
    /// Its key.
    pub(crate) seq: u64,
    /// Its checksum.
    pub(crate) checksum: u32,
    /// Whether it continues the record of the row before.
    pub(crate) continued: bool,
    header: [u8; HEADER_BYTES],
    body: &'a [u8],
}

impl<'a> SealedRow<'a> {
    fn new(seq: u64, cut: &Cut, previous: u32, body: &'a [u8]) -> Self {
        let mut header = [0; HEADER_BYTES];
        header[0] = stamp(cut.version);
        header[1] = cut.flags;
        header[2..4].copy_from_slice(&cut.records.to_le_bytes());
        header[4..8].copy_from_slice(&previous.to_le_bytes());
        let checksum = checksum_of(seq, &header[..8], body);
        header[8..].copy_from_slice(&checksum.to_le_bytes());
        let continued = cut.flags & CONTINUED != 0;
        Self { seq, checksum, continued, header, body }
    }

    /// Its length.
    pub(crate) const fn len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Writes it to `out`, which is as long as it is.
    pub(crate) fn write(&self, out: &mut [u8]) {
        let (header, body) = out.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&self.header);
        body.copy_from_slice(self.body);
    }
}

/// Reads rows in order, checking each and how they hang together.
#[derive(Debug, Default)]
pub(crate) struct RowReader {
    /// The first row and the checksum it names for the row before it.
    first: Option<(u64, u32)>,
    /// The last row and its checksum.
    last: Option<(u64, u32)>,
    /// The last purge point met: the row purged last and its checksum.
    purged: Option<(u64, u32)>,
    /// The record that the next row continues: where it began, and its bytes so far.
    span: Option<(u64, BytesMut)>,
}

impl RowReader {
    /// The last row read and its checksum.
    pub(crate) const fn last(&self) -> Option<(u64, u32)> {
        self.last
    }

    /// The first row read.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first.map(|(seq, _)| seq)
    }

    /// Checks the next row and hands its records to `visit`, each with its place.
    pub(crate) fn read(
        &mut self,
        seq: u64,
        row: &[u8],
        mut visit: impl FnMut(Place, Record),
    ) -> Result<Header, RowError> {
        let (header, body) = open(seq, row)?;
        self.link(seq, &header)?;
        let Some((row, frame)) = self.gather(seq, &header, body)? else { return Ok(header) };
        let mut found = 0;
        for taken in Record::take_all(&frame) {
            found += 1;
            let (bytes, record) = taken.map_err(|position| RowError::Record { seq, position })?;
            if let Record::Purged { row, checksum } = record {
                self.purged = Some((row, checksum));
            }
            visit(Place { row, bytes: bytes.len() as u32 }, record);
        }
        // A row that ends a record announces none: the row where it began did.
        let announced = if header.continued { 1 } else { header.records };
        if found != usize::from(announced) {
            return Err(RowError::Count(seq));
        }
        Ok(header)
    }

    /// Checks what can only be told at the end of the log.
    pub(crate) fn finish(&self) -> Result<(), RowError> {
        if let Some((start, _)) = self.span {
            return Err(RowError::Span(start));
        }
        // Rows may be missing from the front only if they were purged, and those exactly.
        let before = self.first.filter(|(seq, _)| *seq > 1).map(|(seq, check)| (seq - 1, check));
        match self.first {
            Some((seq, _)) if before != self.purged => Err(RowError::Missing(seq - 1)),
            _ => Ok(()),
        }
    }

    fn link(&mut self, seq: u64, header: &Header) -> Result<(), RowError> {
        match self.last {
            Some((last, _)) if seq != last + 1 => return Err(RowError::Missing(last + 1)),
            Some((_, checksum)) if header.previous != checksum => return Err(RowError::Chain(seq)),
            None if seq == 0 || (seq == 1 && header.previous != 0) => {
                return Err(RowError::Chain(seq));
            }
            None => self.first = Some((seq, header.previous)),
            Some(_) => {}
        }
        self.last = Some((seq, header.checksum));
        Ok(())
    }

    /// The row in which the records of this one begin, and their bytes; `None` if the record goes
    /// on in the next row.
    fn gather(
        &mut self,
        seq: u64,
        header: &Header,
        body: &[u8],
    ) -> Result<Option<(u64, bytes::Bytes)>, RowError> {
        if header.continued != self.span.is_some() {
            return Err(RowError::Span(seq));
        }
        if !header.continued && !header.continues {
            return Ok(Some((seq, bytes::Bytes::copy_from_slice(body))));
        }
        let (start, mut bytes) = self.span.take().unwrap_or_else(|| (seq, BytesMut::new()));
        bytes.extend_from_slice(body);
        if header.continues {
            self.span = Some((start, bytes));
            return Ok(None);
        }
        Ok(Some((start, bytes.freeze())))
    }
}
