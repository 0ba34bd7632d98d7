//! The binary `raft` as a library, so that its parts can be tested without starting processes.
//! This file takes the command line to the verb that does it, and its outcome to the exit code.

pub mod args;
pub mod bench;
pub mod cert;
pub mod check;
pub mod client;
mod command;
pub mod config;
pub mod demo;
mod directory;
pub mod failure;
pub mod inspect;
pub mod logging;
pub mod output;
mod pages;
mod random;
pub mod records;
pub mod recover;
pub mod serve;
mod stat;
pub mod transaction;
pub mod verbs;

use args::connection::{Connection, DEADLINE_DEFAULT, Target};
use args::snapshot::SnapshotAction;
use args::{Cli, Verb};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use client::Store;
use config::{Config, Layer};
use failure::Failure;
use output::colour::When;
use output::{Format, Output};
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Imports may meet an election: they wait for it rather than stop.
const IMPORT_DEADLINE: Duration = Duration::from_secs(60);

/// The whole program: parses, runs, prints one line if it failed.
pub fn main(line: Vec<OsString>) -> ExitCode {
    if let Some((failure, format)) = command::become_command(&line) {
        return fail(&failure, format);
    }
    let line = serve::etcd_flags::words::rewrite(line);
    let (cli, config) = match parse(&line) {
        Ok(parsed) => parsed,
        Err(Wrong::Line(error)) if asks_for_help(&error) => {
            // A closed stdout is the only way this fails, and then nobody reads it.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * failure::Kind::Usage.exit_code());
        }
        Err(wrong) => {
            output::colour::decide(When::Auto);
            return fail(&wrong.into(), wanted_format(&line));
        }
    };
    output::colour::decide(cli.color);
    let format = cli.output;
    let mut output = Output::stdout(format);
    let outcome = run(cli, &config, &mut output);
    // Results printed before a failure belong in front of it.
    let finished = output.finish();
    match outcome.and(finished) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure, format),
    }
}

/// Why a command line cannot be followed.
enum Wrong {
    /// Of itself.
    Line(clap::Error),
    /// Because of the file or the environment.
    Config(Failure),
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Line(error) => usage(&error),
            Wrong::Config(failure) => failure,
        }
    }
}

/// Parses a command line, and reads what file and environment add to it.
fn parse(line: &[OsString]) -> Result<(Cli, Config), Wrong> {
    let read = |line: &[OsString]| -> Result<(ArgMatches, Cli), Wrong> {
        let matches = Cli::command().try_get_matches_from(line).map_err(Wrong::Line)?;
        let cli = Cli::from_arg_matches(&matches).map_err(Wrong::Line)?;
        Ok((matches, cli))
    };
    let (matches, cli) = read(line)?;
    let needed = match &cli.verb {
        Verb::Completion(_) | Verb::Cert(_) | Verb::Inspect(_) => false,
        Verb::Demo(_) | Verb::Recover(_) => false,
        Verb::Config(args) => !matches!(args.action, args::config::Action::Example),
        _ => true,
    };
    if !needed {
        return Ok((cli, Config::default()));
    }
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let config = Config::load(cli.config.as_deref(), environment);
    let mut config = config.map_err(Wrong::Config)?;
    let node = match matches.subcommand() {
        Some(("config", matches)) => matches.subcommand_matches("check"),
        Some(("serve", matches)) => Some(matches),
        _ => None,
    };
    let Some(node) = node else { return Ok((cli, config)) };
    config.note_flags(node);
    config.note_etcd(environment).map_err(Wrong::Config)?;
    config.note_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    let (_, cli) = read(&config.complete(line))?;
    Ok((cli, config))
}

fn fail(failure: &Failure, format: Format) -> ExitCode {
    if let Some(line) = failure.line(format) {
        // With stderr closed there is nowhere left to say it; the exit code still does.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    ExitCode::from(failure.kind.exit_code())
}

fn asks_for_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// clap's message in one line: what is wrong, its hint, and the usage it shows.
pub fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    let (message, form) = match text.split_once("\n\nUsage: ") {
        Some((message, form)) => (message, Some(form)),
        None => (text, None),
    };
    let words: Vec<&str> = message.split_whitespace().collect();
    let message = words.join(" ");
    let failure = Failure::usage(message.replace(" tip: ", "; "));
    match form {
        Some(form) => failure.advice(format!("usage: {form}")),
        None => failure.advice("see `raft --help`"),
    }
}

/// The format asked for on a command line that could not be parsed.
fn wanted_format(line: &[OsString]) -> Format {
    let json = |at: usize| line.get(at).is_some_and(|word| word == "json");
    let asks = |(at, word): (usize, &OsString)| match word.to_str() {
        Some("-o" | "--output") => json(at + 1),
        Some(word) => word == "-ojson" || word == "-o=json" || word == "--output=json",
        None => false,
    };
    if line.iter().enumerate().any(asks) { Format::Json } else { Format::Table }
}

/// Does what the command line says.
///
/// # Errors
/// The verb's.
pub fn run(cli: Cli, config: &Config, output: &mut Output<'_>) -> Result<(), Failure> {
    let target = |after: &Connection| after.clone().resolve(cli.connection.clone(), config);
    let open = |after: &Connection| Store::open(&target(after)?, DEADLINE_DEFAULT, 0);
    macro_rules! ask {
        ($run:path, $args:expr, $connection:expr) => {
            block_on(async { $run(&open($connection)?, $args, output).await })
        };
    }
    match &cli.verb {
        Verb::Put(args) => ask!(verbs::put::run, args, &args.connection),
        Verb::Get(args) => ask!(verbs::get::run, args, &args.connection),
        Verb::Del(args) => ask!(verbs::del::run, args, &args.connection),
        Verb::Cas(args) => ask!(verbs::cas::run, args, &args.connection),
        Verb::Txn(args) => ask!(verbs::txn::run, args, &args.connection),
        Verb::Watch(args) => ask!(verbs::watch::run, args, &args.connection),
        Verb::Compact(args) => ask!(verbs::compact::run, args, &args.connection),
        Verb::Lease(args) => ask!(verbs::lease::run, args, args.action.connection()),
        Verb::Lock(args) => ask!(verbs::hold::lock, args, &args.hold.connection),
        Verb::Elect(args) => ask!(verbs::hold::elect, args, &args.hold.connection),
        Verb::Group(args) => ask!(verbs::group::run, args, args.action.connection()),
        Verb::Partition(args) => ask!(verbs::partition::run, args, args.action.connection()),
        Verb::Barrier(args) => ask!(verbs::barrier::run, args, args.action.connection()),
        Verb::Queue(args) => ask!(verbs::queue::run, args, args.action.connection()),
        Verb::Broadcast(args) => ask!(verbs::broadcast::broadcast, args, &args.connection),
        Verb::Subscribe(args) => ask!(verbs::broadcast::subscribe, args, &args.connection),
        Verb::Status(args) => {
            block_on(async { verbs::status::run(&open(&args.connection)?, output).await })
        }
        Verb::Health(args) => {
            block_on(async { verbs::health::run(&open(&args.connection)?, output).await })
        }
        Verb::Scrub(args) => ask!(verbs::scrub::run, args, &args.connection),
        Verb::Member(args) => ask!(verbs::member::run, args, args.action.connection()),
        Verb::Auth(args) => ask!(verbs::auth::auth, args, args.action.connection()),
        Verb::User(args) => ask!(verbs::auth::user, args, args.action.connection()),
        Verb::Role(args) => ask!(verbs::auth::role, args, args.action.connection()),
        Verb::Transfer(args) => ask!(verbs::transfer::run, args, &args.connection),
        Verb::Export(args) => ask!(verbs::export::run, args, &args.connection),
        Verb::Import(args) => block_on(async {
            let store = Store::open(&target(&args.connection)?, IMPORT_DEADLINE, 0)?;
            verbs::import::run(store, args, output).await
        }),
        Verb::Bench(args) => block_on(async {
            let target = target(&args.load().connection())?;
            bench::run(bench::open(args, &target).await?, args, output).await
        }),
        Verb::Doctor(args) => doctor(args, &target(&args.connection)?, output),
        Verb::Check(args) => {
            block_on(async { check::run(args, || target(&args.connection), output).await })
        }
        Verb::Snapshot(args) => snapshot(&args.action, target, output),
        Verb::Config(args) => {
            verbs::config::run(args, config, &Layer::flags(cli.connection.clone()), output)
        }
        Verb::Completion(args) => verbs::completion::run(args, output),
        Verb::Demo(args) => demo::run(args, output),
        Verb::Serve(args) => serve::run(args, output),
        Verb::Cert(args) => cert::run(args, output),
        Verb::Inspect(args) => inspect::run(args, output),
        Verb::Recover(args) => recover::run(args, output),
    }
}

fn doctor(
    args: &args::doctor::Doctor,
    target: &Target,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let connector = client::connector(target)?;
    let most = target.deadline.unwrap_or(DEADLINE_DEFAULT);
    let endpoints = &target.endpoints;
    block_on(async { verbs::doctor::run(&*connector, endpoints, most, args, output).await })
}

fn snapshot(
    action: &SnapshotAction,
    target: impl Fn(&Connection) -> Result<Target, Failure>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match action {
        SnapshotAction::Save(args) => block_on(async {
            let target = target(&args.connection)?;
            let connector = client::connector(&target)?;
            let deadline = target.deadline.unwrap_or(SNAPSHOT_DEADLINE);
            let patience = deadline.max(SNAPSHOT_DEADLINE);
            let store = Store::open(&target, DEADLINE_DEFAULT, 0)?;
            let token = store.token().await?;
            let token = token.as_deref();
            verbs::snapshot::save(&*connector, &target.endpoints, token, patience, args, output)
                .await
        }),
        SnapshotAction::Status(args) => verbs::snapshot::status(args, output),
        SnapshotAction::Restore(args) => recover::restore::run(args, output),
    }
}

/// How long a node may say nothing while it makes a backup, or longer if requests may take longer.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(60);

/// Runs a verb on this thread: it leaves the other cores to the cluster on the same machine.
fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start a runtime", &error))?
        .block_on(verb)
}
