//! A MariaDB.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tokio::net::TcpStream;
use tokio::process::Command;

use super::home::{ServerHome, lives_at_home};
use super::missing::missing;
use super::process::Started;
use super::programs::Program;

/// A server with one empty database `test`, which lets `root` in without a password and does not care whether data reach
/// the disk. Dropping it ends it and removes its folder.
///
/// ```
/// use mastaba_test::servers::Mariadb;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let Some(server) = Mariadb::start().await else { return };
/// assert!(tokio::net::TcpStream::connect(server.addr()).await.is_ok());
/// server.stop().await;
/// assert!(tokio::net::TcpStream::connect(server.addr()).await.is_err());
/// # });
/// ```
#[derive(Debug)]
pub struct Mariadb {
    home: ServerHome,
    /// It has a binary log, under this id.
    logs_as: Option<u32>,
}

impl Mariadb {
    /// Makes a database and starts its server, which takes a few seconds. `None` when it is not installed: see
    /// [`missing`](super::missing). It runs as the user of this process, also when that is root.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        Self::start_as(None).await
    }

    /// The same with a binary log, so that it can be replicated, and with an id that no other server of a replication has.
    ///
    /// `change master to .., master_use_gtid = slave_pos` and `start slave` make it a replica of another one, for which the
    /// user `root` is good enough.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start_logging(id: u32) -> Option<Self> {
        Self::start_as(Some(id)).await
    }

    async fn start_as(logs_as: Option<u32>) -> Option<Self> {
        if missing(&[Program::MariadbInstallDb, Program::Mariadbd]) {
            return None;
        }
        let mut server = Self { home: ServerHome::of("mariadb"), logs_as };
        server.init().await;
        loop {
            server.home.moves();
            if server.spawn().await == Started::Ready {
                return Some(server);
            }
        }
    }

    async fn init(&self) {
        let mut command = self.program(Program::MariadbInstallDb);
        // by the names of this machine's users nobody would be known on the way over TCP
        command.args(["--auth-root-authentication-method=normal", "--skip-name-resolve", "--force"]);
        command.args(["--innodb-flush-method=nosync", "--innodb-log-file-size=8M"]);
        let output = command.output().await.expect("mariadb-install-db can be run");
        let said = [output.stdout, output.stderr].concat();
        let complaint = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "mariadb-install-db failed:\n{complaint}");
    }

    async fn spawn(&self) -> Started {
        let mut command = self.program(Program::Mariadbd);
        let folder = self.home.path().display();
        command.args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={}", self.port()),
            format!("--socket={folder}/socket"),
            format!("--pid-file={folder}/pid"),
            "--skip-name-resolve".to_owned(),
            "--innodb-flush-method=nosync".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--innodb-log-file-size=8M".to_owned(),
            "--innodb-buffer-pool-size=16M".to_owned(),
            "--innodb-fast-shutdown=2".to_owned(),
        ]);
        match self.logs_as {
            Some(id) => command.args(["--log-bin=log-bin".to_owned(), format!("--server-id={id}")]),
            None => command.arg("--skip-log-bin"),
        };
        let ready = async |_| {
            // another server may listen there, so that an answer alone says nothing
            let text = fs::read_to_string(self.log()).unwrap_or_default();
            text.contains("ready for connections") && TcpStream::connect(self.addr()).await.is_ok()
        };
        self.home.start(command, ready).await
    }

    /// Where clients connect: `mysql://root@127.0.0.1:PORT/test`.
    pub fn url(&self) -> String {
        format!("mysql://root@{}/test", self.addr())
    }

    fn program(&self, program: Program) -> Command {
        let mut command = Command::new(program.find().expect("it was there before"));
        command.current_dir(self.home.path()).env("LC_ALL", "C");
        // it has to be the first one
        command.arg("--no-defaults").arg(format!("--datadir={}", self.home.path().join("data").display()));
        if self.home.path().metadata().expect("a folder that was made is there").uid() == 0 {
            // root has to say that it means it
            command.arg("--user=root");
        }
        command
    }
}

lives_at_home!(Mariadb, Term: "without waiting for its clients (`SIGTERM`)", "with the same data");
