//! What all servers are made of: a port, a folder, and a process that comes and goes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, Running, Signal, Started, free_port, freeze, signal};

/// Where a server lives. Dropping it ends the process, and removes the folder.
#[derive(Debug)]
pub(super) struct ServerHome {
    port: u16,
    farewell: Option<Signal>,
    // before the folder: fields are dropped in order, and the process must not see its folder vanish
    process: Running,
    folder: TempDir,
}

impl ServerHome {
    /// An empty folder, and no port yet.
    pub(super) fn of(name: &str) -> Self {
        let prefix = format!("mastaba-{name}-");
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder");
        Self { port: 0, farewell: None, process: Running::default(), folder }
    }

    /// Its process gets this signal before it is dropped: see [`Process::farewell`].
    pub(super) fn farewell(mut self, signal: Signal) -> Self {
        self.farewell = Some(signal);
        self
    }

    /// Takes another port, where nothing listens now.
    pub(super) fn moves(&mut self) {
        self.port = free_port();
    }

    /// Starts its process in its folder. It is kept once it is `ready`, which is told its id: another server may have its port,
    /// and answer there.
    pub(super) async fn start(&self, mut command: Command, ready: impl AsyncFn(u32) -> bool) -> Started {
        let log = self.log();
        // an old one would show an address that was in use then
        fs::write(&log, "").expect("a log can be emptied");
        command.current_dir(self.path());
        let mut process = Process::spawn(command, &log);
        if let Some(signal) = self.farewell {
            process = process.farewell(signal);
        }
        let pid = process.pid();
        self.process.start(process, &log, async || ready(pid).await).await
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    pub(super) async fn stop(&self, how: Signal) {
        self.process.stop(how).await;
    }

    pub(super) async fn kill(&self) {
        self.process.kill().await;
    }

    /// Freezes a process that runs.
    pub(super) async fn freeze(&self) {
        freeze(self.pid().expect("only what runs can be paused")).await;
    }

    /// Sends a signal to a process that runs.
    pub(super) fn signal(&self, what: Signal) {
        signal(self.pid().expect("only what runs can be paused, or go on"), what);
    }
}

/// The calls that a server has, for it lives in a [`ServerHome`] and can be [started](ServerHome::start) by its `spawn`: `stop` sends this
/// signal, and what `restart` keeps is said by the words at the end.
macro_rules! lives_at_home {
    ($server:ty, $stop:ident: $how:literal, $keeps:literal) => {
        impl $server {
            /// The address where clients connect.
            pub fn addr(&self) -> std::net::SocketAddr {
                self.home.addr()
            }

            /// The port, which stays the same over restarts.
            pub fn port(&self) -> u16 {
                self.home.port()
            }

            /// What it says about itself; emptied at each start.
            pub fn log(&self) -> std::path::PathBuf {
                self.home.log()
            }

            /// The process, unless it was stopped or killed.
            pub fn pid(&self) -> Option<u32> {
                self.home.pid()
            }

            #[doc = concat!("Ends it ", $how, ", and waits until it is gone. Nothing happens when it does not run.")]
            pub async fn stop(&self) {
                self.home.stop($crate::servers::Signal::$stop).await;
            }

            #[doc = concat!("Stops it when it runs, and starts it on the same port, ", $keeps, ".")]
            ///
            /// # Panics
            ///
            /// When it does not start.
            pub async fn restart(&self) {
                self.stop().await;
                self.wake().await;
            }

            /// Starts it where it was. Somebody may have taken the port in the meantime, but hardly for long: tests choose theirs
            /// at random.
            async fn wake(&self) {
                let again = async || self.spawn().await == $crate::servers::process::Started::Ready;
                $crate::servers::wait::until("a port that is free again", again).await;
            }
        }
    };
    // for those whose process is one: others would leave their children behind
    ($server:ty, $stop:ident: $how:literal, $keeps:literal, alone) => {
        $crate::servers::home::lives_at_home!($server, $stop: $how, $keeps);

        impl $server {
            /// Ends it in the middle of whatever it does (`SIGKILL`), and waits until it is gone.
            pub async fn kill(&self) {
                self.home.kill().await;
            }

            /// Freezes it (`SIGSTOP`): connections stay open and new ones are made, but nothing is answered once this has
            /// returned.
            pub async fn pause(&self) {
                self.home.freeze().await;
            }

            /// Lets it go on after [`pause`](Self::pause); it then answers all that came in meanwhile.
            pub async fn resume(&self) {
                self.home.signal($crate::servers::Signal::Cont);
            }
        }
    };
}
pub(super) use lives_at_home;
