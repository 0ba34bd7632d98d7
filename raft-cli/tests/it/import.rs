//! Import and export against a cluster in memory: nothing lost, nothing skipped, order kept.

use crate::fake::{Cluster, Faults, printed};
use crate::parse;
use raft_cli::args::export::Export;
use raft_cli::args::import::Import;
use raft_cli::failure::{Failure, Kind};
use raft_cli::output::Format;
use raft_cli::verbs;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with names of files in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be had"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("readable")
    }

    fn import(&self, name: &str) -> Import {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let (file, resume) = (text(&self.path(name)), text(&self.path("state")));
        let acked = text(&self.path("acked"));
        parse!(Import, "import", &file, "--resume", &resume, "--acked", &acked)
    }

    fn acked(&self) -> Vec<u64> {
        self.read("acked").lines().map(|line| line.parse().expect("a number")).collect()
    }
}

fn import(cluster: &Cluster, args: &Import) -> (String, Result<(), Failure>) {
    printed(Format::Json, async |output| verbs::import::run(cluster.client(), args, output).await)
}

fn export(cluster: &Cluster, args: &Export) -> (String, Result<(), Failure>) {
    printed(Format::Table, async |output| verbs::export::run(&cluster.client(), args, output).await)
}

fn exported(cluster: &Cluster) -> String {
    let (text, outcome) = export(cluster, &parse!(Export, "export", "--format", "tsv"));
    outcome.expect("exported");
    text
}

#[test]
fn every_line_is_written_once_though_replies_are_lost() {
    let folder = Folder::new();
    let lines: Vec<String> =
        (0..5000).map(|number| format!("key{number:05}\tv{number}\n")).collect();
    folder.write("a.tsv", &lines.concat());
    let cluster = Cluster::new(Faults { lose_reply_every: 97, reorder: true, ..Faults::default() });
    let (text, outcome) = import(&cluster, &folder.import("a.tsv"));
    outcome.expect("imported");
    assert!(text.starts_with("{\"seconds\":"), "{text}");
    assert!(text.ends_with("\"skipped\":0,\"written\":5000}\n"), "{text}");
    assert!(cluster.writes() > 5000, "replies were lost");
    assert!(cluster.most_at_once() > 100, "many were on their way at once");

    assert_eq!(exported(&cluster), lines.concat());
    assert_eq!(folder.acked().into_iter().collect::<BTreeSet<_>>(), (1..=5000).collect());
    assert!(folder.read("state").contains("\"lines\":5000"));
    let status = parse!(Get, "get", "--prefix", "", "--count-only");
    let (count, _) = printed(Format::Json, async |output| {
        verbs::get::run(&cluster.client(), &status, output).await
    });
    // Revision 1 is that of the empty store: each line took exactly one.
    assert_eq!(count, "{\"count\":5000,\"revision\":5001}\n");
}

#[test]
fn of_several_lines_with_one_key_the_last_wins() {
    let folder = Folder::new();
    let lines: String = (0..3000).map(|number| format!("key{}\t{number}\n", number % 7)).collect();
    folder.write("a.tsv", &lines);
    let cluster = Cluster::new(Faults { reorder: true, ..Faults::default() });
    import(&cluster, &folder.import("a.tsv")).1.expect("imported");
    let last: String = (0..7)
        .map(|key| (key, (0..3000).rfind(|n| n % 7 == key)))
        .map(|(key, last)| format!("key{key}\t{}\n", last.expect("there is one")))
        .collect();
    assert_eq!(exported(&cluster), last);
}

#[test]
fn it_stops_at_a_bad_line_and_goes_on_from_there() {
    let folder = Folder::new();
    folder.write("a.jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\"}\n");
    let cluster = Cluster::new(Faults::default());
    let args = folder.import("a.jsonl");
    let (text, outcome) = import(&cluster, &args);
    let failure = outcome.expect_err("line 3 is bad");
    assert_eq!(text, "");
    assert_eq!(failure.kind, Kind::Usage);
    assert_eq!(
        failure.to_string(),
        "line 3: neither \"value\" nor \"value_b64\" is given; 1 lines written, all up to line 2 \
         are done; correct it and run the same command again to go on"
    );
    assert_eq!(exported(&cluster), "a\t1\n");
    assert_eq!(folder.acked(), [1]);

    folder.write("a.jsonl", "{\"key\":\"x\",\"value\":\"1\"}\n\n{\"key\":\"b\",\"value\":\"2\"}\n");
    let (text, outcome) = import(&cluster, &args);
    outcome.expect("imported");
    assert!(text.ends_with("\"skipped\":2,\"written\":1}\n"), "{text}");
    assert_eq!(exported(&cluster), "a\t1\nb\t2\n");
    assert_eq!(folder.acked(), [1, 3]);

    let (text, outcome) = import(&cluster, &args);
    outcome.expect("nothing left to do");
    assert!(text.ends_with("\"skipped\":3,\"written\":0}\n"), "{text}");

    folder.write("a.jsonl", "\n");
    let failure = import(&cluster, &args).1.expect_err("the file has shrunk");
    assert!(failure.message.contains("the 1 there are"), "{failure}");
}

#[test]
fn a_cluster_that_fails_stops_it_with_an_honest_account() {
    let folder = Folder::new();
    let lines: Vec<String> = (0..1000).map(|number| format!("key{number:05}\tv\n")).collect();
    folder.write("a.tsv", &lines.concat());
    let cluster = Cluster::new(Faults { no_quorum_from: 400, reorder: true, ..Faults::default() });
    let mut args = folder.import("a.tsv");
    args.concurrency = 32;
    let client = cluster.patient_client(std::time::Duration::from_secs(1));
    let (_, outcome) =
        printed(Format::Json, async |output| verbs::import::run(client, &args, output).await);
    let failure = outcome.expect_err("no quorum");
    assert_eq!(failure.kind, Kind::Unavailable);
    assert!(failure.message.contains("no quorum 1/3"), "{failure}");

    cluster.set_faults(Faults::default());
    let acked = folder.acked();
    let there = exported(&cluster);
    for line in &acked {
        let line = usize::try_from(*line).expect("small") - 1;
        assert!(there.contains(&lines[line]), "acknowledged but not there: {}", lines[line]);
    }
    assert_eq!(acked.len(), there.lines().count(), "every write that ran was acknowledged");
    import(&cluster, &args).1.expect("goes on");
    assert_eq!(exported(&cluster), lines.concat());
}

#[test]
fn a_refused_line_is_named() {
    let folder = Folder::new();
    let long = "x".repeat(32 * 1024 + 1);
    folder.write("a.tsv", &format!("a\t1\n{long}\t2\n"));
    let cluster = Cluster::new(Faults::default());
    let failure = import(&cluster, &folder.import("a.tsv")).1.expect_err("too long");
    assert!(failure.message.starts_with("line 2: the key is 32769 bytes, over the limit of 32768"));
    folder.write("a.csv", "");
    let args = parse!(Import, "import", folder.path("a.csv").to_str().expect("text"));
    let failure = import(&cluster, &args).1.expect_err("no format");
    assert_eq!(failure.kind, Kind::Usage);
    let args = parse!(Import, "import", "/nonexistent.tsv");
    assert_eq!(import(&cluster, &args).1.expect_err("no file").kind, Kind::Local);
}

#[test]
fn an_export_is_one_revision_in_many_pages_and_reads_back_in() {
    let folder = Folder::new();
    let value = "v".repeat(1000);
    let lines: String = (0..4000).map(|number| format!("k{number:05}\t{value}\n")).collect();
    folder.write("a.tsv", &lines);
    let cluster = Cluster::new(Faults::default());
    import(&cluster, &folder.import("a.tsv")).1.expect("imported");

    let copy = folder.path("copy.jsonl");
    let name = copy.to_str().expect("text");
    let (text, outcome) = export(&cluster, &parse!(Export, "export", name));
    outcome.expect("exported");
    assert_eq!(text, format!("4000 keys at revision 4001 written to {name}\n"));

    let other = Cluster::new(Faults::default());
    let args = parse!(Import, "import", name);
    import(&other, &args).1.expect("imported");
    assert_eq!(exported(&other), lines);

    // What others write meanwhile is not in it: only what was there at the first page.
    cluster.set_faults(Faults { write_before_reads: true, ..Faults::default() });
    assert_eq!(exported(&cluster), format!("{lines}zz/1\t\n"));
    cluster.set_faults(Faults::default());

    let args = parse!(Export, "export", name, "--prefix", "k0000", "--rev", "6");
    let (text, outcome) = export(&cluster, &args);
    outcome.expect("exported");
    let keys = folder.read("copy.jsonl").lines().count();
    assert_eq!(text, format!("{keys} keys at revision 6 written to {name}\n"));
    assert_eq!(keys, 5, "at revision 6 five lines were written");
}

#[test]
fn an_export_that_fails_leaves_the_file_of_before() {
    let folder = Folder::new();
    folder.write("a.tsv", "old");
    let cluster = Cluster::new(Faults::default());
    let name = folder.path("a.tsv");
    let args = parse!(Export, "export", name.to_str().expect("text"), "--rev", "99");
    let failure = export(&cluster, &args).1.expect_err("a revision to come");
    assert_eq!(failure.kind, Kind::Refused);
    assert_eq!(folder.read("a.tsv"), "old");
    let left = fs::read_dir(folder.0.path()).expect("readable").count();
    assert_eq!(left, 1, "no temporary file stays");
    let failure = export(&cluster, &parse!(Export, "export", "/dev/null", "--format", "tsv")).1;
    assert_eq!(failure.expect_err("a device").kind, Kind::Usage);
}
