//! What a server shall be like.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::RedisServer;

/// The name and the password of the user by whom [`RedisServer::command`] gets in where others need a password.
pub(super) const CONTROL: [&str; 2] = ["mastaba-control", "control"];

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
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    pub(super) password: Option<String>,
    pub(super) sentinel: bool,
}

impl RedisBuilder {
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

    /// Starts it, which takes a few milliseconds. `None` when no server is installed: see
    /// [`missing`](super::super::missing).
    ///
    /// # Panics
    ///
    /// When it does not start or does not answer.
    pub async fn start(self) -> Option<RedisServer> {
        RedisServer::launch(self).await
    }

    pub(super) fn guarded(&self) -> bool {
        self.settings.iter().any(|(name, _)| name == "requirepass" || name == "user")
    }

    pub(super) fn clustered(&self) -> bool {
        self.settings.iter().any(|(name, value)| name == "cluster-enabled" && value == "yes")
    }

    /// Writes the configuration file. `bus` is where the nodes of a cluster talk to each other.
    pub(super) fn write(&self, folder: &Path, port: u16, bus: u16) {
        let data = folder.join("data");
        fs::create_dir_all(&data).expect("a folder for data can be made");
        let mut text = format!("bind 127.0.0.1\nprotected-mode no\nport {port}\ndir {}\n", data.display());
        let _ = writeln!(text, "unixsocket {}\nloglevel notice", folder.join("socket").display());
        if !self.sentinel {
            text.push_str("save \"\"\nappendonly no\n");
        }
        if self.clustered() {
            let _ = writeln!(text, "cluster-port {bus}");
        }
        for (name, value) in &self.settings {
            let _ = writeln!(text, "{name} {value}");
        }
        if self.guarded() {
            let [name, password] = CONTROL;
            let _ = writeln!(text, "user {name} on >{password} ~* &* +@all");
        }
        fs::write(folder.join("conf"), text).expect("a configuration can be written");
    }
}
