//! What some clients call a server is no name of one: etcd's own tools send a whole URL where
//! HTTP/2 has a host and a port, and such a request would be refused before anybody here sees it.
//! Nothing in it matters to this door. So it is made a name on its way in, of the same length: then
//! the table that both ends keep of headers stays the same, and none has to be kept here. Whatever
//! else comes is passed on as it is.

use super::patience::PREFACE;
use http::uri::Authority;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes in front of each frame.
const FRAME_HEAD: usize = 9;
/// Most bytes of a frame that is looked at: a longer one is none that this server allows.
const FRAME_MAX: usize = 16 * 1024;
/// Bytes that are read at a time.
const READ: usize = 16 * 1024;
const TYPE_HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Where the name of this header stands in the table that every connection begins with.
const AUTHORITY_INDEX: usize = 1;

/// A connection whose requests name a server, whatever they call it.
pub(super) struct Named<S> {
    stream: S,
    state: State,
    /// Bytes that have come, and were not yet told.
    bytes: Vec<u8>,
    /// How many of them may be told as they are.
    ready: usize,
}

enum State {
    Preface,
    /// The bytes of the frame that are still to come.
    Frames(usize),
    /// It is none of HTTP/2, or of one that is broken.
    Other,
}

impl<S> Named<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, state: State::Preface, bytes: Vec::new(), ready: 0 }
    }

    /// Looks through what has come, as far as it is whole.
    fn look(&mut self) {
        while self.ready < self.bytes.len() {
            match self.state {
                State::Preface => {
                    let known = self.bytes.len().min(PREFACE.len());
                    if self.bytes[..known] != PREFACE[..known] {
                        self.state = State::Other;
                    } else if known == PREFACE.len() {
                        self.state = State::Frames(0);
                        self.ready = known;
                    } else {
                        return;
                    }
                }
                State::Frames(0) => {
                    let Some(head) = self.bytes[self.ready..].first_chunk::<FRAME_HEAD>() else {
                        return;
                    };
                    let length = usize::from(head[0]) << 16
                        | usize::from(head[1]) << 8
                        | usize::from(head[2]);
                    let whole = self.ready..self.ready + FRAME_HEAD + length;
                    let looked_at = head[3] == TYPE_HEADERS && length <= FRAME_MAX;
                    if !looked_at {
                        self.state = State::Frames(whole.len());
                    } else if self.bytes.len() < whole.end {
                        return;
                    } else {
                        let renamed = renamed(&self.bytes[whole.clone()]);
                        let length = renamed.as_ref().map_or_else(|| whole.len(), Vec::len);
                        if let Some(frame) = renamed {
                            self.bytes.splice(whole, frame);
                        }
                        self.ready += length;
                    }
                }
                State::Frames(left) => {
                    let here = left.min(self.bytes.len() - self.ready);
                    self.ready += here;
                    self.state = State::Frames(left - here);
                }
                State::Other => self.ready = self.bytes.len(),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Named<S> {
    /// Reads what nobody has to look at: most of it, where values are long.
    fn poll_rest(
        &mut self,
        left: usize,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, out))?;
        let read = out.filled().len() - before;
        self.state = State::Frames(left.saturating_sub(read));
        if read > left {
            self.bytes.extend_from_slice(&out.filled()[before + left..]);
            out.set_filled(before + left);
            self.look();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Named<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready == 0 {
            match self.state {
                State::Other => return Pin::new(&mut self.stream).poll_read(context, out),
                State::Frames(left) if left > 0 => return self.poll_rest(left, context, out),
                State::Frames(_) | State::Preface => {}
            }
            let mut read = [MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut read);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // What was begun is not ended any more.
                self.ready = self.bytes.len();
                if self.ready == 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                self.bytes.extend_from_slice(read.filled());
                self.look();
            }
        }
        let told = self.ready.min(out.remaining());
        out.put_slice(&self.bytes[..told]);
        self.bytes.drain(..told);
        self.ready -= told;
        if self.bytes.is_empty() {
            // A connection that says nothing keeps no memory.
            self.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Named<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    /// Of HTTP/1, whatever is below: it copies whole bodies for a stream that takes one slice at a
    /// time, and lets go of what they hold before they are sent.
    fn is_write_vectored(&self) -> bool {
        matches!(self.state, State::Other) || self.stream.is_write_vectored()
    }
}

/// A frame of headers with another name in it; `None` if it is well as it is, or makes no sense.
fn renamed(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at_checked(FRAME_HEAD)?;
    let flags = head[4];
    if flags & END_HEADERS == 0 {
        return None;
    }
    let padding = if flags & PADDED == 0 { 0 } else { usize::from(*payload.first()?) };
    let front = usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 };
    let block = payload.get(front..payload.len().checked_sub(padding)?)?;
    let (name, value) = wrong_name(block)?;
    let name = name.map(|letter| if letter.is_ascii_alphanumeric() { letter } else { b'-' });
    let mut renamed = payload[..front].to_vec();
    renamed.extend_from_slice(&block[..value.start]);
    put_length(&mut renamed, name.len());
    renamed.extend(name);
    renamed.extend_from_slice(&block[value.end..]);
    renamed.extend_from_slice(&payload[payload.len() - padding..]);
    let length = u32::try_from(renamed.len()).ok().filter(|_| renamed.len() <= FRAME_MAX)?;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&head[3..]);
    frame.extend(renamed);
    Some(frame)
}

/// The server's name in a block of headers, if it is there and is none, and where it stands.
fn wrong_name(
    block: &[u8],
) -> Option<(impl ExactSizeIterator<Item = u8> + use<>, std::ops::Range<usize>)> {
    let mut at = 0;
    while at < block.len() {
        let first = block[at];
        // Which kind of header it is says how many bits of a number are in its first byte.
        let (bits, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = number(block, &mut at, bits)?;
        if !literal {
            continue;
        }
        if index == 0 {
            string(block, &mut at)?;
        }
        let start = at;
        let (encoded, value) = string(block, &mut at)?;
        if index == AUTHORITY_INDEX {
            let name = if encoded { unpacked(value)? } else { value.to_vec() };
            let wrong = !name.is_empty() && Authority::try_from(&name[..]).is_err();
            return wrong.then(|| (name.into_iter(), start..at));
        }
    }
    None
}

/// A number whose first `bits` bits are in the byte at `at`.
fn number(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let mask = (1_usize << bits) - 1;
    let mut number = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if number < mask {
        return Some(number);
    }
    // None that matters here needs more bytes.
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A string, and whether it is packed.
fn string<'a>(block: &'a [u8], at: &mut usize) -> Option<(bool, &'a [u8])> {
    let packed = *block.get(*at)? & 0x80 != 0;
    let length = number(block, at, 7)?;
    let value = block.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some((packed, value))
}

/// Writes the length of a string that is not packed.
fn put_length(out: &mut Vec<u8>, length: usize) {
    const MASK: usize = 0x7f;
    let Some(mut rest) = length.checked_sub(MASK) else {
        return out.push(length as u8);
    };
    out.push(MASK as u8);
    while rest > MASK {
        out.push((rest & MASK) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The letters of RFC 7541, appendix B, that have codes of up to 15 bits, by how many: codes of one
/// length follow each other, and the first of a length follows the last shorter one.
const LETTERS: [(u32, &[u8]); 11] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (9, b""),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

const LONGEST: u32 = LETTERS[LETTERS.len() - 1].0;

/// A packed string; `None` if there are rarer letters in it than names have.
fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let mut letters = Vec::new();
    let (mut code, mut bits) = (0_u32, 0_u32);
    for bit in packed.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        (code, bits) = (code << 1 | u32::from(bit), bits + 1);
        if let Some(letter) = letter(code, bits) {
            letters.push(letter);
            (code, bits) = (0, 0);
        } else if bits > LONGEST {
            return None;
        }
    }
    // What is left are ones that fill the last byte.
    (bits < 8 && code + 1 == 1 << bits).then_some(letters)
}

fn letter(code: u32, bits: u32) -> Option<u8> {
    let mut first = 0;
    for (length, letters) in LETTERS {
        first <<= 1;
        if length == bits {
            return letters.get(usize::try_from(code.checked_sub(first)?).ok()?).copied();
        }
        first += u32::try_from(letters.len()).ok()?;
    }
    None
}

/// What is told of a connection on which these bytes come, so many at a time.
#[cfg(feature = "testing")]
pub(crate) fn told(bytes: &[u8], piece: usize) -> Vec<u8> {
    use std::future::Future;
    use tokio::io::AsyncReadExt;

    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let length = self.1.max(1).min(self.0.len()).min(out.remaining());
            let (piece, rest) = self.0.split_at(length);
            out.put_slice(piece);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    let (mut told, mut named) = (Vec::new(), Named::new(Pieces(bytes, piece)));
    let read = std::pin::pin!(named.read_to_end(&mut told));
    let read = read.poll(&mut Context::from_waker(std::task::Waker::noop()));
    assert!(matches!(read, Poll::Ready(Ok(_))), "it is all there");
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    /// A request with a server's name, as it stands in a block of headers.
    fn headers(name: &[u8]) -> Vec<u8> {
        let block = [&[0x83, 0x86, 0x44, 2, b'/', b'a', 0x41], name, &[0x5f, 1, b'x']].concat();
        frame(TYPE_HEADERS, END_HEADERS, &block)
    }

    /// What is read of `bytes` that come in pieces of a length.
    async fn read(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut mock = in_pieces(bytes, piece);
        let mut read = Vec::new();
        mock.read_to_end(&mut read).await.unwrap();
        read
    }

    fn in_pieces(bytes: &[u8], piece: usize) -> Named<tokio::io::DuplexStream> {
        let (mut near, far) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut near, &bytes).await.unwrap();
        });
        Named::new(far)
    }

    #[test]
    fn packed_names_are_unpacked() {
        let packed = b"\x08\x9d\x5c\x0b\x81\x70\xdc\x13\x2f\xbe\xff";
        assert_eq!(unpacked(packed).unwrap(), b"127.0.0.1:23999");
        // From RFC 7541, C.4.1.
        let packed = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(unpacked(packed).unwrap(), b"www.example.com");
        assert_eq!(unpacked(b"\xff\xff\xff\xff"), None);
        assert_eq!(unpacked(b"\xff"), None);
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[tokio::test]
    async fn what_is_no_name_is_made_one_of_the_same_length() {
        let padded = |name: &[u8]| {
            let block = [&[2, 0, 0, 0, 0, 9, 0x41], name, &[0x5f, 1, b'x', 0, 0]].concat();
            frame(TYPE_HEADERS, END_HEADERS | PADDED | PRIORITY, &block)
        };
        let data = frame(0, 0, &[1; 300]);
        let asked = [PREFACE, &frame(4, 0, b""), &headers(b"\x0ahttp://a:1"), &data].concat();
        let asked =
            [asked, padded(b"\x0dhttps://[::1]"), headers(b"\x03a:1"), data.clone()].concat();
        let heard = [PREFACE, &frame(4, 0, b""), &headers(b"\x0ahttp---a-1"), &data].concat();
        let heard = [heard, padded(b"\x0dhttps------1-"), headers(b"\x03a:1"), data].concat();
        for piece in [1, 7, 100, 10_000] {
            assert_eq!(read(&asked, piece).await, heard, "in pieces of {piece}");
        }
    }

    #[test]
    fn long_names_keep_their_length() {
        for length in [8, 126, 127, 128, 254, 255, 256, 5000] {
            let mut name = Vec::new();
            put_length(&mut name, length);
            name.extend(std::iter::repeat_n(b'/', length));
            let renamed = renamed(&headers(&name)).unwrap();
            let block = &renamed[FRAME_HEAD..];
            assert!(wrong_name(block).is_none());
            assert_eq!(block.len(), headers(&name).len() - FRAME_HEAD);
        }
    }

    #[tokio::test]
    async fn everything_else_is_passed_on_as_it_is() {
        let http = b"POST /v3/kv/range HTTP/1.1\r\n\r\nPRI * HTTP/2.0";
        let mut begun = [PREFACE, &headers(b"\x0ahttp://a:1")].concat();
        begun.truncate(begun.len() - 3);
        let mut continued = headers(b"\x0ahttp://a:1");
        continued[4] = 0;
        let broken = [PREFACE, &headers(b"\x7fhttp://a:1"), &headers(b"\xff\xff\xff\xff")].concat();
        let long = [PREFACE, &frame(TYPE_HEADERS, END_HEADERS, &[0x41; FRAME_MAX + 1])].concat();
        let continued = [PREFACE, &continued].concat();
        for bytes in [&http[..], &begun, &continued, &broken, &long, b"PRI * H", b""] {
            for piece in [1, 1000] {
                assert_eq!(read(bytes, piece).await, bytes);
            }
        }
    }
}
