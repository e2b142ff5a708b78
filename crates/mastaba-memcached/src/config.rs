//! Where the servers are, and how to speak to them: by URL, by fields, or from the arguments of a region.

mod url;

use std::time::Duration;

use mastaba::shared::connections::{AtStart, ConnectError, urls};
use mastaba::{Arguments, BoxError};

/// What of a key is left for the prefix.
const LONGEST_PREFIX: usize = 50;

/// How to reach Memcached.
///
/// ```
/// use mastaba_memcached::MemcachedConfig;
///
/// let config = MemcachedConfig::from_url("memcached://one,two:11212?prefix=shop:").unwrap();
/// assert_eq!(config.servers, [("one".to_owned(), 11211), ("two".to_owned(), 11212)]);
/// assert_eq!(config.prefix, "shop:");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemcachedConfig {
    /// The servers, by host and port. Each key has its place on one of them, by their names as they are written here (their
    /// order does not matter): every process has to be given the same list.
    pub servers: Vec<(String, u16)>,
    /// What every key begins with, before the namespace of the cache. At most 50 letters, digits and signs.
    pub prefix: String,
    /// The longest that one attempt to connect may take, up to a day. Default: 2 s.
    pub connect_timeout: Duration,
    /// What to do when a server cannot be reached at start. Default: [`AtStart::Required`].
    pub at_start: AtStart,
    /// The most bytes of fills that may be under way. What comes beyond is not stored. Default: 64 MiB.
    pub max_fill_bytes: u64,
}

/// Every argument but the two that say where the servers are.
const ARGUMENTS: [&str; 4] = ["prefix", "connect_timeout", "at_start", "max_fill_bytes"];

/// What some clients have and this one does not, and what to do.
const LACKS: [(&str, &str); 5] = [
    ("tls", "TLS"),
    ("tls_ca", "TLS"),
    ("username", "passwords (SASL, or an authentication file)"),
    ("password", "passwords (SASL, or an authentication file)"),
    ("socket", "unix sockets"),
];

impl MemcachedConfig {
    /// The defaults, for these servers.
    #[must_use]
    pub fn new(servers: impl IntoIterator<Item = (String, u16)>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            prefix: String::new(),
            connect_timeout: Duration::from_secs(2),
            at_start: AtStart::Required,
            max_fill_bytes: 64 << 20,
        }
    }

    /// Reads a URL: `memcached://host[:11211],host,..`, and after a `?` the arguments of a region:
    /// `?prefix=shop:&at_start=optional`. `memcache://` is the same.
    ///
    /// # Errors
    /// [`ConnectError::is_config`], with what is wrong. Nothing is connected yet.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        url::parse(url)
    }

    /// Reads the arguments of a region, `cache.<region>.arguments.*`.
    ///
    /// Where the servers are: `url`, or `servers` (`host:port` with commas between them). Over it the fields of this type by
    /// their names.
    ///
    /// # Errors
    /// What is wrong with them, and what is unknown.
    pub fn from_arguments(mut arguments: Arguments) -> Result<Self, BoxError> {
        let mut config = match (arguments.take("url"), arguments.take("servers")) {
            (Some(url), None) => Self::from_url(&url)?,
            (None, Some(servers)) => {
                // there may be a password in it
                if servers.contains('@') || servers.contains("://") {
                    let wrong =
                        "it takes hosts alone; this client has no passwords, and an address goes into `url`";
                    return Err(format!("arguments.servers: {wrong}").into());
                }
                let wrong = |what: urls::WrongHosts| {
                    format!("arguments.servers = {servers:?}: it {}", what.without_text())
                };
                Self::new(urls::hosts(&servers, url::PORT).map_err(wrong)?)
            }
            (Some(_), Some(_)) => return Err("memcached takes only one of the arguments url, servers".into()),
            (None, None) => {
                return Err(
                    "memcached needs the argument `url`, such as memcached://localhost:11211, or `servers`"
                        .into(),
                );
            }
        };
        for name in ARGUMENTS {
            if let Some(value) = arguments.take(name) {
                config
                    .set(name, &value)
                    .map_err(|needed| format!("arguments.{name} = {value:?}: {needed}"))?;
            }
        }
        if let Err(unknown) = arguments.finish() {
            let lacks = LACKS.iter().find(|(name, _)| arguments.take(name).is_some());
            return Err(lacks.map_or(unknown, |(name, _)| {
                format!("arguments.{name}: {}", lacking(name).unwrap_or_default()).into()
            }));
        }
        config.check()?;
        Ok(config)
    }

    /// Sets one argument. The error says what is needed.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "prefix" => value.clone_into(&mut self.prefix),
            "max_fill_bytes" => self.max_fill_bytes = mastaba::Settings::parse_bytes(value)?,
            "connect_timeout" => self.connect_timeout = mastaba::Settings::parse_duration(value)?,
            "at_start" => self.at_start = value.parse()?,
            _ => {
                return Err(lacking(name).unwrap_or_else(|| urls::no_such_argument(&ARGUMENTS)));
            }
        }
        Ok(())
    }

    /// Where the servers are, in words.
    pub(crate) fn place(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        match &names[..] {
            [one] => format!("memcached at {one}"),
            several => format!("the memcached servers {}", several.join(", ")),
        }
    }

    /// What is wrong with the fields.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let wrong = |sentence: String| Err(ConnectError::config(sentence));
        if self.servers.is_empty() {
            return wrong("memcached: at least one server is needed".to_owned());
        }
        for (at, (host, port)) in self.servers.iter().enumerate() {
            if urls::is_no_host(host) {
                return wrong(format!(
                    "memcached: a host has no `@` and no `/`; {}",
                    lacking("password").unwrap_or_default()
                ));
            }
            if *port == 0 {
                return wrong(format!(
                    "memcached: {host} has the port 0, and a number from 1 to 65535 is needed"
                ));
            }
            if self.servers[..at].contains(&self.servers[at]) {
                return wrong(format!("memcached: {host}:{port} is given twice"));
            }
        }
        if self.prefix.len() > LONGEST_PREFIX || self.prefix.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return wrong(format!(
                "memcached: prefix = {:?}: at most {LONGEST_PREFIX} letters, digits and signs are needed, and no spaces",
                self.prefix
            ));
        }
        if let Err(needed) = urls::check_connect_timeout(self.connect_timeout) {
            return wrong(format!("memcached: {needed}"));
        }
        Ok(())
    }
}

/// Whether an argument, or a scheme, is one for what this client cannot do.
fn lacking(name: &str) -> Option<String> {
    let (_, what) = LACKS.iter().find(|(lacks, _)| *lacks == name)?;
    Some(format!(
        "this client has no {what}: let the server listen without, in a network of its own or behind a tunnel, or use \
         redis (mastaba-redis)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MemcachedConfig {
        MemcachedConfig::new([("h".to_owned(), 11211)])
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        let none = MemcachedConfig::new([]);
        let with_user = MemcachedConfig::new([("u:p@h".to_owned(), 1)]);
        let twice = MemcachedConfig::new([("h".to_owned(), 1), ("i".to_owned(), 1), ("h".to_owned(), 1)]);
        for (config, part) in [
            (none, "at least one server"),
            (with_user, "no `@`"),
            (twice, "h:1 is given twice"),
            (MemcachedConfig { servers: vec![("h".into(), 0)], ..config() }, "port 0"),
            (MemcachedConfig { prefix: "a b".into(), ..config() }, "no spaces"),
            (MemcachedConfig { prefix: "x".repeat(51), ..config() }, "at most 50"),
            (MemcachedConfig { connect_timeout: Duration::ZERO, ..config() }, "connect_timeout"),
            (MemcachedConfig { connect_timeout: Duration::MAX, ..config() }, "connect_timeout"),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.is_config() && error.to_string().contains(part), "{error}");
        }
        assert!(config().check().is_ok());
    }

    #[test]
    fn what_this_client_lacks_is_said_and_not_ignored() {
        for (url, part) in [
            ("memcacheds://h", "no TLS"),
            ("memcached://h?tls=true", "no TLS"),
            ("memcached://u:secret@h", "no passwords"),
            ("memcached://h?password=secret", "no passwords"),
            ("memcached+unix:///run/socket", "no unix sockets"),
        ] {
            let error = MemcachedConfig::from_url(url).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(part), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
