//! etcd's configuration file: YAML, of which JSON is a part. One mapping of settings with the
//! flags' names, two of which hold the files of TLS. Only read here; what it says is judged as
//! flags are.

use crate::failure::Failure;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use std::path::Path;

/// Most bytes of a file.
const BYTES_MAX: u64 = 1024 * 1024;

/// Mappings within the file, and what stands in front of the flags' names that they hold.
const PARTS: [(&str, &str); 2] =
    [("client-transport-security", ""), ("peer-transport-security", "peer-")];

/// One setting in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The name of its flag.
    pub key: String,
    /// Its value; several for a list.
    pub values: Vec<String>,
    /// Where it stands, from 1.
    pub line: usize,
}

/// Reads a file; what is there without a value is left out.
///
/// # Errors
/// Of kind `Local` if it cannot be read, `Usage` if it is no such file.
pub fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let bytes = crate::verbs::read_file(path, BYTES_MAX)?;
    let name = path.display();
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::usage(format!("{name}: {}", error.utf8_error())))?;
    parse(&text).map_err(|Wrong { line, what }| Failure::usage(format!("{name}:{line}: {what}")))
}

/// What a file of this text says, for fuzz targets.
///
/// # Errors
/// What is wrong with it.
#[doc(hidden)]
pub fn read_text(text: &str) -> Result<Vec<Line>, String> {
    parse(text).map_err(|Wrong { line, what }| format!("{line}: {what}"))
}

/// What is wrong with a file, and where.
#[derive(Debug)]
struct Wrong {
    line: usize,
    what: String,
}

fn parse(text: &str) -> Result<Vec<Line>, Wrong> {
    let mut file = File { parser: Parser::new_from_str(text), line: 1 };
    let mut lines = Vec::new();
    loop {
        match file.next()? {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::MappingStart(..) => file.mapping("", true, &mut lines)?,
            // Nothing but comments.
            Event::Scalar(text, ..) if text.is_empty() => {}
            Event::DocumentEnd | Event::StreamEnd => return Ok(lines),
            _ => return Err(file.wrong("settings are written NAME: VALUE")),
        }
    }
}

struct File<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Of the last event.
    line: usize,
}

impl<'a> File<'a> {
    fn next(&mut self) -> Result<Event<'a>, Wrong> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => {
                Err(Wrong { line: error.marker().line(), what: error.info().to_owned() })
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.line, what: what.into() }
    }

    /// The rest of a mapping; with `parts`, others may be in it.
    fn mapping(&mut self, prefix: &str, parts: bool, lines: &mut Vec<Line>) -> Result<(), Wrong> {
        loop {
            let name = match self.next()? {
                Event::Scalar(name, ..) => name,
                Event::MappingEnd => return Ok(()),
                _ => return Err(self.wrong("a setting's name is one word")),
            };
            let (key, line) = (format!("{prefix}{name}"), self.line);
            let values = match self.next()? {
                Event::Scalar(text, style, ..) => value(&text, style).into_iter().collect(),
                Event::SequenceStart(..) => self.list(&key)?,
                Event::MappingStart(..) => {
                    let part = PARTS.iter().find(|(part, _)| parts && *part == name);
                    let Some((_, prefix)) = part else {
                        return Err(self.wrong(format!("{key}: a mapping is out of place here")));
                    };
                    self.mapping(prefix, false, lines)?;
                    continue;
                }
                _ => return Err(self.wrong(format!("{key}: write its value out"))),
            };
            if !values.is_empty() {
                lines.push(Line { key, values, line });
            }
        }
    }

    /// The rest of a list.
    fn list(&mut self, key: &str) -> Result<Vec<String>, Wrong> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                Event::Scalar(text, style, ..) => values.extend(value(&text, style)),
                Event::SequenceEnd => return Ok(values),
                _ => return Err(self.wrong(format!("{key}: a list holds single values"))),
            }
        }
    }
}

/// A value as it is written; `None` if it says that there is none.
fn value(text: &str, style: ScalarStyle) -> Option<String> {
    let none = style == ScalarStyle::Plain && matches!(text, "~" | "null");
    (!none && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(String, String, usize)> {
        let lines = parse(text).unwrap().into_iter();
        lines.map(|line| (line.key, line.values.join("|"), line.line)).collect()
    }

    fn line(key: &str, values: &str, line: usize) -> (String, String, usize) {
        (key.to_owned(), values.to_owned(), line)
    }

    #[test]
    fn yaml_is_read_with_its_lines() {
        let text = "\
# a comment
name: 'one'
data-dir:
wal-dir: ~
heartbeat-interval: 0100   # as written
proxy: off
log-outputs: [stderr, default]
client-transport-security:
  cert-file: a.pem
  client-cert-auth: true
peer-transport-security:
  auto-tls: true
initial-cluster: one=http://a:1,
  two=http://b:1
";
        let expected = [
            line("name", "one", 2),
            line("heartbeat-interval", "0100", 5),
            line("proxy", "off", 6),
            line("log-outputs", "stderr|default", 7),
            line("cert-file", "a.pem", 9),
            line("client-cert-auth", "true", 10),
            line("peer-auto-tls", "true", 12),
            line("initial-cluster", "one=http://a:1, two=http://b:1", 13),
        ];
        assert_eq!(lines(text), expected);
        assert_eq!(lines("# nothing\n"), []);
        assert_eq!(lines(""), []);
    }

    #[test]
    fn json_is_read_as_well() {
        let text = r#"{"name": "one", "heartbeat-interval": 100, "pre-vote": true,
            "peer-transport-security": {"cert-file": "p.pem"}}"#;
        let expected = [
            line("name", "one", 1),
            line("heartbeat-interval", "100", 1),
            line("pre-vote", "true", 1),
            line("peer-cert-file", "p.pem", 2),
        ];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_its_line() {
        for (text, says) in [
            ("just words\n", "NAME: VALUE"),
            ("a: 1\nb: {c: d}\n", "out of place"),
            ("- a\n", "NAME: VALUE"),
            ("a: &x 1\nb: *x\n", "write its value out"),
            ("a: [[1]]\n", "single values"),
            ("client-transport-security:\n  cert-file: {a: b}\n", "out of place"),
            ("a: 'open\n", ""),
        ] {
            let wrong = parse(text).expect_err(text);
            assert!(wrong.what.contains(says) && wrong.line > 0, "{text}: {wrong:?}");
        }
    }
}
