use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::form::Input;
use super::*;
use crate::limits::Check;

fn millis(count: u64) -> Option<Duration> {
    Some(Duration::from_millis(count))
}

/// Every setting that there is, as a dotted key and a text.
const EVERYTHING: [(&str, &str); 29] = [
    ("data_dir", "var/data"),
    ("namespace", "shop"),
    ("cache.objects.backend", "embedded"),
    ("cache.objects.ttl", "1h"),
    ("cache.objects.absent_ttl", "60"),
    ("cache.objects.stale", "6h"),
    ("cache.objects.stale_if_error", "1day"),
    ("cache.objects.jitter", "10%"),
    ("cache.objects.early_refresh", "0.05"),
    ("cache.objects.max_batch", "1_000"),
    ("cache.objects.shared_budget", "250ms"),
    ("cache.objects.shared_soft_budget", "50ms"),
    ("cache.objects.source_budget", "5s"),
    ("cache.objects.source_soft_budget", "0.5"),
    ("cache.objects.lease_ttl", "10s"),
    ("cache.objects.fill_without_lease", "true"),
    ("cache.objects.compress_above", "4KiB"),
    ("cache.objects.breaker_failures", "3"),
    ("cache.objects.breaker_pause", "2s"),
    ("cache.objects.outage_loads_per_second", "200"),
    ("cache.objects.write_mode", "strict"),
    ("cache.objects.hold_ttl", "20s"),
    ("cache.objects.near.max_entries", "10_000"),
    ("cache.objects.near.max_bytes", "64MiB"),
    ("cache.objects.near.ttl", "5s"),
    ("cache.objects.near.coherence", "fenced"),
    ("cache.objects.lease_patience", "300ms"),
    ("cache.objects.arguments.path", "Objects.redb"),
    ("cache.plain.arguments.max_bytes", "10MB"),
];

#[test]
fn everything_is_every_setting_that_there_is() {
    let tried =
        |name: &str| EVERYTHING.iter().any(|(key, _)| key.trim_start_matches("cache.objects.") == name);
    let missing: Vec<_> = names::TOP.into_iter().chain(names::names()).filter(|name| !tried(name)).collect();
    assert_eq!(missing, [""; 0], "the tests of this file do not try these");
}

fn everything() -> Settings {
    let text = |text: &str| Some(text.to_owned());
    let argument = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let objects = RegionSettings {
        backend: text("embedded"),
        arguments: argument("path", "Objects.redb"),
        policy: PolicySettings {
            ttl: millis(3_600_000),
            absent_ttl: millis(60_000),
            stale: millis(6 * 3_600_000),
            stale_if_error: millis(24 * 3_600_000),
            jitter: Some(0.1),
            early_refresh: Some(0.05),
            max_batch: Some(1000),
            shared_budget: millis(250),
            shared_soft_budget: millis(50),
            source_budget: millis(5000),
            source_soft_budget: millis(500),
            lease_ttl: millis(10_000),
            lease_patience: millis(300),
            fill_without_lease: Some(true),
            compress_above: Some(Some(4096)),
            breaker_failures: Some(3),
            breaker_pause: millis(2000),
            outage_loads_per_second: Some(Some(200)),
            write_mode: Some(crate::WriteMode::Strict),
            hold_ttl: millis(20_000),
        },
        near: Some(NearSettings {
            max_entries: Some(10_000),
            max_bytes: Some(64 << 20),
            ttl: millis(5000),
            coherence: Some(crate::Coherence::Fenced),
        }),
    };
    let plain = RegionSettings { arguments: argument("max_bytes", "10MB"), ..RegionSettings::default() };
    Settings {
        data_dir: Some(PathBuf::from("var/data")),
        namespace: text("shop"),
        regions: BTreeMap::from([("objects".to_owned(), objects), ("plain".to_owned(), plain)]),
    }
}

fn from_env(variables: &[(&str, &str)]) -> Result<Settings, Problems> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    read::settings(Input::from_env("MASTABA_", variables))
}

/// The lines of the error that this map gives.
fn wrong(map: &[(&str, &str)]) -> Vec<String> {
    lines(&Settings::from_map(map.iter().copied()).unwrap_err())
}

fn lines(error: &Error) -> Vec<String> {
    assert!(error.is_config());
    error.to_string().split("\n- ").skip(1).map(str::to_owned).collect()
}

#[test]
fn a_map_says_everything() {
    assert_eq!(Settings::from_map(EVERYTHING).unwrap(), everything());
}

#[test]
fn the_environment_says_the_same() {
    let names =
        EVERYTHING.map(|(key, value)| (format!("MASTABA_{}", key.to_uppercase().replace('.', "__")), value));
    let pairs: Vec<(&str, &str)> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(from_env(&pairs).unwrap(), everything());
}

#[test]
fn each_key_sets_its_own_field_and_no_other() {
    let alone = EVERYTHING.map(|pair| format!("{:?}", Settings::from_map([pair]).unwrap()));
    for (index, one) in alone.iter().enumerate() {
        assert_ne!(*one, format!("{:?}", Settings::default()), "{}", EVERYTHING[index].0);
        assert!(!alone[index + 1..].contains(one), "{}", EVERYTHING[index].0);
    }
}

#[test]
fn nothing_set_is_nothing_set() {
    let empty: [(&str, &str); 0] = [];
    assert_eq!(Settings::from_map(empty).unwrap(), Settings::default());
    assert_eq!(from_env(&[("PATH", "/bin"), ("mastaba_data_dir", "x")]).unwrap(), Settings::default());
}

#[test]
fn the_map_of_an_application_is_neither_changed_nor_judged() {
    let mut map: HashMap<String, String> =
        EVERYTHING.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    for other in ["port", "cached", "cache", "cache_size", "log.level", "data_dir.old"] {
        map.insert(other.to_owned(), "x".to_owned());
    }
    let before = map.clone();
    assert_eq!(Settings::from_map(&map).unwrap(), everything());
    assert_eq!(map, before);
}

#[test]
fn a_key_that_is_a_slip_away_from_ours_is_told() {
    for (slip, meant) in [
        ("cach.objects.backend", "cache.objects.backend"),
        ("cahce.objects.ttl", "cache.objects.ttl"),
        ("caches.objects.near.max_entries", "cache.objects.near.max_entries"),
        ("Cache.objects.arguments.url", "cache.objects.arguments.url"),
        ("cach.objects.tll", "cache.objects.ttl"),
        ("data_dri", "data_dir"),
        ("data-dir", "data_dir"),
        ("namespce", "namespace"),
    ] {
        let told = wrong(&[("port", "80"), (slip, "secret")]);
        let start = format!(
            "{slip}: there is no such setting (did you mean {meant}?); there are: data_dir, namespace"
        );
        assert!(told.len() == 1 && told[0].starts_with(&start), "{told:?}");
        assert!(!told[0].contains("secret"), "{told:?}");
        let prefixed = format!("my.{slip}");
        let error = Settings::from_map_under("my.", [(prefixed.as_str(), "x")]).unwrap_err();
        assert!(error.to_string().contains(&format!("did you mean my.{meant}?")), "{error}");
    }
}

#[test]
fn keys_that_only_look_a_little_like_ours_are_the_applications() {
    let others = [
        "cached",
        "cache_dir",
        "cach",
        "caches.size",
        "cards.objects.ttl",
        "cash.register.colour",
        "NAMESPACE",
        "DATA_DIR",
        "log_dir",
    ];
    assert_eq!(Settings::from_map(others.map(|key| (key, "x"))).unwrap(), Settings::default());
}

#[test]
fn an_address_in_the_wrong_place_is_not_repeated() {
    for setting in ["ttl", "max_batch", "near.max_entries"] {
        let told = wrong(&[(&format!("cache.objects.{setting}"), "redis://:hunter2@h")]);
        assert!(told.len() == 1 && !told[0].contains("hunter2"), "{told:?}");
    }
    let told = unknown_backend("objects", "redis://:hunter2@h", &["memory"]);
    assert!(told.contains("cache.objects.arguments.url") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_prefix_parts_ours_from_theirs() {
    let map =
        BTreeMap::from([("mastaba.cache.objects.ttl", "2s"), ("cache.size", "3"), ("data_dir", "theirs")]);
    let settings = Settings::from_map_under("mastaba.", &map).unwrap();
    assert_eq!(settings.data_dir, None);
    assert_eq!(settings.regions["objects"].policy.ttl, millis(2000));
}

#[test]
fn names_of_arguments_and_their_texts_are_the_backends() {
    let settings =
        Settings::from_map([("cache.a.arguments.tls.Key", " 1 "), ("cache.a.arguments.e", "")]).unwrap();
    let arguments = &settings.regions["a"].arguments;
    assert_eq!((arguments["tls.Key"].as_str(), arguments["e"].as_str()), (" 1 ", ""));
}

#[test]
fn every_problem_is_told_at_once_with_key_text_and_need() {
    let told = wrong(&[
        ("cache.objects.ttl", "soon"),
        ("cache.objects.stale", "1h"),
        ("cache.objects.jitter", "110%"),
        ("cache.objects.max_batch", "0"),
        ("cache.objects.near.max_bytes", "64M"),
        ("cache.objects.lease_ttl", "0s"),
        ("cache.objects.breaker_failures", "65"),
        ("cache.objects.breaker_pause", "0"),
        ("cache.objects.outage_loads_per_second", "0"),
        ("cache.objects.backend", ""),
        ("data_dir", ""),
    ]);
    let expected = [
        "cache.objects.ttl = \"soon\": a duration is needed, such as 250ms, 1h or 90 (seconds)",
        "cache.objects.jitter = \"110%\": a share from 0 to 1 is needed, such as 0.1 or 10%",
        "cache.objects.max_batch = \"0\": a whole number above zero is needed",
        "cache.objects.near.max_bytes = \"64M\": a size is needed, such as 64MiB, 10MB or 1_000_000 (bytes)",
        "cache.objects.lease_ttl = \"0s\": a duration of at least 1ms and at most a day is needed; \
         nothing could ever be filled",
        "cache.objects.breaker_failures = \"65\": a whole number from 0 to 64 is needed",
        "cache.objects.breaker_pause = \"0\": a duration of at least 1ms and at most a day is needed; \
         for no breaker at all, set breaker_failures to 0",
        "cache.objects.outage_loads_per_second = \"0\": a whole number above zero is needed, or unlimited; \
         nothing could be loaded while the shared tier is out",
        "cache.objects.backend = \"\": it must not be empty",
        "data_dir = \"\": it must not be empty",
    ];
    assert_eq!(told, expected);
}

#[test]
fn every_typed_setting_refuses_nonsense() {
    let free = ["data_dir", "namespace", "cache.objects.backend"];
    for (key, _) in EVERYTHING.iter().filter(|(key, _)| !free.contains(key) && !key.contains("arguments")) {
        let told = wrong(&[(key, "?")]);
        assert!(told.len() == 1 && told[0].starts_with(&format!("{key} = \"?\": ")), "{told:?}");
    }
}

#[test]
fn an_unknown_setting_is_told_what_there_is() {
    let choices = "a region has: backend, ttl, absent_ttl, stale, stale_if_error, jitter, early_refresh, max_batch, \
                   source_soft_budget, source_budget, lease_ttl, lease_patience, fill_without_lease, compress_above, \
                   shared_soft_budget, shared_budget, breaker_failures, breaker_pause, outage_loads_per_second, write_mode, hold_ttl, \
                   near.max_entries, near.max_bytes, near.ttl, near.coherence, arguments.*";
    assert_eq!(
        wrong(&[("cache.objects.tll", "1h"), ("cache.objects.colour", "red"), ("cache.objects", "on")]),
        [
            format!(
                "cache.objects.tll: there is no such setting (did you mean cache.objects.ttl?); {choices}"
            ),
            format!("cache.objects.colour: there is no such setting; {choices}"),
            format!("cache.objects: there is no such setting; {choices}"),
        ]
    );
}

#[test]
fn messages_keep_the_way_in_which_keys_are_written() {
    let map = [("mastaba.cache.objects.near.max_entreis", "5")];
    let told = lines(&Settings::from_map_under("mastaba.", map).unwrap_err());
    assert!(told[0].contains("did you mean mastaba.cache.objects.near.max_entries?"), "{told:?}");

    let error =
        from_env(&[("MASTABA_CACHE__OBJECTS__NEAR__TLL", "5"), ("MASTABA_DATADIR", "x")]).unwrap_err();
    let told = lines(&error.into_error());
    assert!(told[0].contains("did you mean MASTABA_CACHE__OBJECTS__NEAR__TTL?"), "{told:?}");
    assert!(told[0].contains("BACKEND, TTL,") && told[0].contains("NEAR__MAX_BYTES"), "{told:?}");
    assert_eq!(
        told[1],
        "MASTABA_DATADIR: there is no such setting (did you mean MASTABA_DATA_DIR?); there are: \
         MASTABA_DATA_DIR, MASTABA_NAMESPACE, MASTABA_CACHE__<REGION>__<SETTING>"
    );
}

#[test]
fn a_text_behind_an_unknown_key_is_not_repeated() {
    let told = wrong(&[("cache.objects.argument.url", "redis://u:secret@host")]);
    assert!(told[0].starts_with("cache.objects.argument.url: ") && !told[0].contains("secret"), "{told:?}");
}

#[test]
fn names_of_regions_are_checked() {
    let told = wrong(&[("cache.o bjects.ttl", "1h"), ("cache..ttl", "1h"), ("cache.", "1h")]);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|line| line.contains("letters, digits, _ and -")), "{told:?}");
    let told = wrong(&[("cache.my.objects.ttl", "1h")]);
    assert!(told[0].contains("the name of a region has no dot"), "{told:?}");
    assert!(Settings::from_map([("cache.A-z_9.ttl", "1h")]).is_ok());
}

#[test]
fn a_setting_of_the_region_is_refused_for_a_source_and_told_where_it_belongs() {
    for setting in OF_REGIONS {
        for source in ["user", "user.by_id"] {
            let key = format!("cache.objects.{source}.{setting}");
            let told = wrong(&[(&key, "1")]);
            let wanted = format!(
                "{setting} is of a region, all sources of which share it: set cache.objects.{setting}; \
                 the name of a region has no dot; a region has: backend, "
            );
            assert!(told.len() == 1 && told[0].starts_with(&format!("{key}: ")), "{told:?}");
            assert!(told[0].contains(&wanted), "{told:?}");
        }
        let told =
            lines(&from_env(&[(&format!("MASTABA_SOURCE__USER__{setting}"), "1")]).unwrap_err().into_error());
        let wanted = format!("set MASTABA_CACHE__<REGION>__{}; there are: ", setting.to_uppercase());
        assert!(told.len() == 1 && told[0].contains(&wanted), "{told:?}");
    }
}

#[test]
fn a_setting_of_one_source_is_told_that_the_program_says_it() {
    let told = wrong(&[("cache.objects.user.ttl", "1h")]);
    let wanted =
        "set cache.objects.ttl for all sources of the region, or let the source have it by `Source::policy`";
    assert!(told.len() == 1 && told[0].contains(wanted), "{told:?}");
    // a slip in `near` is none
    let told = wrong(&[("cache.objects.naer.ttl", "1h")]);
    assert!(
        told[0].contains("did you mean cache.objects.near.ttl?") && !told[0].contains("Source"),
        "{told:?}"
    );
}

/// Rows of the page on settings, made of rows of the table.
macro_rules! documented {
    (
        $prefix:literal
        $($(#[doc = $doc:literal])*
        $name:ident: $type:ident $(<$of:ty>)? $(= $default:expr)?, $written:literal, $check:expr;)*
    ) => { vec![$({
        let check = $check;
        let may_be = <_ as Check<$type $(<$of>)?>>::what(&check) + <_ as Check<$type $(<$of>)?>>::or(&check);
        let default = if $written.is_empty() { String::new() } else { concat!("`", $written, "`").to_owned() };
        format!("| `{}` | {default} | {may_be} |{} |", concat!($prefix, stringify!($name)), concat!($($doc),*))
    }),*] };
}

#[test]
fn the_page_on_settings_the_names_in_a_configuration_and_the_code_are_one_list() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/src/reference/settings.md");
    let page = std::fs::read_to_string(page).unwrap();
    // a cell with the name alone, and more cells
    let is_row = |line: &&str| {
        line.starts_with("| `") && line.split('`').nth(2).is_some_and(|rest| rest.starts_with(" |"))
    };
    for (heading, rows) in [
        ("## Of sources\n", of_sources! { documented "" }),
        ("## Of a region\n", of_regions! { documented "" }),
        ("## Near\n", of_near! { documented "near." }),
    ] {
        let section = page.split(heading).nth(1).expect(heading).split("\n## ").next().unwrap_or_default();
        let documented: Vec<&str> = section.lines().filter(is_row).collect();
        let code = rows.join("\n");
        assert!(documented == rows, "the page on settings is not as the code has it; {heading}{code}");
    }
    let documented = page.lines().filter(is_row).filter_map(|row| row.split('`').nth(1));
    let mut documented: Vec<&str> = documented.collect();
    let mut known: Vec<&str> = names::TOP.into_iter().chain(names::names()).chain(["arguments.*"]).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}

/// Looks that the default of each row is what it says that a configuration writes.
macro_rules! written {
    ($($(#[doc = $doc:literal])*
    $name:ident: $type:ident $(<$of:ty>)? = $default:expr, $written:literal, $check:expr;)*) => { $({
        let default: $type $(<$of>)? = $default;
        assert_eq!($check.show(&default), $written, stringify!($name));
        assert_eq!($check.read($written), Ok(default), stringify!($name));
    })* };
}

#[test]
fn every_default_is_written_as_a_configuration_writes_it() {
    of_sources! { of_regions written }
    assert_eq!(Count.read("10000"), Ok(crate::NearConfig::ENTRIES));
    assert_eq!(Lag.read("1s"), Ok(Coherence::default()));
}

#[test]
fn an_argument_needs_a_name() {
    assert_eq!(wrong(&[("cache.a.arguments.", "x")]), ["cache.a.arguments.: the argument has no name"]);
}

#[test]
fn one_setting_given_twice_is_a_problem() {
    assert_eq!(wrong(&[("namespace", "a"), ("namespace", "b")]), ["namespace: given twice"]);
    let error = from_env(&[("MASTABA_namespace", "a"), ("MASTABA_NAMESPACE", "b")]).unwrap_err();
    assert_eq!(lines(&error.into_error()), ["MASTABA_namespace: the same setting as MASTABA_NAMESPACE"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_unicode_is_a_problem_only_under_the_prefix() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![0xff]);
    let input =
        Input::from_env("MASTABA_", [("OTHER".into(), bytes()), ("MASTABA_DATA_DIR".into(), bytes())]);
    let told = lines(&read::settings(input).unwrap_err().into_error());
    assert_eq!(told, ["MASTABA_DATA_DIR: the value is not Unicode"]);
}

#[test]
fn the_process_environment_is_read_by_prefix() {
    assert_eq!(Settings::from_env("MASTABA_TEST_THAT_NOBODY_SETS_").unwrap(), Settings::default());
}

#[test]
fn an_unknown_backend_is_told_what_there_is() {
    assert_eq!(
        unknown_backend("objects", "embeded", &["embedded", "memory"]),
        "cache.objects.backend = \"embeded\": no backend has this name; did you mean embedded? \
         There are: embedded, memory"
    );
    assert_eq!(
        unknown_backend("objects", "dbm", &[]),
        "cache.objects.backend = \"dbm\": no backend has this name. There are: none"
    );
}

#[test]
fn a_backend_in_a_crate_of_its_own_is_told_how_to_be_had() {
    assert_eq!(
        unknown_backend("objects", "redis", &["embedded", "memory"]),
        "cache.objects.backend = \"redis\": this program does not have this backend; add the crate mastaba-redis, and \
         call `.backend(\"redis\", mastaba_redis::open)` before `.build()`. There are: embedded, memory"
    );
    for (name, call) in [
        ("valkey", "`.backend(\"valkey\", mastaba_redis::open)`"),
        ("memcached", "`.backend(\"memcached\", mastaba_memcached::open)`"),
    ] {
        let told = unknown_backend("objects", name, &["memory"]);
        assert!(told.contains(call) && !told.contains("did you mean"), "{told}");
    }
}

#[test]
fn what_arguments_say_is_not_shown() {
    let settings = Settings::from_map([("cache.a.arguments.url", "redis://u:secret@host")]).unwrap();
    let shown = format!("{settings:?}");
    assert!(shown.contains("url") && !shown.contains("secret"), "{shown}");
}

#[cfg(feature = "toml")]
mod in_toml {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        lines(&Settings::from_toml(text).unwrap_err())
    }

    #[test]
    fn toml_says_everything_too() {
        let text = r#"
            data_dir = "var/data"
            namespace = "shop"
            cache.plain.arguments.max_bytes = "10MB"

            [cache.objects]
            backend = "embedded"
            ttl = "1h"
            absent_ttl = 60
            stale = "6h"
            stale_if_error = "1day"
            jitter = "10%"
            early_refresh = 0.05
            max_batch = 1_000
            shared_budget = "250ms"
            shared_soft_budget = "50ms"
            source_budget = 5
            source_soft_budget = 0.5
            lease_ttl = "10s"
            lease_patience = "300ms"
            fill_without_lease = true
            compress_above = 4096
            breaker_failures = 3
            breaker_pause = "2s"
            outage_loads_per_second = 200
            write_mode = "strict"
            hold_ttl = "20s"
            near = { max_entries = 10_000, max_bytes = "64MiB", ttl = 5.0, coherence = "fenced" }

            [cache.objects.arguments]
            path = "Objects.redb"
        "#;
        assert_eq!(Settings::from_toml(text).unwrap(), everything());
    }

    #[test]
    fn an_empty_table_asks_for_defaults() {
        let settings = Settings::from_toml("[cache.a]\n[cache.b.near]\n[cache.c.arguments]").unwrap();
        let near = RegionSettings { near: Some(NearSettings::default()), ..RegionSettings::default() };
        let plain = RegionSettings::default;
        let regions = [("a", plain()), ("b", near), ("c", plain())];
        assert_eq!(settings.regions, regions.map(|(name, region)| (name.to_owned(), region)).into());
        assert_eq!(Settings::from_toml("").unwrap(), Settings::default());
        assert_eq!(Settings::from_toml("[cache]").unwrap(), Settings::default());
    }

    #[test]
    fn arguments_may_be_of_any_sort_and_have_dots() {
        let text = "[cache.a.arguments]\n\"x.y\" = true\nz = { deep = -1.5 }";
        let arguments = &Settings::from_toml(text).unwrap().regions["a"].arguments;
        assert_eq!((arguments["x.y"].as_str(), arguments["z.deep"].as_str()), ("true", "-1.5"));
    }

    #[test]
    fn whatever_is_unknown_is_a_problem() {
        let told =
            wrong("port = 80\n[caches.a]\n[cache.a]\nttl = true\n[cache.a.naer]\n[cache.b]\nlist = [1]");
        let starts = [
            "cache.b.list: this is a list, and a string, a number or a boolean is needed",
            "cache.a.naer: there is no such setting; a region has: ",
            "cache.a.ttl = \"true\": a duration is needed",
            "caches.a: there is no such setting; there are: data_dir, namespace, cache.<region>.<setting>",
            "port: there is no such setting; ",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        for start in starts {
            assert!(told.iter().any(|line| line.starts_with(start)), "{start}\n{told:#?}");
        }
    }

    #[test]
    fn a_dot_inside_a_name_is_a_problem() {
        let told = wrong("[cache.\"my.objects\"]\nttl = 1");
        assert_eq!(told, ["cache.\"my.objects\": a name has no dot in it"]);
    }

    #[test]
    fn what_is_no_toml_is_told_by_line_without_its_text() {
        let told = wrong("namespace = \"a\"\n[cache.a.arguments]\nurl = \"redis://u:secret@host");
        assert!(told.len() == 1 && told[0].starts_with("line 3: "), "{told:?}");
        assert!(!told[0].contains("secret"), "{told:?}");
    }
}
