//! JSON lines and TSV: round trips, escapes, bad lines. Transactions as text.

use bytes::Bytes;
use raft_cli::records::{Format, Record, unescape};
use raft_cli::{output, transaction};
use raft_kv::api::{
    Attach, Compare, Filter, Keys, LeaseId, Op, Operator, Order, OrderBy, Put, Range, Revision,
    TXN_DEPTH_MAX, TXN_OPS_MAX, Target, Txn,
};
use std::path::Path;

const FORMATS: [Format; 2] = [Format::Jsonl, Format::Tsv];

/// Every byte, in several neighbourhoods.
fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![
        b"plain".to_vec(),
        "gr\u{fc}n \u{1f600}".into(),
        b"tab\tnewline\nreturn\rback\\slash\"quote".to_vec(),
        b"ends with return\r".to_vec(),
        b"\\x00".to_vec(),
        vec![0xff, 0x00, 0xfe],
        "\u{85}\u{7f}".into(),
        (0..=u8::MAX).collect(),
    ];
    samples.extend((0..=u8::MAX).map(|byte| vec![byte]));
    samples
}

fn parse(format: Format, line: &str) -> Result<Option<(String, String)>, String> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let record = format.parse(line.as_bytes())?;
    Ok(record.map(|Record { key, value }| (text(key), text(value))))
}

fn error(format: Format, line: &str) -> String {
    parse(format, line).expect_err("a bad line")
}

#[test]
fn what_is_written_is_read_back() {
    for format in FORMATS {
        for key in samples() {
            for value in [&key[..], b"", b"v"] {
                let mut line = Vec::new();
                format.write(&key, value, &mut line);
                assert_eq!(line.pop(), Some(b'\n'));
                assert!(!line.contains(&b'\n'), "{line:?}");
                let record = format.parse(&line).expect("well-formed").expect("not blank");
                assert_eq!((&record.key[..], &record.value[..]), (&key[..], value));
            }
        }
    }
}

#[test]
fn what_tables_print_is_read_back() {
    for bytes in samples() {
        let text = output::printable(&bytes);
        assert!(!text.contains(|c: char| c.is_control()), "{text}");
        assert_eq!(unescape(text.as_bytes()), Ok(bytes));
    }
}

#[test]
fn golden_lines() {
    let line = |format: Format, key: &[u8], value: &[u8]| {
        let mut line = Vec::new();
        format.write(key, value, &mut line);
        String::from_utf8(line).expect("text")
    };
    assert_eq!(line(Format::Jsonl, b"k", b"v\n"), "{\"key\":\"k\",\"value\":\"v\\n\"}\n");
    assert_eq!(line(Format::Jsonl, b"\0\xff", b""), "{\"key_b64\":\"AP8=\",\"value\":\"\"}\n");
    assert_eq!(line(Format::Tsv, b"a\tb", b"\0\xff\\"), "a\\tb\t\\x00\\xff\\\\\n");
}

#[test]
fn blank_lines_and_line_ends_of_other_systems() {
    for format in FORMATS {
        assert_eq!(parse(format, ""), Ok(None));
        assert_eq!(parse(format, "\r"), Ok(None));
    }
    assert_eq!(parse(Format::Jsonl, "  \t "), Ok(None));
    let pair = Ok(Some(("k".into(), "v".into())));
    assert_eq!(parse(Format::Tsv, "k\tv\r"), pair);
    assert_eq!(parse(Format::Jsonl, "{\"key\":\"k\",\"value\":\"v\"}\r"), pair);
}

#[test]
fn bad_lines_say_why() {
    let json = |line: &str| error(Format::Jsonl, line);
    assert_eq!(json("{\"key\":\"k\"}"), "neither \"value\" nor \"value_b64\" is given");
    assert_eq!(
        json("{\"key\":\"k\",\"key_b64\":\"aw==\",\"value\":\"\"}"),
        "both \"key\" and \"key_b64\" are given"
    );
    assert_eq!(json("{\"key\":\"\",\"value\":\"v\"}"), "the key is empty");
    assert!(json("{\"key\":\"k\",\"valeu\":\"v\"}").starts_with("unknown field `valeu`"));
    assert!(json("{\"key_b64\":\"!\",\"value\":\"v\"}").starts_with("key_b64 is not base64"));
    assert!(json("{\"key\":1,\"value\":\"v\"}").contains("at column"));
    assert!(json("nonsense").contains("at column"));
    assert!(json("{\"key\":\"k\",\"value\":\"v\"} trailing").contains("trailing"));

    let tsv = |line: &str| error(Format::Tsv, line);
    assert_eq!(tsv("no tab"), "no tab between key and value");
    assert_eq!(tsv("\tv"), "the key is empty");
    assert!(tsv("a\tb\tc").starts_with("more than one tab"));
    for escape in ["\\", "\\q", "\\x", "\\x0", "\\x0g", "\\x\\n"] {
        assert!(tsv(&format!("k\t{escape}")).starts_with("a backslash begins"), "{escape}");
    }
    assert!(Format::Jsonl.parse(b"{\"key\":\"\xff\",\"value\":\"\"}").is_err());
}

#[test]
fn limits_are_named() {
    let long = "x".repeat(32 * 1024 + 1);
    assert_eq!(
        error(Format::Tsv, &format!("{long}\tv")),
        "the key is 32769 bytes, over the limit of 32768"
    );
    let long = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        error(Format::Tsv, &format!("k\t{long}")),
        "the value is 1048577 bytes, over the limit of 1048576"
    );
    assert!(parse(Format::Tsv, &format!("{}\t{}", &long[..32_768], &long[1..])).is_ok());
}

#[test]
fn names_tell_the_format() {
    for (name, format) in [
        ("a.jsonl", Some(Format::Jsonl)),
        ("a.b.NDJSON", Some(Format::Jsonl)),
        ("a.json", Some(Format::Jsonl)),
        ("d/a.tsv", Some(Format::Tsv)),
        ("a.csv", None),
        ("a", None),
        ("-", None),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
}

#[test]
fn a_transaction_is_read_whole() {
    let txn = transaction::parse(
        br#"{
            "if": [{"key": "a", "mod_revision": 42},
                   {"key": "b", "value": "7", "is": "<"},
                   {"key_b64": "AP8=", "version": 0, "is": "!="},
                   {"key": "c", "create_revision": 3, "is": ">"}],
            "then": [{"put": {"key": "a", "value_b64": "/w==", "prev_kv": true}},
                     {"delete": {"key": "p/", "prefix": true}}],
            "else": [{"get": {"key": "a", "limit": 3, "keys_only": true}}]
        }"#,
    )
    .expect("well-formed");
    let compare = |key: &'static [u8], operator, target| Compare {
        keys: Keys::One(Bytes::from_static(key)),
        operator,
        target,
    };
    let compares = [
        compare(b"a", Operator::Equal, Target::ModRevision(Revision(42))),
        compare(b"b", Operator::Less, Target::Value("7".into())),
        compare(b"\0\xff", Operator::NotEqual, Target::Version(0)),
        compare(b"c", Operator::Greater, Target::CreateRevision(Revision(3))),
    ];
    assert_eq!(txn.compares, compares);
    let value = Bytes::from_static(b"\xff");
    let put = Op::Put(Put { prev_kv: true, ..Put::new("a", value) });
    assert_eq!(txn.success, [put, Op::Delete { keys: Keys::prefix("p/"), prev_kv: false }]);
    let range = Range { limit: 3, keys_only: true, ..Range::of(Keys::One("a".into())) };
    assert_eq!(txn.failure, [Op::Range(range)]);
    assert!(txn.compares.len() < TXN_OPS_MAX);
}

#[test]
fn a_wrong_transaction_says_where() {
    let error = |text: &str| transaction::parse(text.as_bytes()).expect_err("wrong");
    assert_eq!(
        error(r#"{"if": [{"key": "a", "version": 0}, {"key": "a"}]}"#),
        "\"if\", item 2: give one of value, version, create_revision, mod_revision, lease"
    );
    assert_eq!(
        error(r#"{"if": [{"key": "a", "version": 0, "value": ""}]}"#),
        "\"if\", item 1: give one of value, version, create_revision, mod_revision, lease"
    );
    assert_eq!(
        error(r#"{"then": [{"put": {"key": "a"}}]}"#),
        "\"then\", item 1: neither \"value\" nor \"value_b64\" is given"
    );
    assert!(error(r#"{"when": []}"#).starts_with("unknown field `when`"));
    assert!(error(r#"{"then": [{"get": {"key": "a", "lmit": 1}}]}"#).contains("lmit"));
    assert!(error("{\n  \"if\": [}\n").contains("line 2"));
}

#[test]
fn a_transaction_says_everything_there_is() {
    let text = r#"{
        "if": [{"key": "p/", "prefix": true, "lease": "5ca1ab1e", "is": "!="},
               {"key": "a", "range_end": "c", "version": 3},
               {"key": "a", "lease": 0}],
        "then": [
            {"put": {"key": "a", "ignore_value": true, "lease": "5ca1ab1e"}},
            {"put": {"key": "q/", "value": "v", "ignore_lease": true, "sequential": true}},
            {"delete": {"key": "a", "range_end": "", "prev_kv": true}},
            {"txn": {"then": [{"txn": {"else": [{"get": {"key": "k"}}]}}]}}],
        "else": [{"get": {"key": "a", "range_end_b64": "/w==", "rev": 7, "sort_by": "mod",
                          "order": "desc", "min_mod_rev": 2, "max_create_rev": 9}}]
    }"#;
    let txn = transaction::parse(text.as_bytes()).expect("right");
    let lease = LeaseId(0x5ca1_ab1e);
    let compare = |keys, operator, target| Compare { keys, operator, target };
    let range = |end: Option<&'static [u8]>| Keys::Range {
        start: "a".into(),
        end: end.map(Bytes::from_static),
    };
    let compares = [
        compare(Keys::prefix("p/"), Operator::NotEqual, Target::Lease(Some(lease))),
        compare(range(Some(b"c")), Operator::Equal, Target::Version(3)),
        compare(Keys::One("a".into()), Operator::Equal, Target::Lease(None)),
    ];
    assert_eq!(txn.compares, compares);
    let inner =
        Txn { failure: vec![Op::Range(Range::of(Keys::One("k".into())))], ..Txn::default() };
    let within = Txn { success: vec![Op::Txn(Box::new(inner))], ..Txn::default() };
    let success = [
        Op::Put(Put { value: None, lease: Attach::To(lease), ..Put::new("a", "") }),
        Op::Put(Put { lease: Attach::Keep, sequential: true, ..Put::new("q/", "v") }),
        Op::Delete { keys: range(None), prev_kv: true },
        Op::Txn(Box::new(within)),
    ];
    assert_eq!(txn.success, success);
    let filter = Filter {
        min_mod_revision: Some(Revision(2)),
        max_create_revision: Some(Revision(9)),
        ..Filter::NONE
    };
    let order = Some(Order { by: OrderBy::ModRevision, descending: true });
    let read =
        Range { revision: Some(Revision(7)), order, filter, ..Range::of(range(Some(b"\xff"))) };
    assert_eq!(txn.failure, [Op::Range(read)]);
}

#[test]
fn a_transaction_that_contradicts_itself_is_refused() {
    let error = |text: &str| transaction::parse(text.as_bytes()).expect_err("wrong");
    let wrong = [
        (r#"{"then": [{"put": {"key": "a", "value": "", "ignore_value": true}}]}"#, "not both"),
        (
            r#"{"then": [{"put": {"key": "a", "value": "", "lease": "1", "ignore_lease": true}}]}"#,
            "not both",
        ),
        (r#"{"then": [{"get": {"key": "a", "prefix": true, "range_end": "b"}}]}"#, "not both"),
        (r#"{"if": [{"key": "a", "lease": 12}]}"#, "hexadecimal"),
        (r#"{"then": [{"put": {"key": "a", "value": "", "lease": "x"}}]}"#, "hexadecimal"),
    ];
    for (text, says) in wrong {
        assert!(error(text).contains(says), "{text}: {}", error(text));
    }
    let mut deep = "{}".to_owned();
    for _ in 0..TXN_DEPTH_MAX {
        deep = format!(r#"{{"then": [{{"txn": {deep}}}]}}"#);
    }
    assert!(error(&deep).contains("more than 8 transactions within each other"));
}
