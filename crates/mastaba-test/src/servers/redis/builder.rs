//! What a server shall be like.

use std::fmt::{Display, Write as _};
use std::fs;

use super::super::programs::Program;
use super::super::tls::Certificates;
use super::RedisServer;

/// The name and the password of the user by whom [`RedisServer::command`] gets in where others need a password.
pub(in super::super) const CONTROL: [&str; 2] = ["mastaba-control", "control"];

/// The name and the password by which replicas get in. Nobody else uses it, so they can be kept out alone.
pub(super) const REPLICATION: [&str; 2] = ["mastaba-replication", "replication"];

/// Made by [`RedisServer::builder`].
///
/// ```
/// use mastaba_test::servers::RedisServer;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let small = RedisServer::builder().set("maxmemory", "2mb").set("maxmemory-policy", "allkeys-lru");
/// let Some(server) = small.start().await else { return };
/// assert_eq!(server.command(&["CONFIG", "GET", "maxmemory"]).await, "maxmemory\n2097152");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    pub(super) program: Program,
    pub(super) password: Option<String>,
    pub(in super::super) tls: bool,
    /// Those of another one, which several servers show.
    pub(super) certificates: Option<Certificates>,
    pub(super) sentinel: bool,
}

impl Default for RedisBuilder {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            program: Program::RedisServer,
            password: None,
            tls: false,
            certificates: None,
            sentinel: false,
        }
    }
}

impl RedisBuilder {
    /// Another program in place of [`Program::RedisServer`]: a Valkey, say.
    pub fn program(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// A line of the server's configuration file, after those that are there by default.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The password of the user `default`; it is part of [`RedisServer::url`].
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.set("requirepass", password)
    }

    /// A user with the rules of `ACL SETUSER`, such as `on >secret ~* &* +@all`.
    pub fn user(self, name: &str, rules: &str) -> Self {
        self.set("user", &format!("{name} {rules}"))
    }

    /// Writes a snapshot when the server is stopped, so that a restart finds the data again. Nothing is kept otherwise.
    pub fn persistent(self) -> Self {
        self.set("save", "3600 1")
    }

    /// Listens for TLS only, and for those only who show [`Certificates::client_certificate`].
    ///
    /// [`Certificates::client_certificate`]: super::super::Certificates::client_certificate
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self.set("tls-auth-clients", "yes")
    }

    /// Listens for TLS only, and asks nobody for a certificate.
    pub fn tls_for_all(mut self) -> Self {
        self.tls = true;
        self.set("tls-auth-clients", "optional")
    }

    /// Shows these certificates, and trusts whoever shows others of their authority.
    pub(in super::super) fn certificates(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Watches other servers instead of holding data.
    pub(in super::super) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Takes part in replication, as a master or as a replica.
    pub(in super::super) fn replicated(self) -> Self {
        let [name, password] = REPLICATION;
        // a cluster names a replica to clients once something has reached it, and a ping is the first that does
        let shape = self.set("repl-ping-replica-period", "1");
        shape.set("masteruser", name).set("masterauth", password).user(name, &format!("on >{password} +@all"))
    }

    /// Starts it, which takes a few milliseconds. `None` when no server is installed, or one without TLS that is asked for it:
    /// see [`missing`](super::super::missing).
    ///
    /// # Panics
    ///
    /// When it does not start or does not answer.
    pub async fn start(self) -> Option<RedisServer> {
        RedisServer::launch(self).await
    }

    pub(in super::super) fn guarded(&self) -> bool {
        self.settings.iter().any(|(name, _)| name == "requirepass" || name == "user")
    }

    pub(super) fn clustered(&self) -> bool {
        self.settings.iter().any(|(name, value)| name == "cluster-enabled" && value == "yes")
    }

    /// Writes the configuration file.
    pub(super) fn write(&self, server: &RedisServer) {
        let folder = server.home.path();
        let data = folder.join("data");
        fs::create_dir_all(&data).expect("a folder for data can be made");
        let port = server.port();
        let (plain, tls) = if self.tls { (0, port) } else { (port, 0) };
        let mut text = format!("bind 127.0.0.1\nprotected-mode no\nport {plain}\ndir {}\n", data.display());
        let mut line = |name: &str, value: &dyn Display| {
            let _ = writeln!(text, "{name} {value}");
        };
        line("unixsocket", &server.socket().display());
        if !self.sentinel {
            line("save", &"\"\"");
            line("repl-diskless-sync-delay", &0);
        }
        if let Some(certificates) = &server.certificates {
            line("tls-port", &tls);
            line("tls-ca-cert-file", &certificates.ca().display());
            line("tls-cert-file", &certificates.server_certificate().display());
            line("tls-key-file", &certificates.server_key().display());
        }
        if self.clustered() {
            line("cluster-port", &server.bus);
        }
        for (name, value) in &self.settings {
            line(name, value);
        }
        if self.guarded() {
            let [name, password] = CONTROL;
            line("user", &format_args!("{name} on >{password} ~* &* +@all"));
        }
        fs::write(folder.join("conf"), text).expect("a configuration can be written");
    }
}
