//! Calls of cargo.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, IsTerminal, Read, stderr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// Says whether cargo and its tools print colours.
pub(crate) const COLOUR: &str = "CARGO_TERM_COLOR";

/// One call of cargo that shows its output as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Call {
    pub(crate) fn new<T: Into<String>>(args: impl IntoIterator<Item = T>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), env: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = command();
        command.args(&self.args).envs(self.env.iter().cloned()).current_dir(folder);
        if colour() && !self.env.iter().any(|(name, _)| *name == COLOUR) {
            command.env(COLOUR, "always");
        }
        command
    }

    /// Runs in `folder` and gives what it prints. What it says beside that is shown.
    pub(crate) fn output(&self, folder: &Path) -> Result<String, String> {
        let output = self.command(folder).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("`{self}` did not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{self}` failed"));
        }
        String::from_utf8(output.stdout).map_err(|error| format!("`{self}` prints no text: {error}"))
    }

    /// Runs in `folder` and says whether it went well. Each line that it prints is shown, and told.
    pub(crate) fn told(&self, folder: &Path, mut tell: impl FnMut(&str)) -> bool {
        let child = self.command(folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                eprintln!("xtask: `{self}` did not start: {error}");
                return false;
            }
        };
        let (told, lines) = mpsc::channel();
        let out = child.stdout.take().map(|out| follow(out, told.clone()));
        let err = child.stderr.take().map(|err| follow(err, told));
        for line in lines {
            println!("{line}");
            tell(&line);
        }
        let followed = out.into_iter().chain(err).all(|thread| thread.join().is_ok());
        child.wait().is_ok_and(|status| status.success()) && followed
    }

    /// Runs in `folder` and says whether it went well.
    pub(crate) fn run(&self, folder: &Path) -> bool {
        match self.command(folder).status() {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("xtask: `{self}` did not start: {error}");
                false
            }
        }
    }
}

fn follow(from: impl Read + Send + 'static, told: mpsc::Sender<String>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let _ = told.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
        }
    })
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}=\"{value}\" ")?;
        }
        write!(f, "cargo {}", self.args.join(" "))
    }
}

/// Whether `cargo NAME` is there to be called.
pub(crate) fn installed(name: &str) -> bool {
    let mut command = command();
    command.args([name, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A call of the cargo that runs us.
///
/// `cargo run` describes the package it runs in variables. Handed on, they would look to some build scripts like
/// a change, and every other build would start over.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Colour is for people: a terminal, no CI, and nobody has said otherwise.
fn colour() -> bool {
    let said = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let ci = env::var("CI").is_ok_and(|value| value != "false" && !value.is_empty());
    stderr().is_terminal() && !ci && !said("NO_COLOR") && !said(COLOUR)
}
