//! URLs of servers: the one notation for a single server, a socket, sentinels and a cluster.

use mastaba::shared::connections::ConnectError;
use mastaba::shared::connections::urls::{self, decode};

use super::arguments::is_argument;
use super::{RedisConfig, Servers, Tls};

const FORMS: &str = "redis://host:6379/0, redis+unix:///path, redis-sentinel://host:26379/master, \
                     redis-cluster://host:6379,host:6380; with TLS rediss://, rediss-sentinel://, rediss-cluster://";

pub(super) fn parse(text: &str) -> Result<RedisConfig, ConnectError> {
    // never with a piece of the URL in a sentence: see the module `urls`
    let wrong = |what: String| ConnectError::config(format!("the redis URL {what}; valid forms: {FORMS}"));
    let (scheme, rest) = text.trim().split_once("://").ok_or_else(|| wrong("has no scheme".to_owned()))?;
    let (rest, query) = urls::split_query(rest);
    let scheme = scheme.to_ascii_lowercase().replace("valkey", "redis");
    let hidden = |text: &str| text.contains('@') && scheme_has_hosts(&scheme);
    let authority = rest.split('/').next().unwrap_or_default();
    let after = &rest[authority.len()..];
    if hidden(after)
        || !authority.contains('@') && query.is_some_and(|query| hidden(query) && !is_named(query))
    {
        return Err(wrong(
            "has a `/` or a `?` before its `@`; in a name or a password they are written %2F and %3F"
                .to_owned(),
        ));
    }
    let mut config = if let "unix" | "redis+unix" = scheme.as_str() {
        let path = decode(rest).map_err(wrong)?;
        if path.is_empty() {
            return Err(wrong("names no socket".to_owned()));
        }
        RedisConfig::new(Servers::Socket(path.into()))
    } else {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(user, it)| (Some(user), it));
        let default = if scheme.ends_with("-sentinel") { 26379 } else { 6379 };
        let hosts = urls::hosts(hosts, default).map_err(|what| wrong(what.without_text()))?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let servers = match scheme.strip_prefix("rediss").or(scheme.strip_prefix("redis")) {
            Some("") => match &hosts[..] {
                [(host, port)] => Servers::One(host.clone(), *port),
                _ => {
                    return Err(wrong(
                        "names several hosts, which only sentinels and clusters have".to_owned(),
                    ));
                }
            },
            Some("-cluster") => Servers::Cluster(hosts),
            Some("-sentinel") => {
                let master = parts.next().ok_or_else(|| wrong("does not name the master".to_owned()))?;
                Servers::Sentinel { sentinels: hosts, master: decode(master).map_err(wrong)? }
            }
            _ if is_word(&scheme) => {
                return Err(wrong(format!("has the scheme {scheme:?}, which is none of ours")));
            }
            _ => return Err(wrong("has a scheme that is none of ours".to_owned())),
        };
        let mut config = RedisConfig::new(servers);
        if scheme.starts_with("rediss") {
            config.tls = Some(Tls::default());
        }
        if let Some(user) = user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let given = |text: &str| Ok((!text.is_empty()).then_some(decode(text)?));
            config.username = given(name).map_err(wrong)?;
            config.password = given(password).map_err(wrong)?;
        }
        if let Some(database) = parts.next() {
            config.database =
                database.parse().map_err(|_| wrong("has a database that is no number".to_owned()))?;
        }
        if parts.next().is_some() {
            return Err(wrong("has a longer path than it may have".to_owned()));
        }
        config
    };
    urls::set_each("redis", query, is_argument, |name, value| config.set(name, value))?;
    config.check()?;
    Ok(config)
}

fn scheme_has_hosts(scheme: &str) -> bool {
    !matches!(scheme, "unix" | "redis+unix")
}

/// Whether all that stands after the `?` has a name as arguments have them.
fn is_named(query: &str) -> bool {
    let named = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    query.split('&').all(named)
}

/// As schemes are written.
fn is_word(text: &str) -> bool {
    text.len() <= 20 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> Servers {
        parse(url).unwrap().servers
    }

    #[test]
    fn every_form_is_read() {
        let host = |name: &str, port| (name.to_owned(), port);
        assert_eq!(servers("redis://h"), Servers::One("h".into(), 6379));
        assert_eq!(servers("valkey://h:1"), Servers::One("h".into(), 1));
        assert_eq!(servers("redis://[::1]:7/3"), Servers::One("::1".into(), 7));
        assert_eq!(servers("unix:///run/redis.sock"), Servers::Socket("/run/redis.sock".into()));
        assert_eq!(servers("redis-cluster://a,b:7"), Servers::Cluster(vec![host("a", 6379), host("b", 7)]));
        let sentinels = vec![host("a", 26379), host("b", 5)];
        assert_eq!(
            servers("redis-sentinel://a,b:5/mymaster/2"),
            Servers::Sentinel { sentinels, master: "mymaster".into() }
        );
    }

    #[test]
    fn credentials_database_and_arguments_are_read_and_decoded() {
        let config =
            parse("rediss://us%40er:p%3Aw@h/4?prefix=a%3A&tls_ca=/ca.pem&at_start=optional").unwrap();
        assert_eq!(config.username.as_deref(), Some("us@er"));
        assert_eq!(config.password.as_deref(), Some("p:w"));
        assert_eq!((config.database, config.prefix.as_str()), (4, "a:"));
        assert_eq!(config.tls.unwrap().ca, Some("/ca.pem".into()));
        let config = parse("redis://:secret@h").unwrap();
        assert_eq!((config.username, config.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (url, part) in [
            ("localhost:6379", "no scheme"),
            ("http://u:secret@h", "scheme \"http\""),
            ("redis://u:secret@", "names no host"),
            ("redis://u:secret@h:0", "a port that is none"),
            ("redis://u:secret@h:http", "a port that is none"),
            ("redis://u:secret@h/first", "no number"),
            ("redis://u:secret@h/1/2", "longer path"),
            ("redis://u:secret@a,b", "several hosts"),
            ("redis-sentinel://u:secret@h", "does not name the master"),
            ("redis-cluster://u:secret@h/1", "only database 0"),
            ("redis://u:secret@h?colour=red", "no such argument"),
            ("redis://u:secret@h?quarantine=soon", "duration"),
            ("redis://user@h", "no password"),
            ("rediss://u:secret@h?tls_cert=/c", "both tls_cert and tls_key"),
            ("redis://u:sec/secret@h", "%2F"),
            ("redis://u:secret/x@h/0", "%2F"),
            ("redis://u:6379?secret@h", "%3F"),
            ("redis://u:secret?x@h", "%3F"),
            ("redis+unix://", "names no socket"),
            ("redis://%ff@h", "UTF-8"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(part), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_piece_of_a_raw_password_is_told_wherever_it_lands() {
        let schemes = [
            "redis",
            "rediss",
            "redis-cluster",
            "rediss-cluster",
            "redis-sentinel",
            "rediss-sentinel",
            "valkey",
        ];
        // each of these puts HUNTER somewhere else: a port, a host, a path, a database, the name of an argument
        let raw = [
            ":a@b:HUNTER?x@h",
            ":a@b:HUNTER?x=1@h",
            ":a@HUNTER:x@h:y",
            ":p@ss:HUNTER/1@h",
            ":a@b/HUNTER",
            ":a@b/m/HUNTER",
            ":a@b/m/1/HUNTER",
            ":a@b?HUNTER",
            ":a@b?HUNTER=1",
            ":a@b?x=HUNTER",
            ":HUNTER",
            "u:HUNTER",
            "u:HUNTER@",
            "u:HUNTER@:1",
            ":HUNTER?x@h",
            ":%ffHUNTER@h",
            ":a@[HUNTER",
            ":a@[::1]HUNTER:x",
            "u:x@a,u:HUNTER@b:y",
            "a:HUNTER,b:x",
            ":a@h?password=%ffHUNTER",
            ":a@h?tls_key=-----BEGIN%20HUNTER",
            ":a@h?sentinel_password=HUNTER&database=x",
            ":a@h?quarantine=HUNTER",
            ":a@h?at_start=HUNTER",
            ":a@h?max_fills=HUNTER",
        ];
        let mut wrong = 0;
        for scheme in schemes {
            for rest in raw {
                if let Err(error) = parse(&format!("{scheme}://{rest}")) {
                    wrong += 1;
                    let told = format!("{error} {error:?}");
                    assert!(!told.to_uppercase().contains("HUNTER"), "{scheme}://{rest}: {told}");
                }
            }
        }
        assert!(wrong > schemes.len() * 20, "most of these are wrong, and {wrong} were told");
        for url in ["u:HUNTER@redis://h", "HUNTER@h", "HUNTER://h", "u:HUNTER://h"] {
            let told = parse(url).unwrap_err().to_string();
            // a word alone before :// is a scheme, and no password
            assert!(!told.to_uppercase().contains("HUNTER") || url == "HUNTER://h", "{url}: {told}");
        }
    }
}
