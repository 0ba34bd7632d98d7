//! The durable log of a Raft node: [`LogStore`](raft_core::log_store::LogStore) on
//! [redb](https://docs.rs/redb).
//!
//! One directory holds the log of all groups of a process. [`write`](RedbLog) returns once its
//! operations survive a power loss, with one flush for the whole batch. [`load`](RedbLog) gives
//! back exactly what was written, or refuses: a log of which anything acknowledged may be missing
//! or altered is never silently shortened, because a node that forgets its vote or an entry it
//! confirmed can cost the cluster a committed write.
//!
//! ```
//! use raft_core::log_store::LogStore;
//! use raft_core::raft::{GroupOp, LogOp};
//! use raft_core::types::{Entry, GroupId, HardState, LogId, NodeId, Payload, Run, Term};
//! use raft_storage_redb::RedbLog;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let group = GroupId(0);
//! let vote = HardState { term: Term(1), vote: Some(NodeId(3)) };
//! let payload = Payload::Command("x = 1".into());
//! let run = Run::new(vec![Entry { id: LogId::new(1, 1), payload }]).ok_or("empty")?;
//!
//! let mut log = RedbLog::open(dir)?;
//! log.write(&[
//!     GroupOp { group, op: LogOp::HardState(vote) },
//!     GroupOp { group, op: LogOp::Append(run.clone()) },
//! ])?;
//! drop(log);
//!
//! let loaded = RedbLog::open(dir)?.load(group)?;
//! assert_eq!(loaded.hard_state, vote);
//! assert_eq!(loaded.entries, [run]);
//!
//! for row in raft_storage_redb::inspect(dir)?.rows()? {
//!     println!("{}", row?); // row 1 ... g0 hard_state term=1 vote=n3, g0 append 1@1 ...
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Files
//!
//! | file | what it is |
//! |---|---|
//! | `log.redb` | the rows, in a redb database with one table |
//! | `log.tail` | the newest rows, until they are put into the database together |
//! | `log.ack` | the last acknowledged row, written after every commit without a flush |
//! | `log.lock` | empty; locked by the process that has the log open |
//!
//! `log.tail`, `log.ack` and then `log.redb` are made as `.new` files and renamed, so that each is
//! there as a whole or not at all. `log.redb` without one of the others beside it is refused as
//! corrupt: such a directory was put together by someone, perhaps from an old copy, and its votes
//! cannot be trusted. So is `log.ack` that knows of more rows than there are. A log of a version
//! that had no tail gets one when it is opened, and that version refuses it from then on.
//!
//! # Format
//!
//! The table `raft_log` maps a sequence number (`u64`, from 1, without gaps) to a row. One write
//! appends one or more rows, with one flush: to the tail, or, where they find no room there or are
//! larger than 128 KiB, in one redb transaction (`Durability::Immediate`, one phase) that takes
//! along what the tail holds. Integers are little-endian.
//!
//! | row bytes | content |
//! |---|---|
//! | 0 | format version: the oldest `raft_core::codec::VERSION` that reads all of the row |
//! | 1 | flags: 1 = continues the last record of the row before, 2 = goes on in the next row |
//! | 2..4 | number of records that begin in this row |
//! | 4..8 | checksum of the row before; 0 in row 1 |
//! | 8..12 | checksum: CRC-32C of the sequence number (8 bytes), of bytes 0..8, and of the body |
//! | 12.. | body: records without padding |
//!
//! Rows have version 1, but for those with a membership of a newer version in an entry or a
//! boundary: they have that version, in all rows that such a record spans and when it is carried
//! forward. So a program that is too old for what is in a log refuses it as such, and reads it
//! again once that was truncated and purged.
//!
//! A record is a kind (one byte), the group (except in kind 1), and what it says, all in the format
//! of [`raft_core::codec`]:
//!
//! | kind | says | replay |
//! |---|---|---|
//! | 1 | sequence number and checksum of the last purged row | the first row left names it |
//! | 2 | identity | replaces it |
//! | 3 | term and vote | replaces them |
//! | 4 | an entry: term, index, payload | drops every entry at or above it, then adds it |
//! | 5 | an entry carried forward | adds it, drops nothing |
//! | 6 | compaction: the boundary | drops the entries up to it, moves the boundary |
//! | 7 | reset: the boundary | drops all entries, sets the boundary |
//!
//! A record never crosses rows unless it is larger than the largest row; then it has rows of its
//! own, flagged 2, 3 .. 3, 1. Rows end just below a power of two because redb's pages are powers of
//! two.
//!
//! `log.tail` has its full length of 1 MiB from the start, so that a write changes no file size and
//! no block is allocated. It begins with `raft-tl1`, 8 bytes chosen at random, its length (`u64`),
//! and the CRC-32C of these 24 bytes. Frames, one for each write, follow from byte 4096 on, each at
//! the next multiple of 4096:
//!
//! | frame bytes | content |
//! |---|---|
//! | 0..4 | CRC-32C of the random bytes of the file and of the rest of the frame |
//! | 4..12 | sequence number of the first row |
//! | 12..20 | length of what follows |
//! | 20.. | rows, each with its length (`u32`) before it |
//!
//! What counts are the frames from the first on that continue the rows of the database without a
//! gap. They are put into the database when the log is opened, and when the file is full; then the
//! next frame is the first again. A frame behind them that continues the log with
//! a gap is corruption. Behind the newest frame there may be one that a crash has cut short, and
//! older ones.
//!
//! `log.ack` is two slots of 512 bytes, written in turn; the higher whole one counts.
//!
//! | slot bytes | content |
//! |---|---|
//! | 0..8 | `raft-ac2`; `raft-ack` as long as there is no tail |
//! | 8..16 | sequence number of the last acknowledged row, 0 if none |
//! | 16..20 | checksum of that row |
//! | 20..24 | CRC-32C of bytes 0..20 |
//!
//! # Purging
//!
//! Rows at the front in which nothing lives any more are dropped in a later transaction of the
//! database. Where an idle group still has something in them it is written again at the end first:
//! entries as kind 5, a boundary as kind 6. A carried entry drops nothing, since entries above it
//! may stand in rows before it. Kind 1 goes into the same transaction.
//!
//! # What is refused at open
//!
//! What redb's own check of every page finds (it costs about a millisecond per MiB); a tail that
//! is not as it was made; a row that does not match its checksum, is missing, or does not
//! follow the one before; an entry missing between the boundary and the end; a log that ends before
//! the acknowledged row or has another one in its place. A panic inside redb on a damaged file is
//! caught and reported the same way, unless the program is built with `panic = "abort"`.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | row of a commit up to 16 KiB | 16,320 bytes |
//! | row of a larger commit, and of carried records | 65,400 bytes |
//! | one record | 4 GiB; the core's message size is far below |
//! | bytes of all rows | twice what lives in them and 2 MiB, once the purge has caught up |
//! | the file | about twice the largest size the table had; it does not shrink |
//! | purge step | after 512 KiB or 2,048 rows; looks at 3 bytes per byte appended, at most |
//! | memory | 16 bytes per live entry and per row, 4 MiB redb cache, 6 MiB buffers |

mod database;
mod error;
mod files;
mod index;
mod inspect;
mod lock;
mod overlay;
mod purge;
mod record;
mod replay;
mod row;
mod side_file;
mod store;
mod tail;

pub use files::{ACK_FILE, LOCK_FILE, LOG_FILE, TAIL_FILE};
pub use inspect::{Inspection, Row, Rows, inspect};
pub use lock::{DirectoryLock, FileLock};
pub use overlay::Overlay;
pub use record::{Change, Record};
pub use store::{RedbLog, Usage};
