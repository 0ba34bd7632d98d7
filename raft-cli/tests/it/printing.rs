//! Tables and JSON as golden strings.

use raft_cli::output::bench::{Latency, Measurement, Ratio, histogram, median, percentiles, text};
use raft_cli::output::{Format, Output, Table, printable, status, watch};
use raft_core::types::NodeId;
use raft_kv::api::{Event, EventKind, KeyValue, Revision};

#[test]
fn bytes_that_are_no_text_are_escaped() {
    assert_eq!(printable(b"a\x00b"), "a\\x00b");
    assert_eq!(printable(b"\xff\xfe ok"), "\\xff\\xfe ok");
    assert_eq!(printable("gr\u{fc}n\\\t\u{85}".as_bytes()), "gr\u{fc}n\\\\\\t\\xc2\\x85");
}

#[test]
fn a_member_that_is_not_there_is_shown_with_the_reason() {
    let row = status::Row {
        address: "h:1".into(),
        id: Some(NodeId(3)),
        status: Err("no answer within 1.0 s".into()),
        health: None,
        progress: None,
    };
    let text = status::text(std::slice::from_ref(&row));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].starts_with("n3    h:1      unreachable"), "{text}");
    assert_eq!(lines[2], "n3 at h:1: no answer within 1.0 s");
    let json = serde_json::to_string(&status::RowJson::of(&row)).expect("JSON");
    let golden = r#"{"address":"h:1","id":3,"reachable":false,"error":"no answer within 1.0 s"}"#;
    assert_eq!(json, golden);
}

/// One long cell does not make every row as wide; where a program reads, nothing is cut.
#[test]
fn long_cells_are_cut_where_no_terminal_wraps_them() {
    let mut table = Table::new(&["KEY", "VALUE"]);
    table.row(vec!["k".repeat(200), "v".repeat(5000)]);
    let text = table.render();
    assert!(text.ends_with(&format!("{}  {}...\n", "k".repeat(200), "v".repeat(197))), "{text}");
}

#[test]
fn measurements() {
    let mut nanoseconds = histogram();
    for microseconds in 1..=1000 {
        nanoseconds.record(microseconds * 1000).expect("in range");
    }
    nanoseconds.record(2_500_000_000).expect("in range");
    let measured = Measurement {
        server: "native h:1".into(),
        workload: "put",
        clients: 64,
        watchers: None,
        unanswered: 0,
        rate: None,
        rounds_per_second: vec![100.1],
        percentiles_us: percentiles(&nanoseconds),
        cpu_us: None,
        connections: 3,
        value_size: 256,
        seconds: 10.0,
        operations: 1001,
        errors: 1,
        per_second: 100.1,
        latency_us: Latency::of(&nanoseconds),
        first_error: Some("no quorum".into()),
    };
    assert_eq!(
        text(std::slice::from_ref(&measured), &[]),
        "WORKLOAD  CLIENTS  OPS/S     P50     P90     P99    P99.9     MAX  ERRORS\n\
         put            64    100  501 us  901 us  991 us  1.00 ms  2.50 s       1\n\
         first error with 64 clients: no quorum\n"
    );
    let other = Measurement {
        server: "etcd h:2".into(),
        rounds_per_second: vec![50.0, 25.0, 10.0],
        cpu_us: Some(80.0),
        first_error: None,
        ..measured.clone()
    };
    let first = Measurement {
        rounds_per_second: vec![100.0, 100.0, 100.0],
        cpu_us: Some(20.0),
        ..other.clone()
    };
    let ratio = Ratio::of(&first, &other);
    assert_eq!(
        text(&[measured.clone(), other], &[ratio]),
        concat!(
            "SERVER      WORKLOAD  CLIENTS  OPS/S     P50     P90     P99    P99.9     MAX",
            "   CPU/OP  ERRORS\n",
            "native h:1  put            64    100  501 us  901 us  991 us  1.00 ms  2.50 s",
            "                1\n",
            "etcd h:2    put            64    100  501 us  901 us  991 us  1.00 ms  2.50 s",
            "  80.0 us       1\n",
            "\n",
            "FIRST/SECOND  CLIENTS  OPS/S   P50   P99  CPU/OP\n",
            "put                64   4.00  1.00  1.00    0.25\n",
            "first error with 64 clients: no quorum\n",
        )
    );
    assert_eq!(median(&[3.0, 1.0]), 2.0);
    assert_eq!(median(&[]), 0.0);
    let json = serde_json::to_value(&measured).expect("JSON");
    assert_eq!(json["clients"], 64);
    assert!(json["latency_us"]["p99"].as_f64().expect("a number") > 980.0);
}

#[test]
fn changes() {
    let revision = |number| Revision(number);
    let pair = KeyValue {
        key: "a\tb".into(),
        value: vec![0xff].into(),
        create_revision: revision(3),
        mod_revision: revision(9),
        version: 2,
        lease: None,
    };
    let before =
        KeyValue { value: "old".into(), mod_revision: revision(3), version: 1, ..pair.clone() };
    let put = Event { kind: EventKind::Put(pair), prev_kv: Some(before) };
    let kind = EventKind::Delete { key: "a".into(), mod_revision: revision(10) };
    let delete = Event { kind, prev_kv: None };
    assert_eq!(watch::text(&put), "9  put  a\\tb  \\xff  (was old since 3)");
    assert_eq!(watch::text(&delete), "10  del  a");
    assert_eq!(watch::simple(&put), b"PUT\na\tb\nold\na\tb\n\xff\n");
    assert_eq!(watch::simple(&delete), b"DELETE\na\n\n");
    let json = |event| serde_json::to_string(&watch::EventJson(event)).expect("JSON");
    assert_eq!(
        json(&put),
        r#"{"type":"put","kv":{"key":"a\tb","value_b64":"/w==","create_revision":3,"#.to_owned()
            + r#""mod_revision":9,"version":2},"prev_kv":{"key":"a\tb","value":"old","#
            + r#""create_revision":3,"mod_revision":3,"version":1}}"#
    );
    assert_eq!(json(&delete), r#"{"type":"delete","key":"a","mod_revision":10}"#);
}

#[test]
fn json_is_one_line() {
    let mut bytes = Vec::new();
    let mut output = Output::new(Format::Json, &mut bytes);
    output.print(&serde_json::json!({ "a": "x\ny" }), || unreachable!()).expect("printed");
    output.finish().expect("flushed");
    drop(output);
    assert_eq!(bytes, b"{\"a\":\"x\\ny\"}\n");
}

#[test]
fn a_reader_that_left_ends_it_quietly() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be had");
    drop(reader);
    let mut output = Output::new(Format::Table, writer);
    let failure = output.raw(b"lost").expect_err("nobody reads");
    assert_eq!(failure.kind.exit_code(), 0);
    assert_eq!(failure.line(Format::Table), None);
}
