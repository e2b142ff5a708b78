//! `mastaba`: what a server is to the library, and what stands under a key. The README of this crate is the manual.

mod args;
mod doctor;
mod entry;
mod output;
mod store;
mod trouble;
mod voids;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::args::{Args, Task};
use crate::output::Printed;
use crate::store::Store;
use crate::trouble::Trouble;

/// Nothing is wrong, or nothing but warnings.
const FINE: u8 = 0;
/// It was looked at, and something has to be changed.
const WRONG: u8 = 1;
/// It could not be looked at: the arguments, the address, the password.
const BLIND: u8 = 2;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_FOR_A_PING: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(in_time(&args)),
        Err(error) => Err(Trouble::new("runtime", &format!("no runtime can be made: {error}"))),
    };
    match done {
        Ok((printed, code)) => {
            printed.write(args.json);
            ExitCode::from(code)
        }
        Err(trouble) => {
            trouble.write(args.json);
            ExitCode::from(BLIND)
        }
    }
}

/// A server may fall silent once it is connected to. What changes something has a budget of its own, and says what is not known.
async fn in_time(args: &Args) -> Result<(Printed, u8), Trouble> {
    let patience = match &args.task {
        Task::Doctor(asked) => PATIENCE + asked.pings * PATIENCE_FOR_A_PING,
        Task::Get(_) | Task::Explain(_) => PATIENCE,
        Task::Invalidate(_) | Task::Clear(_) => return run(args).await,
    };
    let silent = |_| Err(Trouble::new("unreachable", "the server accepts connections, and does not answer"));
    tokio::time::timeout(patience, run(args)).await.unwrap_or_else(silent)
}

async fn run(args: &Args) -> Result<(Printed, u8), Trouble> {
    let url = args.url()?;
    match &args.task {
        Task::Doctor(asked) => {
            let found = doctor::examine(url, asked).await?;
            let code = if found.has_problem() { WRONG } else { FINE };
            Ok((found.printed(), code))
        }
        Task::Get(asked) => {
            let found = Store::open(url).await?.find(asked).await?;
            let code = if found.is_there() { FINE } else { WRONG };
            Ok((found.printed(), code))
        }
        Task::Explain(asked) => Ok((Store::open(url).await?.find(asked).await?.explained(), FINE)),
        Task::Invalidate(asked) => Ok((Store::open(url).await?.invalidate(asked).await?, FINE)),
        Task::Clear(asked) => Ok((Store::open(url).await?.clear(asked).await?, FINE)),
    }
}

/// Arguments that cannot be understood, or a question for the manual. A URL that stands where none belongs is not repeated:
/// there may be a password in it.
fn refuse(error: &clap::Error) -> ExitCode {
    let shown = std::env::args_os()
        .skip(1)
        .map(|it| it.to_string_lossy().into_owned())
        .filter(|it| it.contains('@') || it.contains("://"))
        .fold(error.render().to_string(), |text, secret| text.replace(&secret, "***"));
    if error.use_stderr() {
        eprint!("{shown}");
        ExitCode::from(BLIND)
    } else {
        print!("{shown}");
        ExitCode::from(FINE)
    }
}
