//! Messages: a length of four bytes and what it counts, all numbers big-endian, strings and data
//! with their lengths before them.

use crate::Fallible;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a session is to outlive its connection.
const SESSION_MILLIS: i32 = 10_000;
/// Bytes read at once.
const BUFFER: usize = 64 * 1024;
/// Most bytes of an answer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
const PASSWORD_BYTES: usize = 16;

/// The error of a request for what is not there.
pub const NO_NODE: i32 = -101;
/// The error of making what is there already.
pub const NODE_EXISTS: i32 = -110;

/// What is asked; the paths of nodes, and their data.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Makes a node.
    Create(&'a str, &'a [u8]),
    /// Reads a node, as the asked member has it.
    Get(&'a str),
    /// Writes a node, whatever its version.
    Set(&'a str, &'a [u8]),
    /// Has the asked member catch up with the leader.
    Sync(&'a str),
}

/// A session and its connection. Requests are answered in their order.
pub struct Session {
    stream: BufReader<TcpStream>,
    /// What is not sent yet.
    out: Vec<u8>,
    /// The number of the last request.
    number: i32,
    answer: Vec<u8>,
}

impl Session {
    /// Opens one. No answer may take longer than `patience`.
    ///
    /// # Errors
    /// If the member does not serve.
    pub fn connect(address: &str, patience: Duration) -> io::Result<Self> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(BUFFER, stream);
        let mut session = Self { stream, out: Vec::new(), number: 0, answer: Vec::new() };
        session.message(|out| {
            // The protocol's version, the last change seen, and no session to be taken up again.
            out.extend_from_slice(&0i32.to_be_bytes());
            out.extend_from_slice(&0i64.to_be_bytes());
            out.extend_from_slice(&SESSION_MILLIS.to_be_bytes());
            out.extend_from_slice(&0i64.to_be_bytes());
            data(out, &[0; PASSWORD_BYTES]);
            // It need not be able to write.
            out.push(0);
        });
        session.flush()?;
        session.read()?;
        Ok(session)
    }

    /// Puts a request behind those that are to be sent.
    pub fn push(&mut self, request: Request<'_>) {
        self.number = self.number.checked_add(1).unwrap_or(1);
        let number = self.number;
        self.message(|out| {
            out.extend_from_slice(&number.to_be_bytes());
            let code: i32 = match request {
                Request::Create(..) => 1,
                Request::Get(_) => 4,
                Request::Set(..) => 5,
                Request::Sync(_) => 9,
            };
            out.extend_from_slice(&code.to_be_bytes());
            match request {
                Request::Create(path, value) => {
                    data(out, path.as_bytes());
                    data(out, value);
                    // One rule: everything (31) is allowed to the world; and no flags.
                    out.extend_from_slice(&1i32.to_be_bytes());
                    out.extend_from_slice(&31i32.to_be_bytes());
                    data(out, b"world");
                    data(out, b"anyone");
                    out.extend_from_slice(&0i32.to_be_bytes());
                }
                Request::Get(path) => {
                    data(out, path.as_bytes());
                    // Without a watch.
                    out.push(0);
                }
                Request::Set(path, value) => {
                    data(out, path.as_bytes());
                    data(out, value);
                    out.extend_from_slice(&(-1i32).to_be_bytes());
                }
                Request::Sync(path) => data(out, path.as_bytes()),
            }
        });
    }

    /// Sends what was pushed.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// The next answer: 0, or an error's number.
    ///
    /// # Errors
    /// If none comes in time, or the connection is gone.
    pub fn answer(&mut self) -> io::Result<i32> {
        self.read()?;
        // The request's number and that of the last change come first.
        let code = self.answer.get(12..16).and_then(|bytes| bytes.first_chunk());
        let code = code.ok_or_else(|| io::Error::other("an answer has a head"))?;
        Ok(i32::from_be_bytes(*code))
    }

    /// Whether an answer is here already.
    pub fn has_answer(&self) -> bool {
        let buffered = self.stream.buffer();
        let length = buffered.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize);
        length.is_some_and(|length| buffered.len() >= length.saturating_add(4))
    }

    /// Asks once.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn ask(&mut self, request: Request<'_>) -> io::Result<i32> {
        self.push(request);
        self.flush()?;
        self.answer()
    }

    fn message(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        write(&mut self.out);
        let length = (self.out.len() - start - 4) as u32;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn read(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > ANSWER_MAX {
            return Err(io::Error::other("an answer of that length is none"));
        }
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer)
    }
}

/// Whether an answer says that it was done.
///
/// # Errors
/// If it does not.
pub fn done(code: i32) -> Fallible<()> {
    match code {
        0 => Ok(()),
        code => Err(format!("ZooKeeper answered {code}").into()),
    }
}

fn data(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}
