//! What a server is, and what it can do.

use std::process::Stdio;

use tokio::process::Command;

use super::super::programs::Program;
use super::RedisServer;

/// What servers without TLS say when they are to listen for it: the newer ones, and those that do not know the setting.
const NO_TLS: [&str; 2] = ["Failed finding TLS support", "Bad directive"];

/// What a server is and what it can do, as it says itself: see [`RedisServer::traits`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisTraits {
    /// `redis` or `valkey`.
    pub name: String,
    /// Its own version, such as `9.1.2`; a Valkey also claims one of Redis, which is not this.
    pub version: String,
    /// It knows `SET .. IFEQ`.
    pub compares: bool,
}

impl RedisServer {
    /// Asks it what it is and what it can do, so that a test can say what it expects of this server.
    ///
    /// ```
    /// use mastaba_test::servers::RedisServer;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let Some(server) = RedisServer::start().await else { return };
    /// let answer = server.command(&["SET", "a", "new", "IFEQ", "old"]).await;
    /// assert_eq!(server.traits().await.compares, !answer.contains("syntax error"));
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn traits(&self) -> RedisTraits {
        let info = self.info("server").await;
        let (name, version) = match info.get("valkey_version") {
            Some(version) => ("valkey", version),
            None => ("redis", &info["redis_version"]),
        };
        // not by its version: that is what the library goes by
        let docs = self.command(&["COMMAND", "DOCS", "SET"]).await.to_lowercase();
        RedisTraits { name: name.to_owned(), version: version.clone(), compares: docs.contains("ifeq") }
    }

    /// Whether the program that would be started can listen for TLS. It is asked to, without a certificate, and says what it
    /// lacks.
    ///
    /// # Panics
    ///
    /// When it is not installed.
    pub async fn has_tls() -> bool {
        Self::offers_tls(Program::RedisServer).await
    }

    pub(super) async fn offers_tls(program: Program) -> bool {
        let program = program.find().expect("only what is installed can be asked");
        let folder = tempfile::Builder::new().prefix("mastaba-redis-").tempdir().expect("a temporary folder");
        let mut command = Command::new(program);
        command.args(["--port", "0", "--tls-port", "1", "--save", ""]).current_dir(folder.path());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        !NO_TLS.iter().any(|sentence| said.contains(sentence))
    }
}
