//! The arguments of a region, `cache.<region>.arguments.*`; most of them may also stand after the `?` of a URL.

use std::num::NonZeroU16;
use std::time::Duration;

use mastaba::shared::connections::urls;
use mastaba::{Arguments, BoxError};

use super::{RedisConfig, Servers};

/// Every argument, in the order in which they are listed. The first ones say where the servers are.
const ARGUMENTS: [&str; 23] = [
    "url",
    "host",
    "socket",
    "cluster",
    "sentinels",
    "port",
    "sentinel_master",
    "username",
    "password",
    "database",
    "prefix",
    "tls",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "sentinel_username",
    "sentinel_password",
    "connect_timeout",
    "at_start",
    "quarantine",
    "max_fills",
    "max_fill_bytes",
    "tell",
];

/// How many of them say where the servers are: one of these has to be given.
const PLACES: usize = 5;

impl RedisConfig {
    /// Reads the arguments of a region, `cache.<region>.arguments.*`.
    ///
    /// Where the servers are: `url`, or one of `host` (with `port`), `socket`, `cluster` (nodes with commas between
    /// them), `sentinels` (the same, with `sentinel_master`). Over it the fields of this type by their names, and
    /// `tls_ca`, `tls_cert`, `tls_key`.
    ///
    /// # Errors
    /// What is wrong with them, and what is unknown. No password is in it.
    pub fn from_arguments(mut arguments: Arguments) -> Result<Self, BoxError> {
        let mut given = Vec::new();
        for name in ARGUMENTS {
            if let Some(value) = arguments.take(name) {
                given.push((name, value));
            }
        }
        arguments.finish()?;
        let rest =
            given.split_off(given.iter().take_while(|(name, _)| ARGUMENTS[..PLACES].contains(name)).count());
        let mut config = match &given[..] {
            [(name, value)] => Self::at(name, value)?,
            [] => {
                return Err("redis needs the argument `url`, such as redis://localhost:6379, or one of host, socket, \
                            cluster, sentinels"
                    .into());
            }
            several => {
                let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
                return Err(format!("redis takes only one of the arguments {}", names.join(", ")).into());
            }
        };
        for (name, value) in rest {
            config.set(name, &value).map_err(|needed| {
                let shown = if name.contains("password") { "***" } else { shown(&value) };
                format!("arguments.{name} = {shown:?}: {needed}")
            })?;
        }
        config.check()?;
        Ok(config)
    }

    /// The defaults, for the servers that one argument names.
    fn at(name: &str, value: &str) -> Result<Self, BoxError> {
        let hosts = |default| {
            if value.contains('@') || value.contains("://") {
                let wrong = "it takes hosts alone; a user goes into `username` and `password`, and an address into `url`";
                return Err(format!("arguments.{name}: {wrong}"));
            }
            urls::hosts(value, default)
                .map_err(|what| format!("arguments.{name} = {value:?}: it {}", what.with_text()))
        };
        let servers = match name {
            "url" => return Ok(Self::from_url(value)?),
            "socket" => Servers::Socket(value.into()),
            "cluster" => Servers::Cluster(hosts(6379)?),
            "sentinels" => Servers::Sentinel { sentinels: hosts(26379)?, master: String::new() },
            _ => match &hosts(6379)?[..] {
                [(host, port)] => Servers::One(host.clone(), *port),
                _ => {
                    let wrong = "one host is needed; `cluster` and `sentinels` take several";
                    return Err(format!("arguments.{name} = {value:?}: {wrong}").into());
                }
            },
        };
        Ok(Self::new(servers))
    }

    /// Sets one argument. The error says what is needed.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || Ok::<_, String>(Some(value.to_owned()));
        match name {
            "username" => self.username = text()?,
            "password" => self.password = text()?,
            "sentinel_username" => self.sentinel_username = text()?,
            "sentinel_password" => self.sentinel_password = text()?,
            "prefix" => value.clone_into(&mut self.prefix),
            "database" => self.database = number(value)?,
            "max_fills" => self.max_fills = number(value)?,
            "max_fill_bytes" => self.max_fill_bytes = mastaba::Settings::parse_bytes(value)?,
            "connect_timeout" => self.connect_timeout = duration(value)?,
            "quarantine" => self.quarantine = Some(duration(value)?),
            "tell" => self.tell = flag(value)?,
            "tls" => self.tls = flag(value)?.then(|| self.tls.take().unwrap_or_default()),
            "tls_ca" => self.tls.get_or_insert_default().ca = Some(path(value)?),
            "tls_cert" => self.tls.get_or_insert_default().cert = Some(path(value)?),
            "tls_key" => self.tls.get_or_insert_default().key = Some(path(value)?),
            "at_start" => self.at_start = value.parse()?,
            "port" => match &mut self.servers {
                Servers::One(_, port) => *port = number::<NonZeroU16>(value)?.get(),
                _ => return Err("only `host` has a port beside it; others are written host:port".into()),
            },
            "sentinel_master" => {
                match &mut self.servers {
                    Servers::Sentinel { master, .. } => value.clone_into(master),
                    _ => return Err(
                        "only sentinels know a master by name: use `sentinels`, or a redis-sentinel:// URL"
                            .into(),
                    ),
                }
            }
            _ => return Err(urls::no_such_argument(&ARGUMENTS[PLACES..])),
        }
        Ok(())
    }
}

/// Whether there is an argument of this name.
pub(super) fn is_argument(name: &str) -> bool {
    ARGUMENTS.contains(&name)
}

/// The text of an argument, for a message; not one that has a password or a key in it.
fn shown(text: &str) -> &str {
    if text.contains('@') || text.contains("://") || !super::is_path(text) { "***" } else { text }
}

fn path(text: &str) -> Result<std::path::PathBuf, String> {
    match super::is_path(text) {
        true => Ok(text.into()),
        false => Err("the path of a PEM file is needed, and not what stands in it".to_owned()),
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.replace('_', "").parse().map_err(|_| "a whole number is needed".to_owned())
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "`true` or `false` is needed".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    match mastaba::Settings::parse_duration(text)? {
        Duration::ZERO => Err("a duration above zero is needed".to_owned()),
        duration => Ok(duration),
    }
}
