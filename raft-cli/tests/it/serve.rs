//! What the arguments of `raft serve` come to.

use clap::Parser;
use raft_cli::args::{Cli, Verb};
use raft_cli::failure::Kind;
use raft_cli::serve::plan::Plan;
use raft_core::types::{ClusterId, NodeId};
use raft_kv::service::Compaction;
use std::time::Duration;

const MEMBERS: &str = "n1=10.0.0.1:2380,n2=10.0.0.2:2380,n3=10.0.0.3:2380";

fn plan(id: &str, more: &[&str]) -> Result<Plan, String> {
    let files = ["--ca", "ca.pem", "--cert", "n.pem", "--key", "n-key.pem"];
    let line = ["raft", "serve", "--data-dir", "d", "--id", id].into_iter().chain(files);
    let cli = Cli::try_parse_from(line.chain(more.iter().copied()));
    let cli = cli.map_err(|error| error.to_string())?;
    let Verb::Serve(args) = cli.verb else { panic!("not serve") };
    Plan::of(&args).map_err(|failure| {
        assert_eq!(failure.kind, Kind::Usage);
        failure.to_string()
    })
}

#[test]
fn a_member_listens_where_the_list_says() {
    let plan = plan("2", &["--cluster", MEMBERS]).unwrap();
    assert_eq!(plan.listen, "10.0.0.2:2380");
    let initial = &plan.raft.initial;
    assert!(initial.keys().copied().eq([NodeId(1), NodeId(2), NodeId(3)]));
    assert_eq!(initial[&NodeId(3)].address, "10.0.0.3:2380");
    assert_eq!(plan.raft.id, NodeId(2));
    let behind = ["--cluster", MEMBERS, "--listen", "0.0.0.0:2380"];
    assert_eq!(self::plan("2", &behind).unwrap().listen, "0.0.0.0:2380");
}

/// The id is derived from token and members alone, the same in every version: data is bound to it.
#[test]
fn the_cluster_id_never_changes() {
    let id = |more: &[&str]| plan("1", more).unwrap().cluster;
    let pinned = ClusterId(PINNED);
    assert_eq!(id(&["--cluster", MEMBERS]), pinned);
    let reordered = "n3=10.0.0.3:2380,n1=10.0.0.1:2380,n2=10.0.0.2:2380";
    assert_eq!(id(&["--cluster", reordered]), pinned);
    assert_eq!(plan("2", &["--cluster", MEMBERS]).unwrap().cluster, pinned);
    assert_ne!(id(&["--cluster", MEMBERS, "--cluster-token", "other"]), pinned);
    assert_ne!(id(&["--cluster", &MEMBERS.replace("10.0.0.3", "10.0.0.4")]), pinned);
    assert_eq!(id(&["--cluster", MEMBERS, "--cluster-id", "2a"]), ClusterId(42));
}

const PINNED: u64 = 0x8ab9_3df4_556d_a4fe;

#[test]
fn times_become_ticks() {
    let plan = plan("1", &["--cluster", MEMBERS]).unwrap();
    let default = raft_core::raft::Config::default();
    assert_eq!(plan.raft.heartbeat_ticks, default.heartbeat_ticks);
    assert_eq!(plan.raft.election_ticks_min, default.election_ticks_min);
    assert_eq!(plan.raft.election_ticks_max, default.election_ticks_max);
    let slow = ["--heartbeat-interval", "200ms", "--election-timeout", "2s"];
    let slow = self::plan("1", &[&["--cluster", MEMBERS][..], &slow].concat()).unwrap();
    assert_eq!((slow.raft.heartbeat_ticks, slow.raft.election_ticks_min), (20, 200));
    assert_eq!(slow.raft.election_ticks_max, 400);
}

/// Whoever chooses an election timeout alone need not know of heartbeats.
#[test]
fn heartbeats_that_nothing_is_said_of_fit_the_election_timeout() {
    let heartbeat = |election: &str, more: &[&str]| {
        let said = ["--cluster", MEMBERS, "--election-timeout", election];
        plan("1", &[&said[..], more].concat()).map(|plan| plan.raft.heartbeat_ticks)
    };
    let alone = [("40ms", 1), ("70ms", 1), ("300ms", 7), ("390ms", 9), ("400ms", 10), ("5s", 10)];
    for (election, ticks) in alone {
        assert_eq!(heartbeat(election, &[]), Ok(ticks), "{election}");
    }
    for election in ["30ms", "10ms"] {
        let refused = heartbeat(election, &[]).unwrap_err();
        assert!(refused.contains("four times"), "{refused}");
    }
    // What is said is not changed, not even if it is the default.
    let refused = heartbeat("300ms", &["--heartbeat-interval", "100ms"]).unwrap_err();
    assert!(refused.contains("four times"), "{refused}");
    assert_eq!(heartbeat("300ms", &["--heartbeat-interval", "20ms"]), Ok(2));
}

/// Nor need whoever chooses heartbeats alone know of the election timeout.
#[test]
fn an_election_timeout_that_nothing_is_said_of_fits_the_heartbeats() {
    for (heartbeat, election) in [("20ms", 40), ("100ms", 40), ("110ms", 44), ("500ms", 200)] {
        let said = ["--cluster", MEMBERS, "--heartbeat-interval", heartbeat];
        let raft = plan("1", &said).unwrap().raft;
        let ticks = (raft.election_ticks_min, raft.election_ticks_max);
        assert_eq!(ticks, (election, 2 * election), "{heartbeat}");
    }
}

#[test]
fn limits_and_compaction_are_as_people_write_them() {
    let plan = |more: &[&str]| plan("1", &[&["--cluster", MEMBERS], more].concat());
    let default = plan(&[]).unwrap();
    assert_eq!((default.quota_bytes, default.compaction), (2 << 30, Compaction::default()));
    let told = ["--quota", "512MiB", "--auto-compaction", "periodic:1h 30m"];
    let told = plan(&told).unwrap();
    assert_eq!(told.quota_bytes, 512 << 20);
    assert_eq!(told.compaction, Compaction::Periodic(Duration::from_secs(5400)));
    for (text, compaction) in
        [("off", Compaction::Off), ("revisions:1000", Compaction::Revisions(1000))]
    {
        assert_eq!(plan(&["--auto-compaction", text]).unwrap().compaction, compaction);
    }
    let wrong: [(&[&str], &str); 6] = [
        (&["--quota", "1KiB"], "at least 1MiB"),
        (&["--quota", "much"], "a size is a whole number"),
        (&["--checkpoint-bytes", "1KiB"], "from 4KiB to 1TiB"),
        (&["--auto-compaction", "on"], "periodic:1h"),
        (&["--auto-compaction", "revisions:0"], "no number of revisions"),
        (&["--auto-compaction", "periodic:5"], "time unit needed"),
    ];
    for (more, says) in wrong {
        let refused = plan(more).unwrap_err();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}

/// Reads that rely on clocks are for those who ask for them.
#[test]
fn leases_are_off_unless_asked_for() {
    assert!(!plan("1", &["--cluster", MEMBERS]).unwrap().raft.lease_reads);
    assert!(plan("1", &["--cluster", MEMBERS, "--lease-reads"]).unwrap().raft.lease_reads);
}

#[test]
fn a_cluster_of_one_needs_an_address() {
    let plan = plan("7", &["--single", "--listen", "127.0.0.1:2380"]).unwrap();
    assert!(plan.raft.initial.keys().copied().eq([NodeId(7)]));
    let refused = self::plan("7", &["--single"]).unwrap_err();
    assert!(refused.contains("--listen"), "{refused}");
}

/// A node that joins forms nothing; it needs to know which cluster it waits for.
#[test]
fn a_node_that_joins_has_no_initial_members() {
    let join = ["--join", "--cluster-id", "2a", "--advertise", "10.0.0.4:2380"];
    let plan = plan("4", &join).unwrap();
    assert!(plan.raft.initial.is_empty());
    assert_eq!((plan.cluster, &*plan.listen), (ClusterId(42), "10.0.0.4:2380"));
    let wrong: [(&[&str], &str); 4] = [
        (&["--join", "--listen", "a:1"], "--cluster-id"),
        (&["--join", "--cluster-id", "2a"], "--join needs --listen or --advertise"),
        (&["--join", "--cluster-id", "2a", "--single"], "cannot be used with"),
        (&["--join", "--cluster-id", "2a", "--cluster", MEMBERS], "cannot be used with"),
    ];
    for (more, says) in wrong {
        let refused = self::plan("4", more).unwrap_err();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let wrong: [(&str, &[&str], &str); 9] = [
        ("4", &["--cluster", MEMBERS], "does not name this node, n4"),
        ("1", &["--cluster", "n1=a:1,n1=b:1"], "names n1 twice"),
        ("1", &["--cluster", "n1=a:1,n2=b:0"], "port 0"),
        ("1", &["--cluster", "n1"], "N=HOST:PORT"),
        ("1", &["--cluster", MEMBERS, "--advertise", "10.0.0.9:2380"], "--cluster says"),
        ("1", &["--cluster", MEMBERS, "--single"], "cannot be used with"),
        ("1", &["--cluster", MEMBERS, "--heartbeat-interval", "15ms"], "multiple of 10ms"),
        ("1", &["--cluster", MEMBERS, "--election-timeout", "30ms"], "four times"),
        ("1", &[], "required"),
    ];
    for (id, more, says) in wrong {
        let refused = plan(id, more).unwrap_err();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}
