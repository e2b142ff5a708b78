//! Walks through the tiers of Mastaba on real data: what `cargo run` starts.
//!
//! The data is what `cargo metadata` says of this workspace, in a SQLite database: packages, dependencies,
//! features, authors, keywords. See `tour.rs` for the steps.

mod database;
mod figures;
mod metadata;
mod naive;
mod sources;
mod stage;
mod tour;
mod tree;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Whatever went wrong: the demo only ever tells it to the reader.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
Walks through the tiers of Mastaba on real data: the packages that this workspace is built from.

Usage: cargo run [-- tour [--json] [--data-dir DIR] [--keep]]

  tour             the walk; what is done when nothing is asked for
  --json           one JSON object a step instead of a table
  --data-dir DIR   put the database and the cache file into a new folder in DIR, and leave it there
  --keep           leave the folder there that they are in; otherwise a temporary one, removed at the end
  -h, --help       this text
  -V, --version    the version
";

enum Command {
    Help,
    Version,
    Tour(tour::Options),
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
    let mut options = tour::Options::default();
    let mut restarted = false;
    let mut first = true;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("json") => options.json = true,
            Long("keep") => options.keep = true,
            Long("data-dir") => options.data_dir = Some(parser.value()?.into()),
            Value(word) if first && word == "tour" => {}
            Value(word) if first && word == tour::RESTARTED => restarted = true,
            _ => return Err(arg.unexpected().into()),
        }
        first = false;
    }
    match (restarted, options.data_dir.take()) {
        (true, Some(folder)) => Ok(Command::Restarted(folder)),
        (true, None) => Err(format!("{} needs --data-dir", tour::RESTARTED).into()),
        (false, data_dir) => Ok(Command::Tour(tour::Options { data_dir, ..options })),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => figures::say(HELP.trim_end()),
        Command::Version => figures::say(concat!("mastaba demo ", env!("CARGO_PKG_VERSION"))),
        Command::Tour(options) => on_a_runtime(tour::tour(options)),
        Command::Restarted(folder) => on_a_runtime(tour::restarted(folder)),
    }
}

fn on_a_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn closed(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
