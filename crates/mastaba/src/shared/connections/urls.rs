//! Reads the parts that the URLs of servers have in common: hosts, what is percent encoded, and the arguments after the `?`.
//!
//! A sentence about a URL has no piece of it, unless that is a name that is known. Where a password was written raw, a `@`, `:`,
//! `/` or `?` in it moves the borders, and what is taken for a host, a port or the name of an argument is a part of the password.
//!
//! ```
//! use mastaba::shared::connections::urls;
//!
//! let hosts = urls::hosts("one,[::1]:7", 6379).unwrap();
//! assert_eq!(hosts, [("one".to_owned(), 6379), ("::1".to_owned(), 7)]);
//! let told = urls::hosts("user:secret", 6379).unwrap_err().without_text();
//! assert!(!format!("{:?}", urls::hosts("user:secret", 6379)).contains("secret"));
//! assert_eq!(told, "has a port that is none: a number from 1 to 65535 is needed");
//! ```

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::ConnectError;

/// A server that does not answer within a day is not waited for; and twice as long is within the reach of every clock.
const LONGEST_TO_CONNECT: Duration = Duration::from_secs(24 * 60 * 60);

/// What is wrong with hosts. As `Debug` it shows no piece of them, which may be a part of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct WrongHosts(Wrong);

impl fmt::Debug for WrongHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WrongHosts").field(&self.clone().without_text()).finish()
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Wrong {
    What(String),
    Port(String),
}

impl WrongHosts {
    /// For a text that may be a part of a password. It goes on a sentence: "the URL ..".
    #[must_use]
    pub fn without_text(self) -> String {
        match self.0 {
            Wrong::Port(_) => "has a port that is none: a number from 1 to 65535 is needed".to_owned(),
            Wrong::What(what) => what,
        }
    }

    /// With the port that is none, for a text that is hosts alone.
    #[must_use]
    pub fn with_text(self) -> String {
        match self.0 {
            Wrong::Port(port) => format!("has the port {port:?}, which is none"),
            Wrong::What(what) => what,
        }
    }
}

/// Hosts with commas between them, each with its port or this one.
///
/// # Errors
/// One of them has no name, or a port that is none, or is not encoded as it has to be.
pub fn hosts(text: &str, default: u16) -> Result<Vec<(String, u16)>, WrongHosts> {
    text.split(',').map(|host| address(host.trim(), default).map_err(WrongHosts)).collect()
}

fn address(text: &str, default: u16) -> Result<(String, u16), Wrong> {
    let what = |what: &str| Wrong::What(what.to_owned());
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| what("has an IPv6 address without its `]`"))?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(what("names no host"));
    }
    let none = |port: &str| Wrong::Port(port.to_owned());
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| none(port))?,
    };
    Ok((decode(host).map_err(Wrong::What)?, port))
}

/// Whether a host, given by itself, is more than a host: a user stands before it, or a path behind.
#[must_use]
pub fn is_no_host(host: &str) -> bool {
    host.contains('@') || host.contains('/')
}

/// The text that percent signs stand for.
///
/// # Errors
/// They stand for none. It goes on a sentence: "the URL ..".
pub fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| "has percent signs that stand for no UTF-8".to_owned())
}

/// Takes off what stands after the `?`.
#[must_use]
pub fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(rest, query)| (rest, Some(query)))
}

/// Sets each argument after the `?`, decoded; one without a value is `true`. `set` says what is needed.
///
/// # Errors
/// [`ConnectError::is_config`]: the first that cannot be set. Its name is told where it `is_known`: one that is says nothing of a
/// password. `what` is what the URL is of: `redis`.
pub fn set_each(
    what: &str,
    query: Option<&str>,
    is_known: impl Fn(&str) -> bool,
    mut set: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), ConnectError> {
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        decode(value).and_then(|value| set(name, &value)).map_err(|needed| {
            let shown = if is_known(name) { format!("{name:?}") } else { "an argument".to_owned() };
            ConnectError::config(format!("the {what} URL has {shown} after the `?`: {needed}"))
        })?;
    }
    Ok(())
}

/// What is said of an argument that there is not.
#[must_use]
pub fn no_such_argument(there_are: &[&str]) -> String {
    format!("there is no such argument; there are: {}", there_are.join(", "))
}

/// Whether so long an attempt to connect can be waited for.
///
/// # Errors
/// What is needed.
pub fn check_connect_timeout(time: Duration) -> Result<(), &'static str> {
    if time.is_zero() || time > LONGEST_TO_CONNECT {
        return Err("connect_timeout has to be above zero, and at most a day");
    }
    Ok(())
}
