//! URLs of servers.

use mastaba::shared::connections::{ConnectError, urls};

use super::{ARGUMENTS, LACKS, MemcachedConfig, lacking};

const FORM: &str = "memcached://host:11211,host2:11211?prefix=shop:";
pub(super) const PORT: u16 = 11211;

pub(super) fn parse(text: &str) -> Result<MemcachedConfig, ConnectError> {
    // never with a piece of what stands before a `@`: it may be a password, though there is no place for one
    let wrong = |what: &str| ConnectError::config(format!("the memcached URL {what}; the form is {FORM}"));
    let (scheme, rest) = text.trim().split_once("://").ok_or_else(|| wrong("has no scheme"))?;
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
    let (hosts, query) = urls::split_query(rest);
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    if hosts.contains('/') {
        return Err(wrong("has a path, and there are no databases"));
    }
    let hosts = urls::hosts(hosts, PORT).map_err(|what| wrong(&what.without_text()))?;
    let mut config = MemcachedConfig::new(hosts);
    let known = |name: &str| ARGUMENTS.contains(&name) || LACKS.iter().any(|(lacks, _)| *lacks == name);
    urls::set_each("memcached", query, known, |name, value| config.set(name, value))?;
    config.check()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::AtStart;

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
