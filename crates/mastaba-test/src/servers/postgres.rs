//! A PostgreSQL.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use tokio::process::Command;

use super::home::{ServerHome, lives_at_home};
use super::missing::missing;
use super::process::{Signal, Started};
use super::programs::Program;

/// A server with one empty database, which trusts everybody and does not care whether data reach the disk.
/// Dropping it ends it and removes its folder. It may have [standbys](Postgres::standby).
///
/// ```
/// use mastaba_test::servers::Postgres;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let Some(server) = Postgres::start().await else { return };
/// assert!(tokio::net::TcpStream::connect(server.addr()).await.is_ok());
/// server.stop().await;
/// assert!(tokio::net::TcpStream::connect(server.addr()).await.is_err());
/// # });
/// ```
#[derive(Debug)]
pub struct Postgres {
    home: ServerHome,
}

impl Postgres {
    /// Makes a database and starts its server, which takes a second or two. `None` when it is not installed: see
    /// [`missing`](super::missing). Run by root, the server runs as the user `postgres` (or `nobody` when there is
    /// none), because it refuses to be root.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        if missing(&[Program::Initdb, Program::Postgres]) {
            return None;
        }
        let server = Self::in_a_folder();
        let mut command = server.program(Program::Initdb);
        command.args(["--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]);
        command.arg("--pgdata").arg(server.data());
        Some(server.made_by(command).await)
    }

    /// Copies this server, and starts the copy as its standby: it can be read, and shows what is committed here as it
    /// comes over (streaming replication). `None` when the program that copies is not installed.
    ///
    /// `select pg_wal_replay_pause()` there holds back what it shows, `pg_wal_replay_resume()` lets it go on.
    ///
    /// # Panics
    ///
    /// When this server does not run, or the standby does not start.
    pub async fn standby(&self) -> Option<Self> {
        if missing(&[Program::PgBasebackup]) {
            return None;
        }
        let server = Self::in_a_folder();
        let mut command = server.program(Program::PgBasebackup);
        // with the settings that make it a standby; and the checkpoint that it begins with is not put off
        command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        command.args(["--username=postgres", "--host=127.0.0.1"]).arg(format!("--port={}", self.port()));
        command.arg("--pgdata").arg(server.data());
        Some(server.made_by(command).await)
    }

    /// Nothing but a folder that it may write to.
    fn in_a_folder() -> Self {
        // killed at once, it would leave its children and its shared memory behind
        let server = Self { home: ServerHome::of("postgres").farewell(Signal::Quit) };
        if let Some((user, group)) = server.user() {
            chown(server.home.path(), Some(user), Some(group)).expect("root can give a folder away");
        }
        server
    }

    /// Has the data made, and starts.
    async fn made_by(mut self, mut command: Command) -> Self {
        let output = command.output().await.expect("a program that was found can be run");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} failed:\n{complaint}");
        loop {
            self.home.moves();
            if self.spawn().await == Started::Ready {
                return self;
            }
        }
    }

    async fn spawn(&self) -> Started {
        let mut command = self.program(Program::Postgres);
        command.arg("-D").arg(self.data());
        let folder = self.home.path().display();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port()),
            format!("unix_socket_directories={folder}"),
            "fsync=off".to_owned(),
            "synchronous_commit=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "shared_buffers=16MB".to_owned(),
        ];
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        self.home.start(command, async |pid: u32| self.is_ready(&pid.to_string()).unwrap_or_default()).await
    }

    /// It writes a file with its process in the first line and its state in the last one.
    fn is_ready(&self, pid: &str) -> io::Result<bool> {
        let text = fs::read_to_string(self.data().join("postmaster.pid"))?;
        Ok(text.lines().next() == Some(pid) && text.lines().last().is_some_and(|line| line.trim() == "ready"))
    }

    /// Where clients connect: `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.addr())
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn program(&self, program: Program) -> Command {
        let mut command = Command::new(program.find().expect("it was there before"));
        command.current_dir(self.home.path()).env("LC_ALL", "C").env_remove("PGDATA");
        if let Some((user, group)) = self.user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Whom it runs as when this process is root, by numbers.
    fn user(&self) -> Option<(u32, u32)> {
        // nothing in the library says which user a process is, but what it makes is its own
        let own = fs::metadata("/proc/self").or_else(|_| self.home.path().metadata());
        if own.expect("this process has a folder").uid() != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("a system has users");
        let named = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        let user = named("postgres").or_else(|| named("nobody"));
        Some(user.expect("a system has a user `postgres` or `nobody`"))
    }
}

lives_at_home!(Postgres, Int: "without waiting for its clients (`SIGINT`)", "with the same data");
