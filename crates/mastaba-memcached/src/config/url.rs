//! URLs of servers.

use percent_encoding::percent_decode_str;

use super::{ARGUMENTS, LACKS, MemcachedConfig, lacking};
use crate::error::ConnectError;

const FORM: &str = "memcached://host:11211,host2:11211?prefix=shop:";
const PORT: u16 = 11211;

pub(super) fn parse(url: &str) -> Result<MemcachedConfig, ConnectError> {
    // never with a piece of what stands before a `@`: it may be a password, though there is no place for one
    let wrong = |what: &str| ConnectError::config(format!("the memcached URL {what}; the form is {FORM}"));
    let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| wrong("has no scheme"))?;
    let cannot =
        |name: &str| wrong(&format!("asks for what there is not: {}", lacking(name).unwrap_or_default()));
    match scheme.to_ascii_lowercase().as_str() {
        "memcached" | "memcache" => {}
        "memcacheds" | "memcaches" | "memcached+tls" => return Err(cannot("tls")),
        "unix" | "memcached+unix" | "memcache+unix" => return Err(cannot("socket")),
        _ => return Err(wrong("has a scheme that is none of ours")),
    }
    if rest.contains('@') {
        return Err(cannot("password"));
    }
    let (hosts, query) = rest.split_once('?').map_or((rest, None), |(hosts, query)| (hosts, Some(query)));
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    if hosts.contains('/') {
        return Err(wrong("has a path, and there are no databases"));
    }
    let mut config = MemcachedConfig::new(self::hosts(hosts).map_err(|what| wrong(&what))?);
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        decode(value).and_then(|value| config.set(name, &value)).map_err(|needed| {
            let known = ARGUMENTS.contains(&name) || LACKS.iter().any(|(lacks, _)| *lacks == name);
            let shown = if known { format!("{name:?}") } else { "an argument".to_owned() };
            ConnectError::config(format!("the memcached URL has {shown} after the `?`: {needed}"))
        })?;
    }
    config.check()?;
    Ok(config)
}

/// Hosts with commas between them. The error goes on a sentence: "the URL ..".
pub(super) fn hosts(text: &str) -> Result<Vec<(String, u16)>, String> {
    text.split(',').map(|host| address(host.trim())).collect()
}

fn address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("has an IPv6 address without its `]`")?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    let none = "has a port that is none: a number from 1 to 65535 is needed";
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(none)?,
    };
    Ok((decode(host)?, port))
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
    decoded.map_err(|_| "has percent signs that stand for no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::AtStart;

    #[test]
    fn hosts_and_arguments_are_read() {
        let config = parse(
            "memcached://a,b:7,[::1]:8/?prefix=x%3A&at_start=optional&connect_timeout=1s&max_fill_bytes=1MiB",
        )
        .unwrap();
        let host = |name: &str, port| (name.to_owned(), port);
        assert_eq!(config.servers, [host("a", 11211), host("b", 7), host("::1", 8)]);
        assert_eq!((config.prefix.as_str(), config.at_start), ("x:", AtStart::Optional));
        assert_eq!((config.connect_timeout, config.max_fill_bytes), (Duration::from_secs(1), 1 << 20));
        assert_eq!(parse("memcache://h").unwrap(), MemcachedConfig::new([host("h", 11211)]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (url, part) in [
            ("localhost:11211", "no scheme"),
            ("redis://h", "none of ours"),
            ("memcached://", "names no host"),
            ("memcached://h:0", "a port that is none"),
            ("memcached://h:http", "a port that is none"),
            ("memcached://h/0", "no databases"),
            ("memcached://[::1", "without its `]`"),
            ("memcached://h,h", "given twice"),
            ("memcached://h?colour=red", "no such argument"),
            ("memcached://h?connect_timeout=soon", "duration"),
            ("memcached://h?at_start=maybe", "`required` or `optional`"),
            ("memcached://%ff", "UTF-8"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(part), "{url}: {error}");
        }
    }
}
