//! Where the servers are, and how to speak to them: by URL, by fields, or from the arguments of a region.

mod arguments;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mastaba::shared::connections::{AtStart, ConnectError, urls};

/// How to reach Redis or Valkey.
///
/// ```
/// use mastaba_redis::{RedisConfig, Servers};
///
/// let config = RedisConfig::from_url("redis://user:secret@localhost:6380/2?prefix=shop:").unwrap();
/// assert_eq!(config.servers, Servers::One("localhost".into(), 6380));
/// assert_eq!((config.database, config.prefix.as_str()), (2, "shop:"));
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where the servers are.
    pub servers: Servers,
    /// The user of the access control list; `None`: the default user.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<String>,
    /// The number of the database. A cluster has only 0.
    pub database: i64,
    /// What every key begins with, before the namespace of the cache.
    pub prefix: String,
    /// TLS, where it is wanted (`rediss://`).
    pub tls: Option<Tls>,
    /// The user at the sentinels.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels.
    pub sentinel_password: Option<String>,
    /// The longest that one attempt to connect may take, up to a day. Default: 2 s.
    pub connect_timeout: Duration,
    /// What to do when no server can be reached at start. Default: [`AtStart::Required`].
    pub at_start: AtStart,
    /// After the incarnation of the store has changed (a restart, a failover), store nothing for this long: a hold
    /// that the store has lost may still be relied upon. Default: `None`.
    pub quarantine: Option<Duration>,
    /// The most fills that may be under way. What comes beyond is not stored. Default: 1000 calls.
    pub max_fills: usize,
    /// The most bytes of fills that may be under way. What comes beyond is not stored. Default: 64 MiB.
    pub max_fill_bytes: u64,
    /// Whether the server notifies us of what others change (client-side tracking in broadcast mode): near needs it, and it
    /// shortens the wait for a fill by another process. Default: true.
    pub tell: bool,
}

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Servers {
    /// One server, by host and port.
    One(String, u16),
    /// One server, by its unix socket.
    Socket(PathBuf),
    /// Whichever server the sentinels name as the master.
    Sentinel {
        /// The sentinels, by host and port.
        sentinels: Vec<(String, u16)>,
        /// The name that the sentinels know the master by.
        master: String,
    },
    /// A cluster; some of its nodes, by host and port.
    Cluster(Vec<(String, u16)>),
}

/// How to speak TLS.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the authorities to trust; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// A PEM file with our own certificate.
    pub cert: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    pub key: Option<PathBuf>,
}

impl RedisConfig {
    /// The defaults, for these servers.
    #[must_use]
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            database: 0,
            prefix: String::new(),
            tls: None,
            sentinel_username: None,
            sentinel_password: None,
            connect_timeout: Duration::from_secs(2),
            at_start: AtStart::Required,
            quarantine: None,
            max_fills: 1000,
            max_fill_bytes: 64 << 20,
            tell: true,
        }
    }

    /// Reads a URL:
    ///
    /// | | |
    /// | --- | --- |
    /// | one server | `redis://[user[:password]@]host[:6379][/database]`, `valkey://` |
    /// | by its socket | `redis+unix:///path/to/socket`, `unix:///path/to/socket` |
    /// | sentinels | `redis-sentinel://host[:26379],host,../master[/database]` |
    /// | a cluster | `redis-cluster://host[:6379],host,..` |
    /// | TLS | `rediss://`, `rediss-sentinel://`, `rediss-cluster://` |
    ///
    /// After a `?`, the arguments of a region: `?prefix=shop:&tls_ca=/etc/ca.pem&at_start=optional`.
    ///
    /// # Errors
    /// [`ConnectError::is_config`], with what is wrong. Nothing is connected yet.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        url::parse(url)
    }

    /// What concerns more than one field.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let wrong = |sentence: &str| Err(ConnectError::config(sentence));
        match &self.servers {
            Servers::Cluster(nodes) if nodes.is_empty() => return wrong("a cluster needs at least one node"),
            Servers::Cluster(_) if self.database != 0 => return wrong("a cluster has only database 0"),
            Servers::Sentinel { sentinels, .. } if sentinels.is_empty() => {
                return wrong("at least one sentinel is needed");
            }
            Servers::Sentinel { master, .. } if master.is_empty() => {
                return wrong(
                    "sentinels need the name of the master: sentinel_master, or redis-sentinel://host:26379/master",
                );
            }
            Servers::Socket(_) if self.tls.is_some() => return wrong("there is no TLS over a unix socket"),
            _ => {}
        }
        if let Err(needed) = urls::check_connect_timeout(self.connect_timeout) {
            return wrong(needed);
        }
        if self.quarantine.is_some_and(|time| time.is_zero()) {
            return wrong("quarantine has to be above zero; to have none, leave it out");
        }
        if self.database < 0 {
            return wrong("the number of the database is 0 or more");
        }
        let several: &[(String, u16)] = match &self.servers {
            Servers::Sentinel { sentinels, .. } => sentinels,
            Servers::Cluster(nodes) => nodes,
            _ => &[],
        };
        let one = if let Servers::One(host, _) = &self.servers { Some(host) } else { None };
        if several.iter().map(|(host, _)| host).chain(one).any(|host| urls::is_no_host(host)) {
            return wrong("a host has no `@` and no `/`; a user goes into `username` and `password`");
        }
        let files = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten();
        if files.map(|path| path.display().to_string()).any(|path| !is_path(&path)) {
            return wrong(
                "tls_ca, tls_cert and tls_key are the paths of PEM files, and not what stands in them",
            );
        }
        if self.username.is_some() && self.password.is_none() {
            return wrong("there is a username and no password");
        }
        match &self.tls {
            Some(Tls { cert, key, .. }) if cert.is_some() != key.is_some() => {
                wrong("a client certificate needs both tls_cert and tls_key")
            }
            #[cfg(not(feature = "tls"))]
            Some(_) => wrong("this program was built without TLS: enable the feature `tls` of mastaba-redis"),
            _ => Ok(()),
        }
    }

    /// The servers, for people; no password is in it.
    pub(crate) fn place(&self) -> String {
        let list = |nodes: &[(String, u16)]| {
            nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(", ")
        };
        match &self.servers {
            Servers::One(host, port) => format!("redis at {host}:{port}"),
            Servers::Socket(path) => format!("redis at {}", path.display()),
            Servers::Sentinel { sentinels, master } => {
                format!("the master {master:?} of the sentinels {}", list(sentinels))
            }
            Servers::Cluster(nodes) => format!("the redis cluster {}", list(nodes)),
        }
    }
}

/// Whether a text is the path of a file, and not what stands in one: the text of a key, given in place of its path.
pub(crate) fn is_path(text: &str) -> bool {
    text.len() <= 255 && !text.contains("-----") && !text.contains('\n')
}

/// Without what is no path: it may be the key itself.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Option<PathBuf>| {
            let text = path.as_ref().map(|path| path.display().to_string());
            text.map(|text| if is_path(&text) { text } else { "***".to_owned() })
        };
        f.debug_struct("Tls")
            .field("ca", &shown(&self.ca))
            .field("cert", &shown(&self.cert))
            .field("key", &shown(&self.key))
            .finish()
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("RedisConfig")
            .field("servers", &self.servers)
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("database", &self.database)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls)
            .field("sentinel_username", &self.sentinel_username)
            .field("sentinel_password", &hidden(&self.sentinel_password))
            .field("at_start", &self.at_start)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_waited_is_refused_by_name() {
        let config = || RedisConfig::new(Servers::One("h".into(), 6379));
        for time in [Duration::ZERO, Duration::from_secs(u64::MAX), Duration::MAX] {
            let error = RedisConfig { connect_timeout: time, ..config() }.check().unwrap_err();
            assert!(error.is_config() && error.to_string().contains("connect_timeout"), "{error}");
        }
        let error = RedisConfig { quarantine: Some(Duration::ZERO), ..config() }.check().unwrap_err();
        assert!(error.to_string().contains("quarantine"), "{error}");
        for url in ["redis://h?connect_timeout=forever", "redis://h?connect_timeout=0"] {
            let error = RedisConfig::from_url(url).unwrap_err();
            assert!(error.to_string().contains("connect_timeout"), "{error}");
        }
        assert!(RedisConfig { quarantine: Some(Duration::MAX), ..config() }.check().is_ok());
    }

    #[test]
    fn neither_a_password_nor_a_key_that_was_put_in_the_wrong_place_is_shown() {
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
        let mut config = RedisConfig::new(Servers::One("h".into(), 6379));
        config.tls = Some(Tls { key: Some(key.into()), cert: Some("/c.pem".into()), ..Tls::default() });
        let error = config.check().unwrap_err();
        let shown = format!("{error} {error:?} {config:?}");
        assert!(shown.contains("the paths of PEM files") && shown.contains("/c.pem"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for servers in [
            Servers::One("u:hunter2@h".into(), 6379),
            Servers::Cluster(vec![("h".into(), 1), ("u:hunter2@h".into(), 1)]),
            Servers::Sentinel { sentinels: vec![("redis://:hunter2@h".into(), 1)], master: "m".into() },
        ] {
            let error = RedisConfig::new(servers).check().unwrap_err().to_string();
            assert!(error.contains("`username`") && !error.contains("hunter2"), "{error}");
        }
    }
}
