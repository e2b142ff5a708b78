//! A child process that never outlives its value.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::wait;

/// How long a process may take to end after a polite word.
const PATIENCE: Duration = Duration::from_secs(10);

/// Dropping it kills the process and waits until it is gone.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    farewell: Option<Signal>,
}

impl Process {
    /// Starts it; all that it prints goes to the end of the file `log`.
    pub(super) fn spawn(mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file can be opened");
        let err = out.try_clone().expect("a log file can be opened twice");
        command.stdin(Stdio::null()).stdout(out).stderr(err).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
        let pid = child.id().expect("a child that nobody waited for has an id");
        Self { child, pid, farewell: None }
    }

    /// Dropping it sends this signal first: it has children of its own, and ends them when it has the time.
    pub(super) fn farewell(mut self, signal: Signal) -> Self {
        self.farewell = Some(signal);
        self
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked for").is_some()
    }

    /// Asks it to end, and kills it when it does not.
    pub(super) async fn stop(mut self, how: Signal) {
        signal(self.pid, how);
        // a process that is stopped hears of it only when it goes on
        signal(self.pid, Signal::Cont);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        assert!(ended.is_ok(), "process {} did not end within {PATIENCE:?} of {how:?}", self.pid);
    }

    /// Waits until it is gone: only then its port and its folder are free, and a test may end with the next line.
    fn linger(&mut self) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        if let Some(farewell) = self.farewell {
            let _ = send(self.pid, farewell).and_then(|()| send(self.pid, Signal::Cont));
            self.linger();
        }
        let _ = self.child.start_kill();
        self.linger();
    }
}

/// The process of a server, while it runs.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Option<Process>>);

impl Running {
    /// Waits until a process is [`ready`](started), and keeps it then.
    pub(super) async fn start(
        &self,
        mut process: Process,
        log: &Path,
        ready: impl AsyncFn() -> bool,
    ) -> Started {
        let started = started(&mut process, log, ready).await;
        if started == Started::Ready {
            *self.lock() = Some(process);
        }
        started
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(Process::pid)
    }

    /// [Stops](Process::stop) it, if it runs.
    pub(super) async fn stop(&self, how: Signal) {
        let process = self.lock().take();
        if let Some(process) = process {
            process.stop(how).await;
        }
    }

    /// [Kills](Process::kill) it, if it runs.
    pub(super) async fn kill(&self) {
        let process = self.lock().take();
        if let Some(process) = process {
            process.kill().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stand still.
    Stop,
    /// Go on.
    Cont,
    /// End, as by Ctrl-C.
    Int,
    /// End.
    Term,
    /// End at once.
    Quit,
}

/// Sends a signal to a process that runs.
///
/// # Panics
///
/// When it does not run, or belongs to somebody else.
pub fn signal(pid: u32, signal: Signal) {
    let sent = send(pid, signal);
    assert!(sent.is_ok(), "{signal:?} could not be sent to process {pid}: {sent:?}");
}

/// By a call of the system, and not by the program `kill`, which a small machine may lack.
fn send(pid: u32, signal: Signal) -> std::io::Result<()> {
    let signal = match signal {
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Cont => rustix::process::Signal::CONT,
        Signal::Int => rustix::process::Signal::INT,
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Quit => rustix::process::Signal::QUIT,
    };
    Ok(rustix::process::kill_process(number(pid)?, signal)?)
}

fn number(pid: u32) -> std::io::Result<rustix::process::Pid> {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    number.ok_or_else(|| std::io::Error::other("no process has this number"))
}

/// Freezes a child, and waits until each of its threads stands still: the signal alone does not, so that a thread which runs
/// on another core may still answer somebody after it was sent.
///
/// # Panics
///
/// When it does not run, or is no child of ours.
pub(super) async fn freeze(pid: u32) {
    signal(pid, Signal::Stop);
    wait::until("a process that stands still", async || stands_still(pid)).await;
}

/// Whether the system has told of a child that it stopped, which it does once all of its threads have.
fn stands_still(pid: u32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    let child = number(pid).expect("a process has a number");
    // what is asked for is only that it stopped: its end stays to be told to the one who waits for that
    let told =
        waitid(WaitId::Pid(child), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    told.unwrap_or_else(|error| panic!("process {pid} could not be asked for: {error}")).is_some()
}

/// A loopback port where nothing listens now.
///
/// Below the range from which systems take the ports of outgoing connections: none of them can then take the port of
/// a server while it is restarted. Two tests may still choose the same one, so whoever starts a server tries again.
pub(crate) fn free_port() -> u16 {
    let mut tries = std::iter::repeat_with(|| fastrand::u16(12_000..32_000)).take(1_000);
    tries
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a loopback port is free")
}

/// The last lines of a log, for the sentence of a panic.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// What a start came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started {
    Ready,
    /// Its port was taken by another one in the meantime.
    Clash,
}

/// Waits until `ready`, or until the process has ended because its port was taken.
async fn started(process: &mut Process, log: &Path, ready: impl AsyncFn() -> bool) -> Started {
    let began = Instant::now();
    loop {
        if ready().await {
            return Started::Ready;
        }
        if process.has_ended() {
            let log = tail(log);
            assert!(
                log.to_lowercase().contains("address already in use"),
                "the server ended at once:\n{log}"
            );
            return Started::Clash;
        }
        assert!(began.elapsed() < wait::LIMIT, "the server does not answer:\n{}", tail(log));
        tokio::time::sleep(wait::PAUSE).await;
    }
}
