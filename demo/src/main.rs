//! Walks through the tiers of Mastaba on real data: what `cargo run` starts. `cargo run -- serve` lets one look
//! around in the same data with a browser.
//!
//! The data is what `cargo metadata` says of this workspace, in a SQLite database: packages, dependencies,
//! features, authors, keywords. See `tour.rs` for the steps, `serve.rs` for the web application.

mod database;
mod figures;
mod metadata;
mod naive;
mod serve;
mod sources;
mod stage;
mod tour;
mod tree;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// Whatever went wrong: the demo only ever tells it to the reader.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
Walks through the tiers of Mastaba on real data: the packages that this workspace is built from.

Usage: cargo run [-- tour [--json] [--data-dir DIR] [--keep]]
       cargo run -- serve [--port N] [--host HOST] [--data-dir DIR] [--postgres URL] [--redis URL] [--near N]

  tour             the walk; what is done when nothing is asked for
  --json           one JSON object a step instead of a table
  --data-dir DIR   put the database and the cache file into a new folder in DIR, and leave it there
  --keep           leave the folder there that they are in; otherwise a temporary one, removed at the end

  serve            a crate explorer over the same data, for a browser; its address is the first line it prints
  --port N         where it listens (default 3000; 0 finds a free one)
  --host HOST      on which address it listens (default 127.0.0.1)
  --data-dir DIR   keep the database and the cache file in DIR: it starts warm the next time
  --postgres URL   a Postgres database instead of SQLite, filled if it is empty: postgres://user:pass@host/name;
                   without --redis nobody else may write to it, as the cache would not hear of that
  --redis URL      Redis or Valkey as the shared tier instead of an embedded file: redis://host:6379; with it and
                   --postgres any number of these may run, and an edit in one shows at once in all
  --near N         a cache of N entries in the process, in front of the shared tier; over Redis it makes sure, by one
                   ping per page, that it has been told of what other processes changed

  -h, --help       this text
  -V, --version    the version
";

enum Command {
    Help,
    Version,
    Tour(tour::TourOptions),
    Serve(Box<serve::ServeOptions>),
    /// The second process of the tour, which finds a warm file: not for people.
    Restarted(PathBuf),
}

fn main() -> ExitCode {
    let command = match parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            anstream::eprintln!("demo: {error}; try --help");
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        // `| head` has seen enough
        Err(error) if closed(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Command> {
    use lexopt::prelude::*;

    let mut parser = lexopt::Parser::from_args(args);
    let mut options = tour::TourOptions::default();
    let mut served = serve::ServeOptions::default();
    let mut data_dir: Option<PathBuf> = None;
    let mut word = Word::Tour;
    let mut first = true;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("data-dir") => data_dir = Some(parser.value()?.into()),
            Long("json") if word == Word::Tour => options.json = true,
            Long("keep") if word == Word::Tour => options.keep = true,
            Long("port") if word == Word::Serve => {
                served.port = number("--port", &parser.value()?, "0 to 65535")?;
            }
            Long("host") if word == Word::Serve => served.host = parser.value()?.string()?,
            Long("postgres") if word == Word::Serve => served.postgres = Some(parser.value()?.string()?),
            Long("redis") if word == Word::Serve => served.redis = Some(parser.value()?.string()?),
            Long("near") if word == Word::Serve => {
                let most: NonZero<u64> = number("--near", &parser.value()?, "1 or more")?;
                served.near = Some(most.get());
            }
            Value(said) if first && said == "tour" => {}
            Value(said) if first && said == "serve" => word = Word::Serve,
            Value(said) if first && said == tour::RESTARTED => word = Word::Restarted,
            _ => return Err(arg.unexpected().into()),
        }
        first = false;
    }
    match (word, data_dir) {
        (Word::Restarted, Some(folder)) => Ok(Command::Restarted(folder)),
        (Word::Restarted, None) => Err(format!("{} needs --data-dir", tour::RESTARTED).into()),
        (Word::Tour, data_dir) => Ok(Command::Tour(tour::TourOptions { data_dir, ..options })),
        (Word::Serve, data_dir) => Ok(Command::Serve(Box::new(serve::ServeOptions { data_dir, ..served }))),
    }
}

/// What the first argument says.
#[derive(PartialEq)]
enum Word {
    Tour,
    Serve,
    Restarted,
}

fn number<T: FromStr>(option: &str, value: &OsStr, valid: &str) -> Result<T> {
    let parsed = value.to_str().and_then(|value| value.parse().ok());
    parsed.ok_or_else(|| format!("{option} is a number, {valid}, and not {}", value.display()).into())
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => figures::say(HELP.trim_end()),
        Command::Version => figures::say(concat!("mastaba demo ", env!("CARGO_PKG_VERSION"))),
        Command::Tour(options) => on_a_runtime(tour::tour(options)),
        Command::Serve(options) => {
            // one line, whatever it is made of
            let line = |error: mastaba::BoxError| error.to_string().replace('\n', " ");
            on_a_runtime(async { serve::serve(*options).await.map_err(|error| line(error).into()) })
        }
        Command::Restarted(folder) => on_a_runtime(tour::restarted(folder)),
    }
}

fn on_a_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn closed(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
