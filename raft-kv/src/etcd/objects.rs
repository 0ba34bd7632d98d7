//! Where messages in JSON begin and end that come one after the other, in parts of any length. Only
//! braces and strings are looked at; what is between them is for whoever reads a message.

/// How far the messages of a body have come.
#[derive(Default)]
pub(super) struct Objects {
    /// Braces that are open; brackets need not be counted, as a message is no list.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Bytes of the message that has begun.
    pub(super) unfinished: usize,
}

/// What there is to say of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// A message ends with the first so many of them.
    End(usize),
    /// None ends with them.
    More,
    /// Something that is no message stands at this place, between two of them.
    Strange(usize),
}

impl Objects {
    /// Goes on by these bytes, up to the end of a message.
    pub(super) fn read(&mut self, data: &[u8]) -> Seen {
        for (at, byte) in data.iter().enumerate() {
            if self.depth == 0 && byte.is_ascii_whitespace() {
                continue;
            }
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' if self.depth > 0 => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' => self.depth += 1,
                _ if self.depth == 0 => return Seen::Strange(at),
                b'}' => self.depth -= 1,
                _ => {}
            }
            self.unfinished += 1;
            if self.depth == 0 {
                self.unfinished = 0;
                return Seen::End(at + 1);
            }
        }
        Seen::More
    }

    /// The same up to the end of all of them; whether a message has ended.
    pub(super) fn read_all(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        loop {
            let read = match self.read(data) {
                Seen::End(length) => {
                    ended = true;
                    length
                }
                // Whoever reads the messages refuses it.
                Seen::Strange(at) => at + 1,
                Seen::More => return ended,
            };
            data = &data[read..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_braces_do() {
        let text = br#" {"a":{"b":"}\"{"}} {}x{"c" "#;
        for cut in 0..=text.len() {
            let (mut objects, mut ends, mut strange) = (Objects::default(), vec![], vec![]);
            let mut from = 0;
            for part in [&text[..cut], &text[cut..]] {
                let (end, mut at) = (from + part.len(), from);
                while at < end {
                    match objects.read(&text[at..end]) {
                        Seen::End(length) => {
                            at += length;
                            ends.push(at);
                        }
                        Seen::Strange(place) => {
                            at += place + 1;
                            strange.push(at - 1);
                        }
                        Seen::More => at = end,
                    }
                }
                from = end;
            }
            assert_eq!((ends, strange), (vec![19, 22], vec![22]), "{cut}");
            assert_eq!(objects.unfinished, 5);
        }
    }

    #[test]
    fn what_closes_nothing_is_strange() {
        for text in ["}", "]", "\"", "null", "[{}]"] {
            assert_eq!(Objects::default().read(text.as_bytes()), Seen::Strange(0), "{text}");
        }
        assert!(Objects::default().read_all(b"}{}"));
        assert!(!Objects::default().read_all(b"}{"));
    }
}
