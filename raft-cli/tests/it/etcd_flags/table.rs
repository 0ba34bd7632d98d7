//! Flag by flag what it comes to.

use clap::Parser;
use raft_cli::args::{Cli, Verb};
use raft_cli::serve::etcd_flags::identity::Known;
use raft_cli::serve::etcd_flags::map::{Mapped, Search, map};
use raft_cli::serve::etcd_flags::{FOREIGN, words};
use raft_cli::serve::plan::{CredentialSource, Plan, Proof};
use raft_cli::serve::{DoorPlan, TlsPlan};
use raft_core::types::{ClusterId, NodeId};
use raft_kv::etcd::TlsLimits;
use raft_kv::service::Compaction;
use std::path::PathBuf;
use std::time::Duration;

const MEMBERS: &str = "c=http://10.0.0.3:2380,a=http://10.0.0.1:2380,b=http://10.0.0.2:2380";
const CLUSTER: [&str; 2] = ["--initial-cluster", MEMBERS];

fn mapped(words: &[&str], known: Option<Known>) -> Result<Mapped, String> {
    let line = ["raft", "serve"].iter().chain(words).map(Into::into).collect();
    let cli = Cli::try_parse_from(words::rewrite(line)).map_err(|error| error.to_string())?;
    let Verb::Serve(args) = cli.verb else { panic!("not serve") };
    map(&args, known).map_err(|failure| failure.to_string())
}

fn plan(words: &[&str]) -> Result<Plan, String> {
    let mapped = mapped(words, None)?;
    Plan::of(&mapped.serve).map_err(|failure| failure.to_string())
}

fn planned(words: &[&str]) -> Plan {
    plan(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn door(words: &[&str]) -> DoorPlan {
    planned(words).door.expect("there is a door")
}

fn urls(urls: &[raft_cli::serve::etcd_flags::Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_alone_is_a_cluster_of_one_as_in_etcd() {
    let plan = planned(&["--name", "solo"]);
    assert_eq!((plan.raft.id, plan.single, plan.named), (NodeId(1), true, true));
    assert_eq!((&*plan.listen, &*plan.advertised), ("localhost:2380", "localhost:2380"));
    assert_eq!(plan.data_dir, PathBuf::from("solo.etcd"));
    assert_eq!(plan.credentials, CredentialSource::MadeHere);
    assert_eq!(plan.compaction, Compaction::Off);
    assert_eq!(plan.quota_bytes, 2 << 30);
    assert_eq!((plan.raft.heartbeat_ticks, plan.raft.election_ticks_min), (10, 40));
    let door = plan.door.unwrap();
    assert_eq!(door.name.as_deref(), Some("solo"));
    assert_eq!(urls(&door.clients), ["http://localhost:2379"]);
    assert_eq!((door.clients, door.tls), (door.advertised, None));
}

/// Numbers follow names, whatever the order of the list: every member comes to the same.
#[test]
fn members_are_numbered_by_their_names() {
    let of = |name: &'static str| planned(&[&["--name", name][..], &CLUSTER].concat());
    let (a, b, c) = (of("a"), of("b"), of("c"));
    assert_eq!([&a, &b, &c].map(|plan| plan.raft.id), [NodeId(1), NodeId(2), NodeId(3)]);
    for plan in [&a, &b, &c] {
        assert_eq!(plan.cluster, a.cluster);
        assert_eq!(plan.raft.initial, a.raft.initial);
        assert!(!plan.single && plan.rejoin);
    }
    assert_eq!(a.raft.initial[&NodeId(3)].address, "10.0.0.3:2380");
    assert_eq!(c.advertised, "10.0.0.3:2380");
    assert_eq!(c.listen, "localhost:2380");
    let other = planned(&[&["--name", "a", "--initial-cluster-token", "t"][..], &CLUSTER].concat());
    assert_ne!(other.cluster, a.cluster);
}

/// Data directories are bound to it.
#[test]
fn the_cluster_id_of_names_never_changes() {
    let plan = planned(&[&["--name", "a"][..], &CLUSTER].concat());
    assert_eq!(plan.cluster, ClusterId(PINNED));
}

const PINNED: u64 = 0xd05a_774e_73ff_3a51;

#[test]
fn who_was_added_asks_the_others() {
    let existing = ["--name", "b", "--initial-cluster-state", "existing"];
    let words = [&existing[..], &CLUSTER].concat();
    let others = vec!["10.0.0.1:2380".to_owned(), "10.0.0.3:2380".to_owned()];
    let search = Search { own: "10.0.0.2:2380".into(), others };
    assert_eq!(mapped(&words, None).unwrap().search, Some(search));
    let known = Known { id: NodeId(7), cluster: ClusterId(42) };
    let settled = mapped(&words, Some(known)).unwrap();
    assert_eq!(settled.search, None);
    let plan = Plan::of(&settled.serve).unwrap();
    assert_eq!((plan.raft.id, plan.cluster), (NodeId(7), ClusterId(42)));
    assert!(plan.raft.initial.is_empty() && plan.rejoin);
    let alone = mapped(&["--name", "b", "--initial-cluster-state", "existing"], None);
    assert!(alone.unwrap_err().contains("names nobody else"));
}

/// What the directory says stands over a list that has changed since.
#[test]
fn a_node_stays_who_it_is() {
    let words = [&["--name", "b"][..], &CLUSTER].concat();
    let fresh = planned(&words);
    let own = Known { id: fresh.raft.id, cluster: fresh.cluster };
    let again = Plan::of(&mapped(&words, Some(own)).unwrap().serve).unwrap();
    assert_eq!(again.raft.initial, fresh.raft.initial);
    let known = Known { id: NodeId(9), ..own };
    let plan = Plan::of(&mapped(&words, Some(known)).unwrap().serve).unwrap();
    assert_eq!((plan.raft.id, plan.cluster), (NodeId(9), own.cluster));
    assert!(plan.raft.initial.is_empty());
}

#[test]
fn urls_become_addresses_and_ports() {
    let words = [
        "--listen-client-urls=http://10.0.0.1:2379,http://127.0.0.1:2379",
        "--advertise-client-urls=http://door:2379",
        "--listen-metrics-urls=http://0.0.0.0:2381",
        "--listen-peer-urls=http://0.0.0.0:7001/",
        "--initial-advertise-peer-urls=http://[::1]:7001",
    ];
    let plan = planned(&words);
    assert_eq!((&*plan.listen, &*plan.advertised), ("0.0.0.0:7001", "[::1]:7001"));
    let door = plan.door.unwrap();
    assert_eq!(urls(&door.clients), ["http://10.0.0.1:2379", "http://127.0.0.1:2379"]);
    assert_eq!(urls(&door.advertised), ["http://door:2379"]);
    assert_eq!(urls(&door.probes), ["http://0.0.0.0:2381"]);
}

#[test]
fn limits_and_times_are_etcds() {
    let compaction = |mode: &str, retention: &str| {
        let mode = format!("--auto-compaction-mode={mode}");
        let retention = format!("--auto-compaction-retention={retention}");
        planned(&["--name=a", &mode, &retention]).compaction
    };
    let hours = |hours: u64| Compaction::Periodic(Duration::from_secs(hours * 3600));
    assert_eq!(compaction("periodic", "0"), Compaction::Off);
    assert_eq!(compaction("periodic", "2"), hours(2));
    assert_eq!(compaction("periodic", "72h"), hours(72));
    assert_eq!(compaction("periodic", "1h30m"), Compaction::Periodic(Duration::from_secs(5400)));
    assert_eq!(compaction("revision", "1000"), Compaction::Revisions(1000));
    assert_eq!(compaction("revision", "0"), Compaction::Off);
    let quota = |bytes: &str| planned(&["--name=a", "--quota-backend-bytes", bytes]).quota_bytes;
    assert_eq!((quota("0"), quota("8589934592"), quota("-1")), (2 << 30, 8 << 30, u64::MAX));
    let times = ["--name=a", "--heartbeat-interval", "25", "--election-timeout=1005"];
    let mapped = mapped(&times, None).unwrap();
    let notes = mapped.notes.join("\n");
    assert!(notes.contains("--heartbeat-interval is taken as 20 ms"), "{notes}");
    let plan = Plan::of(&mapped.serve).unwrap();
    assert_eq!((plan.raft.heartbeat_ticks, plan.raft.election_ticks_min), (2, 101));
    let short = planned(&["--name=a", "--election-timeout=305"]).raft;
    assert_eq!((short.heartbeat_ticks, short.election_ticks_min), (7, 31));
    let slow = planned(&["--name=a", "--heartbeat-interval=305"]).raft;
    assert_eq!((slow.heartbeat_ticks, slow.election_ticks_min), (30, 120));
    // The same as without etcd's flags.
    let usual = planned(&["--name=a"]).raft;
    assert_eq!((usual.heartbeat_ticks, usual.election_ticks_min), (10, 40));
}

#[test]
fn certificates_of_peers_prove_what_they_prove_in_etcd() {
    let files = ["--peer-cert-file=p", "--peer-key-file=k", "--peer-trusted-ca-file=c"];
    let mapped = mapped(&files, None).unwrap();
    assert_eq!((mapped.serve.proof, mapped.notes.is_empty()), (Proof::Authority, true));
    let CredentialSource::Files(files, proof) = Plan::of(&mapped.serve).unwrap().credentials else {
        panic!("files are given")
    };
    assert_eq!(proof, Proof::Authority);
    let https_peers = |words: &[&str]| door(words).https_peers;
    assert!(https_peers(&["--peer-cert-file=p", "--peer-key-file=k", "--peer-trusted-ca-file=c"]));
    assert!(!https_peers(&["--name=a"]));
    assert_eq!((files.cert, files.key, files.ca), ("p".into(), "k".into(), "c".into()));
    let bare = self::mapped(&["--name=a"], None).unwrap();
    assert!(bare.notes[0].contains("do not authenticate each other"), "{:?}", bare.notes);
    let auto = ["--listen-peer-urls=https://localhost:1", "--peer-auto-tls"];
    assert_eq!(planned(&auto).credentials, CredentialSource::MadeHere);
    assert!(https_peers(&auto));
}

#[test]
fn the_door_is_encrypted_where_a_url_says_so() {
    const HTTPS: &str = "--listen-client-urls=https://localhost:2379,http://localhost:1";
    let TlsPlan::Files(files) = door(&[
        HTTPS,
        "--cert-file=c",
        "--key-file=k",
        "--trusted-ca-file=a",
        "--client-cert-auth",
    ])
    .tls
    .unwrap() else {
        panic!("files are given")
    };
    assert_eq!((files.client_ca, files.client_names), (Some("a".into()), true));
    let made_here = |client_ca: Option<&str>, client_names| {
        Some(TlsPlan::MadeHere { client_ca: client_ca.map(Into::into), client_names })
    };
    assert_eq!(door(&[HTTPS, "--auto-tls"]).tls, made_here(None, false));
    let names = [HTTPS, "--auto-tls", "--trusted-ca-file=a", "--client-cert-auth"];
    assert_eq!(door(&names).tls, made_here(Some("a"), true));
    assert_eq!(door(&["--cert-file=c", "--key-file=k"]).tls, None);
    // The same at the door of a node with our own flags.
    let own = ["--id=1", "--single", "--listen=h:1", "--ca=a", "--cert=c", "--key=k"];
    let own = [&own[..], &["--data-dir=d", HTTPS, "--auto-tls", "-name=people"]].concat();
    let named = door(&own);
    assert_eq!((named.name.as_deref(), named.tls), (Some("people"), made_here(None, false)));
    let own = [&own[..], &["--client-cert-auth"]].concat();
    assert!(plan(&own).unwrap_err().contains("needs --trusted-ca-file"));
    assert_eq!(
        door(&[&own[..], &["--trusted-ca-file=a"]].concat()).tls,
        made_here(Some("a"), true)
    );
}

#[test]
fn what_contradicts_is_refused() {
    let wrong: [(&[&str], &str); 27] = [
        (&["--name=x", CLUSTER[0], MEMBERS], "does not name this node, \"x\""),
        (&["--name=a", "--initial-cluster=a=http://h:1,b=http://h:1"], "are both at http://h:1"),
        (&["--name=a", "--initial-cluster=a=http://h:0"], "port 0"),
        (&["--initial-cluster=a"], "NAME=http://HOST:PORT"),
        (&["--listen-client-urls=unix://sock"], "not served"),
        (&["--listen-client-urls=localhost:2379"], "http://HOST:PORT"),
        (&["--listen-peer-urls=http://a:1,http://b:1"], "one address"),
        (
            &["--name=a", CLUSTER[0], MEMBERS, "--initial-advertise-peer-urls=http://h:1"],
            "--initial-cluster says 10.0.0.1:2380",
        ),
        (&["--name=a", "--listen=h:1"], "give --listen-peer-urls"),
        (&["--name=a", "--ca=f"], "give --peer-trusted-ca-file"),
        (&["--quota-backend-bytes=1", "--quota=1GiB"], "give --quota-backend-bytes"),
        (&["--id=1", "--initial-cluster-token=t"], "nodes without --id"),
        (&["--listen-client-urls=https://h:1"], "--cert-file and --key-file, or --auto-tls"),
        (&["--name=a", "--cert-file=c"], "go together"),
        (&["--peer-cert-file=c", "--peer-key-file=k"], "go together"),
        (&["--listen-peer-urls=https://h:1"], "--peer-auto-tls"),
        (&["--name=a", "--client-cert-auth"], "needs --trusted-ca-file"),
        (&["--auto-compaction-mode=revision", "--auto-compaction-retention=1h"], "a number"),
        (&["--heartbeat-interval=100", "--election-timeout=300", "--name=a"], "four times"),
        (&["--force-new-cluster"], "raft recover"),
        (&["--client-crl-file=f"], "revocation lists"),
        (&["--discovery=http://d"], "--initial-cluster"),
        (&["--listen-client-http-urls=http://h:1"], "--listen-client-urls"),
        (&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "is above"),
        (&["--tls-min-version=TLS1.3", "--cipher-suites=a"], "ruled out"),
        (&["--tls-min-version=TLS1.1"], "TLS1.2"),
        (&["--max-request-bytes=0"], "--max-request-bytes"),
    ];
    for (words, says) in wrong {
        let refused = plan(words).expect_err(says);
        assert!(refused.contains(says), "{words:?}: {refused}");
    }
}

#[test]
fn what_means_nothing_is_told_once_and_what_is_so_anyway_is_not() {
    let notes = |words: &[&str]| {
        let words = [words, &["--peer-cert-file=p", "--peer-key-file=k"]].concat();
        mapped(&[&words[..], &["--peer-trusted-ca-file=c"]].concat(), None).unwrap().notes
    };
    let quiet = [
        "--pre-vote",
        "--strict-reconfig-check=true",
        "--enable-v2=0",
        "--max-txn-ops=1024",
        "--bcrypt-cost=10",
        "--auth-token-ttl=300",
        "--max-request-bytes=1572864",
        "--max-request-bytes=100000",
        "--client-cert-file=c",
        "--client-key-file=k",
        "--enable-grpc-gateway",
        "--raft-read-timeout=5s",
        "--raft-write-timeout=5s",
        "--max-concurrent-streams=1000",
        "--socket-reuse-port=false",
        "--socket-reuse-address=0",
        "--host-whitelist=*",
        "--tls-min-version=TLS1.2",
        "--cipher-suites=TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_AES_128_GCM_SHA256",
        "--experimental-distributed-tracing-address=h:1",
        "--experimental-distributed-tracing-service-name=etcd",
        "--experimental-distributed-tracing-instance-id=i",
        "--experimental-distributed-tracing-sampling-rate=1",
        "--metrics=extensive",
        "--log-outputs=stderr",
        "-cors=",
        "--proxy=off",
        "--experimental-initial-corrupt-check",
    ];
    assert_eq!(notes(&quiet), Vec::<String>::new());
    let told = notes(&[
        "--enable-v2",
        "--snapshot-count=5000",
        "--max-txn-ops=5000",
        "--bcrypt-cost=40",
        "--max-request-bytes=10000000",
        "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA",
        "--peer-client-cert-file=c",
        "--experimental-max-learners=2",
    ]);
    assert_eq!(told.len(), 8, "{told:?}");
    let text = told.join("\n");
    for expected in [
        "--enable-v2 is ignored",
        "--checkpoint-bytes",
        "--max-txn-ops is taken as 1024",
        "--bcrypt-cost is taken as 10",
        "--max-request-bytes is taken as 1572864",
        "--cipher-suites: there is no TLS_RSA_WITH_AES_128_CBC_SHA here",
        "--peer-cert-file is what peers are shown",
        "any number of learners",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_passwords_tokens_and_transactions_cost_is_as_said() {
    let plan = planned(&["--name=a"]);
    assert_eq!((plan.password_cost, plan.token_life), (10, Duration::from_secs(300)));
    assert_eq!(plan.door.unwrap().txn_ops_max, None);
    let words = ["--bcrypt-cost=12", "--auth-token-ttl=7", "--max-txn-ops=500"];
    let own = ["--id=1", "--single", "--listen=h:1", "--ca=a", "--cert=c", "--key=k"];
    let own = [&own[..], &["--data-dir=d", "--etcd-listen=h:2"], &words].concat();
    for words in [&words[..], &own] {
        let plan = planned(words);
        assert_eq!((plan.password_cost, plan.token_life), (12, Duration::from_secs(7)));
        assert_eq!(plan.door.unwrap().txn_ops_max, Some(500));
    }
    assert_eq!(planned(&["--bcrypt-cost=40"]).password_cost, 10);
    assert_eq!(planned(&["--max-txn-ops=5000"]).door.unwrap().txn_ops_max, Some(5000));
}

#[test]
fn what_a_door_lets_in_is_as_said() {
    let plain = door(&["--name=a"]);
    assert_eq!((plain.request_bytes_max, plain.hosts.len()), (None, 0));
    assert_eq!(plain.tls_limits, TlsLimits::default());
    let said = door(&[
        "--max-request-bytes=100000",
        "--host-whitelist=a.example,b.example",
        "--tls-max-version=TLS1.2",
        "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ]);
    assert_eq!(said.request_bytes_max, Some(100_000));
    assert_eq!(said.hosts, ["a.example", "b.example"]);
    let suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
    assert_eq!(said.tls_limits, TlsLimits { only_1_3: false, only_1_2: true, suites });
    assert_eq!(door(&["--max-request-bytes=9000000000"]).request_bytes_max, Some(1_572_864));
    assert!(door(&["--tls-min-version=TLS1.3"]).tls_limits.only_1_3);
}

/// docs/etcd.md has a row for every flag.
#[test]
fn every_flag_is_in_the_documents() {
    let text = crate::docs::read("docs/etcd.md");
    for flag in words::known() {
        let stands = text.contains(&format!("`--{flag}`"))
            || flag.starts_with("experimental-") && FOREIGN.iter().any(|one| one.flag == flag);
        assert!(stands, "--{flag}");
    }
}
