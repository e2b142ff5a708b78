//! What a person and CI both run: `cargo xtask test`, and a few shorthands. See `cargo xtask --help`.

mod args;
mod book;
mod cargo;
mod chart;
mod markdown;
mod matrix;
mod pages;
mod servers;
mod sources;
mod steps;
mod structure;
mod summary;
mod versions;
mod workspace;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use args::Command;
use summary::Outcome;
use workspace::Workspace;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(sentence) => return refuse(&sentence),
    };
    match run(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => refuse(&sentence),
    }
}

/// Whether everything that was asked for went well.
fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::Help => {
            println!("{}", args::help());
            Ok(true)
        }
        Command::List => {
            print!("{}", steps::list());
            Ok(true)
        }
        Command::Test { only } => {
            let steps = steps::select(&only)?;
            Ok(steps::run_all(&steps, &Workspace::discover()?))
        }
        Command::Fmt => Ok(cargo::Call::new(["fmt", "--all"]).run(&Workspace::discover()?.root)),
        Command::Matrix { servers } => {
            let servers = matrix::select(&servers)?;
            Ok(matrix::run(&servers, &Workspace::discover()?) != Outcome::Failed)
        }
        Command::Soak { server, arguments } => soak(&Workspace::discover()?, server, &arguments),
        Command::Chart { from } => chart(&Workspace::discover()?, from.as_deref()),
        Command::Book => book::build(&Workspace::discover()?),
        Command::Bench { rows, json } => {
            let workspace = Workspace::discover()?;
            Ok(workspace.bench(&rows, json)?.run(&workspace.root))
        }
    }
}

fn soak(workspace: &Workspace, server: Option<String>, arguments: &[String]) -> Result<bool, String> {
    let call = workspace.soak(arguments);
    let call = match server {
        None => call,
        // no other program in the place of a Redis, but another sort of server
        Some(name) if name == "memcached" => {
            workspace.soak(&[arguments, &["--server".to_owned(), name]].concat())
        }
        Some(name) => {
            let servers = matrix::select(&[name])?;
            call.env(matrix::SERVER, &matrix::find(servers[0]).map_err(|(_, why)| why)?)
        }
    };
    Ok(call.run(&workspace.root))
}

/// Draws what `from` holds, or what is measured now.
fn chart(workspace: &Workspace, from: Option<&Path>) -> Result<bool, String> {
    let lines = match from {
        Some(from) => fs::read_to_string(from).map_err(|error| format!("{}: {error}", from.display()))?,
        None => workspace.bench(&chart::ROWS.map(str::to_owned), true)?.output(&workspace.root)?,
    };
    let to = workspace.root.join("docs/img/bench.svg");
    fs::write(&to, chart::draw(&lines)?).map_err(|error| format!("{}: {error}", to.display()))?;
    println!("{}", to.display());
    Ok(true)
}

fn refuse(sentence: &str) -> ExitCode {
    eprintln!("xtask: {sentence}");
    // As cargo itself does for a command line that it cannot follow.
    ExitCode::from(101)
}
