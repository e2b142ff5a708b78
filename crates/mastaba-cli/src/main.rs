//! `mastaba`: what a server is to the library, and what stands under a key. The README of this crate is the manual.

mod args;
mod doctor;
mod entry;
mod output;
mod secrets;
mod store;
mod trouble;
mod voids;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::args::{Args, Task};
use crate::output::Printed;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::trouble::Trouble;

/// Nothing is wrong, or nothing but warnings.
const FINE: u8 = 0;
/// It was looked at, and something has to be changed.
const WRONG: u8 = 1;
/// It could not be looked at: the arguments, the address, the password.
const BLIND: u8 = 2;

/// How long a look may take, and how much longer for each ping of a doctor.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_FOR_A_PING: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&args, PATIENCE)),
        Err(error) => Err(Trouble::new("runtime", &format!("no runtime can be made: {error}"))),
    };
    match done {
        Ok((printed, code)) => {
            printed.write(args.json);
            ExitCode::from(code)
        }
        Err(trouble) => {
            trouble.masked(&Secrets::here()).write(args.json);
            ExitCode::from(BLIND)
        }
    }
}

/// What looks has an end, after so much patience. What changes something has a budget of its own, and says what is not known.
async fn run(args: &Args, patience: Duration) -> Result<(Printed, u8), Trouble> {
    let url = args.url()?;
    match &args.task {
        Task::Doctor(asked) => {
            let patience = patience + asked.pings * PATIENCE_FOR_A_PING;
            let found = patiently(patience, doctor::examine(url, asked)).await?;
            let code = if found.has_problem() { WRONG } else { FINE };
            Ok((found.printed(), code))
        }
        Task::Get(asked) => {
            let found = patiently(patience, async { Store::open(url).await?.find(asked).await }).await?;
            let code = if found.is_there() { FINE } else { WRONG };
            Ok((found.printed(), code))
        }
        Task::Explain(asked) => {
            let found = patiently(patience, async { Store::open(url).await?.find(asked).await }).await?;
            Ok((found.explained(), FINE))
        }
        Task::Invalidate(asked) => {
            let looks = async {
                let store = Store::open(url).await?;
                let before = store.before(asked).await?;
                Ok((store, before))
            };
            let (store, before) = patiently(patience, looks).await?;
            Ok((voids::printed(&store.invalidate(before).await?), FINE))
        }
        Task::Clear(asked) => {
            let looks = async {
                let store = Store::open(url).await?;
                let known = store.known(asked).await?;
                Ok((store, known))
            };
            let (store, known) = patiently(patience, looks).await?;
            let done = store.clear(asked, &known).await?;
            let code = if done.is_of_nobody() { WRONG } else { FINE };
            Ok((voids::printed(&[done]), code))
        }
    }
}

/// A server may fall silent once it is connected to.
async fn patiently<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let silent = |_| Err(Trouble::new("unreachable", "the server accepts connections, and does not answer"));
    tokio::time::timeout(patience, work).await.unwrap_or_else(silent)
}

/// Arguments that cannot be understood, or a question for the manual.
fn refuse(error: &clap::Error) -> ExitCode {
    let secrets = Secrets::here();
    let shown = error.render().to_string();
    if !error.use_stderr() {
        print!("{}", secrets.masked(&shown));
        return ExitCode::from(FINE);
    }
    // clap repeats an argument as it was written: of one that may be a URL nothing is shown
    let arguments = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
    let shown = arguments.fold(shown, |shown, argument| {
        let (name, value) = argument.split_once('=').unwrap_or_default();
        let urls = [&argument, name, value].into_iter().filter(|it| it.contains("://") || it.contains('@'));
        urls.fold(shown, |shown, url| shown.replace(url, "***"))
    });
    eprint!("{}", secrets.masked(&shown));
    ExitCode::from(BLIND)
}

#[cfg(test)]
mod tests;
