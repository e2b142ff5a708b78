//! One server by every form of configuration that a cache takes.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use mastaba::{Arguments, Cache, CacheBuilder, Region};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::RedisServer;

use super::support::{Number, limit};

/// Where the test that is its own child process finds the port, and what its settings begin with.
const PORT: &str = "CONFIGURED_PORT";
const ENV: &str = "CONFIGURED_BY_";

/// The form that has no arguments.
const READY: &str = "a backend that is connected";

const RULES: &str = "on >secret ~shop:mastaba:* +@all";

/// By fields; by URL they are the same.
fn fields(port: u16) -> BTreeMap<String, String> {
    let port = port.to_string();
    let fields = [
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("username", "cache"),
        ("password", "secret"),
        ("database", "3"),
        ("prefix", "shop:"),
        ("connect_timeout", "3s"),
        ("max_fills", "10"),
        ("max_fill_bytes", "1MiB"),
        ("quarantine", "5s"),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn url(port: u16) -> String {
    format!(
        "redis://cache:secret@127.0.0.1:{port}/3?prefix=shop:&connect_timeout=3s&max_fills=10&max_fill_bytes=1MiB\
         &quarantine=5s"
    )
}

/// What this cache stores is in the database and under the prefix that it was told of.
async fn assert_reaches(form: &str, port: u16, server: Option<&RedisServer>, builder: CacheBuilder) {
    let seen: Arc<Mutex<Option<RedisConfig>>> = Arc::default();
    let understood = seen.clone();
    let open = move |arguments: Arguments| {
        let config = RedisConfig::from_arguments(arguments.clone());
        *understood.lock().unwrap() = config.ok();
        mastaba_redis::open(arguments)
    };
    let cache = builder.backend("redis", open).source(Number::default()).build().await;
    let cache = cache.unwrap_or_else(|error| panic!("{form}: {error}"));
    assert_eq!(*cache.request().get::<Number>(5).await.unwrap().unwrap(), 50, "{form}");
    cache.close().await.unwrap();
    if let Some(config) = seen.lock().unwrap().take() {
        assert_eq!(config, RedisConfig::from_url(&url(port)).unwrap(), "{form}");
    } else {
        assert_eq!(form, READY);
    }
    let Some(server) = server else { return };
    let keyspace = server.command(&["INFO", "keyspace"]).await;
    assert!(keyspace.contains("db3:") && !keyspace.contains("db0:"), "{form}: {keyspace}");
    assert_eq!(server.command(&["FLUSHALL"]).await, "OK");
}

#[tokio::test]
async fn every_form_reaches_the_same_server_with_the_same_options() {
    limit(async {
        let Some(server) = RedisServer::builder().user("cache", RULES).start().await else { return };
        let (port, reached) = (server.port(), Some(&server));
        let arguments = fields(port);
        let by_url = BTreeMap::from([("url".to_owned(), url(port))]);

        let lines: Vec<_> = arguments.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        let head = "[cache.objects]\nbackend = \"redis\"\n[cache.objects.arguments]\n";
        assert_reaches(
            "toml, fields",
            port,
            reached,
            Cache::from_toml(&format!("{head}{}", lines.join("\n"))),
        )
        .await;
        assert_reaches("toml, url", port, reached, Cache::from_toml(&format!("{head}url = {:?}", url(port))))
            .await;
        for (form, given) in [("fields", &arguments), ("url", &by_url)] {
            let mut map: BTreeMap<_, _> = given
                .iter()
                .map(|(name, value)| (format!("cache.objects.arguments.{name}"), value.clone()))
                .collect();
            map.insert("cache.objects.backend".into(), "redis".into());
            assert_reaches(&format!("map, {form}"), port, reached, Cache::from_settings(&map)).await;
            let named = Region::named("redis", given.clone());
            assert_reaches(
                &format!("named, {form}"),
                port,
                reached,
                Cache::builder().region("objects", named),
            )
            .await;
        }
        let redis = Redis::connect(RedisConfig::from_url(&url(port)).unwrap()).await.unwrap();
        let ready = Cache::builder().region("objects", Region::backend(redis));
        assert_reaches(READY, port, reached, ready).await;

        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "configuration::the_environment_reaches_it", "--nocapture"])
            .env(PORT, port.to_string())
            .env(format!("{ENV}CACHE__OBJECTS__BACKEND"), "redis")
            .envs(arguments.iter().map(|(name, value)| {
                (format!("{ENV}CACHE__OBJECTS__ARGUMENTS__{}", name.to_uppercase()), value)
            }))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("1 passed"), "with another name nothing would run: {said}");
        let keyspace = server.command(&["INFO", "keyspace"]).await;
        assert!(keyspace.contains("db3:") && !keyspace.contains("db0:"), "{keyspace}");
    })
    .await;
}

/// With settings in the environment, as the child process of the test above; without them nothing is set.
#[tokio::test]
async fn the_environment_reaches_it() {
    limit(async {
        if let Ok(port) = std::env::var(PORT) {
            assert_reaches("the environment", port.parse().unwrap(), None, Cache::from_env(ENV)).await;
        } else {
            let settings = mastaba::Settings::from_env(ENV).unwrap();
            assert!(settings.regions.is_empty());
        }
    })
    .await;
}

async fn told(arguments: &[(&str, &str)]) -> String {
    let mut map: BTreeMap<_, _> =
        arguments.iter().map(|(name, value)| (format!("cache.objects.arguments.{name}"), *value)).collect();
    map.insert("cache.objects.backend".into(), "redis");
    let cache = Cache::from_settings(&map).backend("redis", mastaba_redis::open).build().await;
    let error = cache.map(drop).unwrap_err();
    assert!(error.is_config(), "{error}");
    format!("{error} {error:?}")
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_would_be_right() {
    limit(async {
        let host = ("host", "localhost");
        let cases: &[(&[(&str, &str)], &[&str])] = &[
            (&[], &["`url`", "redis://localhost:6379", "host, socket, cluster, sentinels"]),
            (&[host, ("url", "redis://:secret@h")], &["only one of", "url, host"]),
            (&[host, ("colour", "red")], &["unknown argument colour", "there are: url, host", "tell"]),
            (&[("host", "a,b")], &["host = \"a,b\"", "one host", "`cluster`"]),
            (&[("host", "a:b")], &["host = \"a:b\"", "port \"b\""]),
            (&[host, ("port", "0")], &["port = \"0\"", "whole number"]),
            (&[("cluster", "a,b"), ("port", "7")], &["port = \"7\"", "only `host`"]),
            (&[("cluster", "a,,b")], &["cluster = \"a,,b\"", "names no host"]),
            (&[("cluster", "a"), ("database", "1")], &["only database 0"]),
            (&[("sentinels", "a,b")], &["sentinel_master"]),
            (&[host, ("sentinel_master", "m")], &["sentinel_master = \"m\"", "`sentinels`"]),
            (&[host, ("database", "first")], &["database = \"first\"", "whole number"]),
            (&[host, ("tls", "yes")], &["tls = \"yes\"", "`true` or `false`"]),
            (&[host, ("tell", "never")], &["tell = \"never\"", "`true` or `false`"]),
            (&[host, ("at_start", "maybe")], &["at_start = \"maybe\"", "`required` or `optional`"]),
            (&[host, ("connect_timeout", "0s")], &["connect_timeout = \"0s\"", "above zero"]),
            (&[host, ("quarantine", "soon")], &["quarantine = \"soon\"", "250ms"]),
            (&[host, ("max_fills", "many")], &["max_fills = \"many\"", "whole number"]),
            (&[host, ("max_fill_bytes", "many")], &["max_fill_bytes = \"many\"", "64MiB"]),
            (&[host, ("username", "u")], &["username and no password"]),
            (&[host, ("tls_key", "/k"), ("password", "secret")], &["both tls_cert and tls_key"]),
            (&[("socket", "/s"), ("tls", "true")], &["no TLS over a unix socket"]),
            (&[("url", "redis://u:secret@h?at_start=never")], &["at_start", "`required` or `optional`"]),
            (&[("url", "redis://u:se/secret@h")], &["%2F"]),
            (&[("url", "redis://:a@b:secret?x@h")], &["a port that is none"]),
            (&[("host", "u:secret@h")], &["arguments.host", "`username`"]),
            (&[("cluster", "h,u:secret@h")], &["arguments.cluster", "`username`"]),
            (&[("sentinels", "redis://:secret@h")], &["arguments.sentinels", "`url`"]),
            (
                &[host, ("tls_key", "-----BEGIN PRIVATE KEY-----\nsecret")],
                &["tls_key", "the path of a PEM file"],
            ),
            (&[host, ("database", "redis://:secret@h")], &["database", "whole number"]),
        ];
        for (arguments, parts) in cases {
            let told = told(arguments).await;
            for part in *parts {
                assert!(told.contains(part), "{arguments:?}: no {part:?} in {told}");
            }
            assert!(!told.contains("secret"), "{told}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_program_that_did_not_register_the_backend_is_told_how() {
    let cache = Cache::from_settings([
        ("cache.objects.backend", "redis"),
        ("cache.objects.arguments.url", "redis://:secret@h"),
    ]);
    let error = cache.build().await.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("mastaba-redis") && error.contains(".backend(\"redis\", mastaba_redis::open)"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
}
