//! Flags of etcd that mean nothing here: taken, so that a command line that worked there works
//! here, and answered with a line that says why. What would leave a node less safe than it was
//! asked to be is refused.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::collections::BTreeMap;

/// What becomes of a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is ignored, for this reason.
    Ignored(&'static str),
    /// The node does not start, for this reason.
    Refused(&'static str),
}

use Verdict::{Ignored, Refused};

/// A flag that means nothing here.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Its name.
    pub flag: &'static str,
    /// Whether it may stand without a value, which is `true` then.
    pub switch: bool,
    /// Whether a value asks for what is so anyway: then nothing is said.
    fits: fn(&str) -> bool,
    /// What is done otherwise.
    pub verdict: Verdict,
}

const fn value(flag: &'static str, fits: fn(&str) -> bool, verdict: Verdict) -> Foreign {
    Foreign { flag, switch: false, fits, verdict }
}

const fn switch(flag: &'static str, fits: fn(&str) -> bool, verdict: Verdict) -> Foreign {
    Foreign { flag, switch: true, fits, verdict }
}

fn never(_: &str) -> bool {
    false
}

fn always(_: &str) -> bool {
    true
}

fn yes(value: &str) -> bool {
    value == "true"
}

fn no(value: &str) -> bool {
    value == "false"
}

const NO_BACKEND: Verdict = Ignored("the store is in memory, its log on the disk");
const NO_TRACES: Verdict = Ignored("there are no traces");
const ONE_CERTIFICATE: Verdict = Ignored("--peer-cert-file is what peers are shown either way");
const NO_DISCOVERY: Verdict = Refused("name the members in --initial-cluster");
const NO_PROXY: Verdict = Ignored("there is no proxy");
const NO_LISTS: Verdict = Refused("revocation lists are not read");
const NO_NAMES: Verdict = Refused("certificates are let in by their authority, not by names");
const PINGS: Verdict = Ignored("a connection that is silent for 60 s is asked whether it lives");
const COMPARED: Verdict = Ignored("members compare their data all the time");

/// All of them.
pub const FOREIGN: &[Foreign] = &[
    value("snapshot-count", never, Ignored("checkpoints go by bytes: see --checkpoint-bytes")),
    value("experimental-snapshot-catchup-entries", never, Ignored("the log keeps what is needed")),
    value("wal-dir", never, Ignored("the log is in --data-dir")),
    value("max-snapshots", always, Ignored("there is one checkpoint")),
    value("max-wals", always, Ignored("there is one log")),
    value("backend-batch-interval", never, NO_BACKEND),
    value("backend-batch-limit", |limit| limit == "0", NO_BACKEND),
    value("backend-bbolt-freelist-type", never, NO_BACKEND),
    value("experimental-backend-bbolt-freelist-type", never, NO_BACKEND),
    value("experimental-bootstrap-defrag-threshold-megabytes", never, NO_BACKEND),
    switch("experimental-memory-mlock", no, NO_BACKEND),
    switch("experimental-txn-mode-write-with-shared-buffer", always, NO_BACKEND),
    value("max-concurrent-streams", always, Ignored("there may be 131,072 on a connection")),
    value("grpc-keepalive-min-time", always, PINGS),
    value("grpc-keepalive-interval", never, PINGS),
    value("grpc-keepalive-timeout", never, PINGS),
    switch("initial-election-tick-advance", always, Ignored("elections begin as they must")),
    switch("strict-reconfig-check", yes, Ignored("changes that lose the quorum are refused")),
    switch("pre-vote", yes, Ignored("it is always on")),
    switch("enable-v2", no, Ignored("the v2 API is not served")),
    value("v2-deprecation", always, Ignored("the v2 API is not served")),
    value("experimental-enable-v2v3", never, Ignored("the v2 API is not served")),
    value("discovery", never, NO_DISCOVERY),
    value("discovery-srv", never, NO_DISCOVERY),
    value("discovery-srv-name", never, NO_DISCOVERY),
    value("discovery-proxy", never, NO_DISCOVERY),
    value("discovery-fallback", always, NO_DISCOVERY),
    value("discovery-token", never, NO_DISCOVERY),
    value("discovery-endpoints", never, NO_DISCOVERY),
    switch("force-new-cluster", no, Refused("see `raft recover` for what is left of a cluster")),
    value("client-crl-file", never, NO_LISTS),
    value("peer-crl-file", never, NO_LISTS),
    value("client-cert-allowed-hostname", never, NO_NAMES),
    value("client-cert-allowed-cn", never, NO_NAMES),
    value("peer-cert-allowed-hostname", never, NO_NAMES),
    value("peer-cert-allowed-cn", never, NO_NAMES),
    switch("experimental-peer-skip-client-san-verification", always, NO_NAMES),
    switch("peer-client-cert-auth", yes, Ignored("peers with certificates always show them")),
    value("self-signed-cert-validity", never, Ignored("what is made here does not expire")),
    value("cors", |origins| origins == "*", Ignored("nothing is said to browsers")),
    switch("enable-grpc-gateway", yes, Ignored("requests in JSON are always answered")),
    value("listen-client-http-urls", never, Refused("--listen-client-urls are for JSON, too")),
    value("client-cert-file", always, Ignored("requests in JSON go to no other server")),
    value("client-key-file", always, Ignored("requests in JSON go to no other server")),
    value("peer-client-cert-file", never, ONE_CERTIFICATE),
    value("peer-client-key-file", never, ONE_CERTIFICATE),
    value("raft-read-timeout", always, Ignored("peers speak QUIC, which has its own times")),
    value("raft-write-timeout", always, Ignored("peers speak QUIC, which has its own times")),
    value("auth-token", |kind| kind == "simple", Refused("there are simple tokens only")),
    switch("enable-pprof", no, Ignored("there are no profiles")),
    value("metrics", always, Ignored("all metrics are always told")),
    value("logger", never, Ignored("lines are in a form of their own")),
    value("log-outputs", |to| matches!(to, "default" | "stderr"), Ignored("logs go to stderr")),
    value("log-format", never, Ignored("lines are in a form of their own")),
    value("log-package-levels", never, Ignored("see --log-level")),
    switch("enable-log-rotation", no, Ignored("logs go to stderr")),
    value("log-rotation-config-json", always, Ignored("logs go to stderr")),
    switch("debug", no, Ignored("see --log-level")),
    switch("socket-reuse-port", no, Ignored("ports are not shared")),
    switch("socket-reuse-address", no, Ignored("ports are not shared")),
    value("proxy", |mode| mode == "off", Refused("there is no proxy")),
    value("proxy-failure-wait", always, NO_PROXY),
    value("proxy-refresh-interval", always, NO_PROXY),
    value("proxy-dial-timeout", always, NO_PROXY),
    value("proxy-write-timeout", always, NO_PROXY),
    value("proxy-read-timeout", always, NO_PROXY),
    switch("experimental-initial-corrupt-check", always, COMPARED),
    value("experimental-corrupt-check-time", always, COMPARED),
    switch("experimental-compact-hash-check-enabled", always, COMPARED),
    value("experimental-compact-hash-check-time", always, COMPARED),
    switch("experimental-enable-lease-checkpoint", always, Ignored("leases keep what is left")),
    switch("experimental-enable-lease-checkpoint-persist", always, Ignored("leases keep it")),
    value("experimental-compaction-batch-limit", always, Ignored("batches have a fixed size")),
    value("experimental-compaction-sleep-interval", always, Ignored("batches have a fixed size")),
    value("experimental-warning-apply-duration", never, Ignored("see the metrics")),
    value("experimental-warning-unary-request-duration", never, Ignored("see the metrics")),
    value("experimental-wait-cluster-ready-timeout", always, Ignored("it waits by itself")),
    value("experimental-downgrade-check-time", always, Ignored("versions speak to each other")),
    switch("experimental-enable-distributed-tracing", no, NO_TRACES),
    value("experimental-distributed-tracing-address", always, NO_TRACES),
    value("experimental-distributed-tracing-service-name", always, NO_TRACES),
    value("experimental-distributed-tracing-instance-id", always, NO_TRACES),
    value("experimental-distributed-tracing-sampling-rate", always, NO_TRACES),
    value("experimental-max-learners", never, Ignored("there may be any number of learners")),
    switch("experimental-stop-grpc-service-on-defrag", always, Ignored("it does not stop")),
    switch("unsafe-no-fsync", no, Ignored("the log is always flushed")),
];

impl Foreign {
    /// What is to be said of a value, if anything.
    ///
    /// # Errors
    /// If a node must not start with it.
    pub fn judge(&self, value: &str) -> Result<Option<String>, String> {
        if (self.fits)(value) || value.is_empty() {
            return Ok(None);
        }
        let Self { flag, verdict, .. } = self;
        match verdict {
            Ignored(why) => Ok(Some(format!("--{flag} is ignored: {why}"))),
            Refused(why) => Err(format!("--{flag}: {why}")),
        }
    }

    fn argument(&self) -> Arg {
        let argument = Arg::new(self.flag).long(self.flag).hide(true).action(ArgAction::Set);
        if !self.switch {
            return argument.allow_hyphen_values(true);
        }
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    }
}

/// Which flags were said, wherever: those that mean nothing here among them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told(BTreeMap<String, String>);

impl Told {
    /// Whether a flag was said.
    pub fn has(&self, flag: &str) -> bool {
        self.0.contains_key(flag)
    }

    /// What was said of a flag.
    pub fn value(&self, flag: &str) -> Option<&str> {
        self.0.get(flag).map(String::as_str)
    }

    /// All flags that were said.
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Args for Told {
    fn augment_args(command: Command) -> Command {
        command.args(FOREIGN.iter().map(Foreign::argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Told {
    /// What the environment and files say is added to the command line: all that was said is there.
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let said = matches
            .ids()
            .filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine));
        let said = said.map(|id| {
            let values = matches.get_raw(id.as_str()).into_iter().flatten();
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            (id.as_str().replace('_', "-"), values.join(","))
        });
        Ok(Self(said.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
