//! Building a cache: from code, settings, TOML and the environment; and what holds for every cache.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mastaba::shared::memory::Memory;
use mastaba::{Budget, Cache, LoadContext, NearConfig, Region, RequestCache, Rows, Source, Tier, Write};
use mastaba_test::world::{DbError, DbFault, UserById, Watched, World};

/// Its own key as text, and how it is called and where it lives.
macro_rules! echo {
    ($($type:ident, $name:literal, $region:literal;)*) => { $(
        struct $type;
        impl Source for $type {
            type Key = u64;
            type Value = String;
            type Error = DbError;
            const NAME: &'static str = $name;
            const REGION: &'static str = $region;

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
                Ok(ids.iter().map(|id| (*id, id.to_string())).collect())
            }
        }
    )* };
}

echo! {
    Echo, "echo", "objects";
    EchoAgain, "echo", "objects";
    Listed, "listed", "lists";
    Lost, "lost", "nowhere";
    BadName, "bad name", "objects";
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let data = tempfile::tempdir().unwrap();
    let settings = HashMap::from([("cache.objects.tll", "1h"), ("cache.lists.ttl", "soon")]);
    let error = Cache::from_settings(&settings)
        .data_dir(data.path())
        .region("objects", Region::memory().jitter(2.0).max_batch(0))
        .region("lists", Region::named("memroy", [].into()))
        .region("lists", Region::memory())
        .region("files", Region::default())
        .source(Echo)
        .source(EchoAgain)
        .source(Lost)
        .build()
        .await
        .unwrap_err();
    assert!(error.is_config());
    let sentence = error.to_string();
    for part in [
        "cache.objects.tll: there is no such setting (did you mean cache.objects.ttl?)",
        "cache.lists.ttl = \"soon\": a duration is needed",
        "region lists is configured twice",
        "region objects: jitter is 2, and a share from 0 to 1 is needed",
        "region objects: max_batch is 0, and a whole number above zero is needed",
        "two sources have the name echo: reads::cache::Echo and reads::cache::EchoAgain; their entries would meet",
        "source lost (reads::cache::Lost) belongs to region nowhere, which is not configured; call `.region(\"nowhere\", ..)`",
    ] {
        assert!(sentence.contains(part), "{part}\n{sentence}");
    }
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "no file is made");
}

/// The problems that settings in TOML give, with [`Echo`] and [`Listed`] registered.
async fn problems(toml: &str) -> Vec<String> {
    let builder = Cache::from_toml(toml).source(Echo).source(Listed);
    let error = builder.build().await.unwrap_err();
    assert!(error.is_config());
    error.to_string().split("\n- ").skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_mistake_in_the_settings_is_followed_by_no_other_that_is_none() {
    let lists = "cache.lists.backend = 'memory'\n";
    for (wrong, starts) in [
        // the region is configured, and its backend is named
        ("[cache.objects]\nbackend = 'memory'\nttl = 'soon'", "cache.objects.ttl = \"soon\": a duration"),
        ("[cache.objects]\nbackend = ''", "cache.objects.backend = \"\": it must not be empty"),
        ("[cache.objects]\nbackend = ['memory']", "cache.objects.backend: this is a list"),
        ("[cache.objects]\nbackedn = 'memory'", "cache.objects.backedn: there is no such setting"),
        ("[cache.objects]\nbackend = 'memory'\ntll = 5", "cache.objects.tll: there is no such setting"),
        (
            "[cach.objects]\nbackend = 'memory'",
            "cach.objects.backend: there is no such setting (did you mean cache.objects.",
        ),
        ("cache.objects.ttl = '1h'\ndata_dir = ''", "data_dir = \"\": it must not be empty"),
        (
            "cache.objects.ttl = '1h'\ndata_dri = 'x'",
            "data_dri: there is no such setting (did you mean data_dir?)",
        ),
        ("[cache.objects]\nbackend = 'redis://:hunter2@h'", "cache.objects.backend is an address"),
        (
            "[cache.objects]\nbackend = 'memroy'",
            "cache.objects.backend = \"memroy\": no backend has this name",
        ),
    ] {
        let told = problems(&format!("{lists}{wrong}")).await;
        assert!(told.len() == 1 && told[0].starts_with(starts), "{wrong}: {told:#?}");
        assert!(!told[0].contains("hunter2"), "{told:#?}");
    }
    // what cannot be read at all says nothing of any region
    let told = problems("[cache.objects\nttl = 1").await;
    assert!(told.len() == 1 && told[0].starts_with("line 1: "), "{told:#?}");
}

#[tokio::test]
async fn a_backend_and_its_arguments_are_judged_together_with_everything_else() {
    let told = problems(
        "cache.objects.backend = 'memroy'\ncache.objects.ttl = 'soon'\ncache.lists.backend = 'memory'\n\
         cache.lists.arguments.colour = 'red'\ncache.more.backend = 'embedded'\ncache.last.near.max_entries = 0",
    )
    .await;
    let starts = [
        "cache.last.near.max_entries = \"0\": a whole number above zero",
        "cache.objects.ttl = \"soon\": a duration",
        "region last: no backend is named",
        "region lists: unknown argument colour; there are: max_bytes, max_entries",
        "region more: an embedded file needs a data_dir",
        "cache.objects.backend = \"memroy\": no backend has this name; did you mean memory?",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for start in starts {
        assert!(told.iter().any(|line| line.starts_with(start)), "{start}\n{told:#?}");
    }
}

/// What `main` prints of an error that it returns.
#[tokio::test]
async fn an_error_that_main_returns_reads_as_its_sentence() {
    let world = World::new().await;
    let error = world.request().get::<Lost>(1).await.unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    world.db.fail_next(DbFault::Error("down".into()));
    let error = world.request().get::<UserById>(1).await.unwrap_err();
    assert_eq!(format!("{error:?}"), "source user: loading 1 key failed: down");
    let error =
        Cache::from_toml("[cache.objects]\nbackend = 'memroy'\nttl = 'soon'").build().await.unwrap_err();
    let shown = format!("{error:?}");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "the configuration has 2 problems:"), "{shown}");
}

#[tokio::test]
async fn a_backend_that_does_not_exist_is_told_with_those_that_do() {
    let error =
        Cache::builder().region("objects", Region::named("memroy", [].into())).build().await.unwrap_err();
    assert!(error.is_config());
    assert!(error.to_string().contains("did you mean memory? There are: embedded, memory, null"), "{error}");
    let error = Cache::builder().region("objects", Region::default()).build().await.unwrap_err();
    assert!(error.to_string().contains("needs a data_dir"), "{error}");
    let arguments = [("colour".to_owned(), "red".to_owned())].into();
    let error =
        Cache::builder().region("objects", Region::named("memory", arguments)).build().await.unwrap_err();
    assert!(
        error.to_string().contains("unknown argument colour; there are: max_bytes, max_entries"),
        "{error}"
    );
}

#[tokio::test]
async fn room_for_nothing_is_refused_by_every_way_in() {
    for near in [NearConfig::entries(0), NearConfig::bytes(0)] {
        let error =
            Cache::builder().region("objects", Region::memory().near(near)).build().await.unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains("region objects: near has room for 0 "), "{error}");
    }
    for setting in ["near.max_entries", "near.max_bytes", "arguments.max_bytes", "arguments.max_entries"] {
        let settings = [("cache.objects.backend", "memory"), (&format!("cache.objects.{setting}"), "0")]
            .map(|(k, v)| (k.to_owned(), v));
        let error = Cache::from_settings(settings.iter().map(|(k, v)| (k, *v))).build().await.unwrap_err();
        assert!(error.to_string().contains(setting) && error.to_string().contains("above zero"), "{error}");
    }
}

#[test]
fn what_may_be_left_out_is_set_with_and_without_some() {
    let region = Region::memory().compress_above(10).outage_loads_per_second(20);
    let set = |region: &Region| (region.policy.sources.compress_above, region.policy.outage_loads_per_second);
    assert_eq!(set(&region), (Some(10), Some(20)));
    let region = region.compress_above(None).outage_loads_per_second(Some(30));
    assert_eq!(set(&region), (None, Some(30)));
    let second = Duration::from_secs(1);
    assert_eq!(NearConfig::entries(1).ttl(second), NearConfig::entries(1).ttl(Some(second)));
    assert_eq!(NearConfig::entries(1).ttl(None), NearConfig::entries(1));
}

#[tokio::test]
async fn near_is_refused_where_other_processes_write_unseen() {
    let watched = Watched::<_, true>::new(Memory::default(), Arc::default());
    let region = Region::backend(watched).near(NearConfig::entries(10));
    let error = Cache::builder().region("objects", region).source(Echo).build().await.unwrap_err();
    assert!(error.is_config());
    let sentence = error.to_string();
    assert!(
        sentence.contains("region objects: near needs a backend that tells of every invalidation"),
        "{sentence}"
    );
    assert!(!sentence.contains("source echo"), "its region is configured: {sentence}");
}

#[tokio::test]
async fn a_name_that_cannot_stand_in_a_key_is_refused() {
    let error =
        Cache::builder().region("objects", Region::memory()).source(BadName).build().await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("bad name"), "{error}");
}

#[tokio::test]
async fn two_regions_in_one_file_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("one").display().to_string();
    let settings = HashMap::from([
        ("cache.a.backend".to_owned(), "embedded".to_owned()),
        ("cache.a.arguments.path".to_owned(), path.clone()),
        ("cache.b.backend".to_owned(), "embedded".to_owned()),
        ("cache.b.arguments.path".to_owned(), path),
    ]);
    let error = Cache::from_settings(&settings).build().await.unwrap_err();
    assert!(error.to_string().contains("regions a and b would share the file"), "{error}");
}

#[tokio::test]
async fn a_region_without_a_backend_is_a_file_in_the_data_dir_and_survives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let settings = HashMap::from([
        ("data_dir".to_owned(), data.path().join("deep/er").display().to_string()),
        ("cache.objects.ttl".to_owned(), "1h".to_owned()),
        ("port".to_owned(), "80".to_owned()),
    ]);
    let before = settings.clone();
    for tier in [Tier::Source, Tier::Shared] {
        let cache = Cache::from_settings(&settings).source(Echo).build().await.unwrap();
        let found = cache.request().get_outcomes::<Echo>([1]).await;
        assert_eq!(found[&1].tier(), Some(tier));
        assert_eq!(found[&1].value().unwrap().unwrap().as_str(), "1");
        cache.close().await.unwrap();
    }
    assert_eq!(settings, before, "the caller's map is as it was");
    assert!(data.path().join("deep/er/mastaba/objects").exists(), "the folders are made");
}

#[tokio::test(start_paused = true)]
async fn toml_configures_regions_each_with_a_policy_of_its_own() {
    let cache = Cache::from_toml(
        "
        [cache.objects]
        backend = 'memory'
        ttl = '10s'
        jitter = 0
        [cache.lists]
        backend = 'memory'
        ttl = '1h'
        jitter = 0
        near = { max_entries = 100, ttl = '1s' }
        ",
    )
    .source(Echo)
    .source(Listed)
    .build()
    .await
    .unwrap();
    assert_eq!(cache.regions().collect::<Vec<_>>(), ["lists", "objects"]);
    let tiers = async || {
        let request = cache.request();
        let (echo, listed) =
            tokio::join!(request.get_outcomes::<Echo>([1]), request.get_outcomes::<Listed>([1]));
        cache.idle().await;
        (echo[&1].tier().unwrap(), listed[&1].tier().unwrap())
    };
    assert_eq!(tiers().await, (Tier::Source, Tier::Source));
    assert_eq!(tiers().await, (Tier::Shared, Tier::Near));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(tiers().await, (Tier::Source, Tier::Shared));
}

#[tokio::test]
async fn the_settings_go_over_what_the_program_says_whatever_the_order() {
    let settings = HashMap::from([("cache.objects.backend", "null")]);
    let cache = Cache::from_settings(&settings)
        .region("objects", Region::memory())
        .source(Echo)
        .build()
        .await
        .unwrap();
    for _ in 0..2 {
        let found = cache.request().get_outcomes::<Echo>([1]).await;
        assert_eq!(found[&1].tier(), Some(Tier::Source), "null keeps nothing");
    }
}

/// Runs itself again, because a test may not change the environment of the process that it shares.
#[test]
fn the_environment_configures_regions() {
    const VARIABLE: &str = "MASTABA_TESTED_CACHE__OBJECTS__BACKEND";
    if std::env::var_os(VARIABLE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cache = runtime.block_on(Cache::from_env("MASTABA_TESTED_").source(Echo).build()).unwrap();
        assert_eq!(cache.regions().collect::<Vec<_>>(), ["objects"]);
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::the_environment_configures_regions"])
        .env(VARIABLE, "memory")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    // with another name nothing would run, which is a success too
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn a_mangler_rewrites_every_key_whole() {
    let world = World::with(|region| {
        region.mangler(|key| {
            let mut key = key.to_ascii_uppercase();
            key.extend_from_slice(b"~v2");
            key
        })
    })
    .await;
    world.sees(1).await;
    world.idle().await;
    use mastaba::shared::Shared;
    let keys = ["MASTABA:OBJECTS:USER:1~v2", "MASTABA:OBJECTS:@GENERATION~v2", "mastaba:objects:user:1"];
    let there = world.memory.read(&keys.map(Into::into)).await.unwrap();
    assert_eq!(there.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    world.db.update(1);
    assert_eq!(world.sees(1).await, 0);
    world.request().invalidate::<UserById>([1]).await.unwrap();
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn without_any_region_the_request_and_its_stash_work_alone() {
    let cache = Cache::builder().source(Echo).source(Listed).build().await.unwrap();
    assert_eq!(cache.regions().count(), 0);
    let request = cache.request();
    let (one, two) = tokio::join!(request.get::<Echo>(1), request.get::<Listed>(2));
    assert_eq!((one.unwrap().unwrap().as_str(), two.unwrap().unwrap().as_str()), ("1", "2"));
    request.get::<Echo>(1).await.unwrap();
    let report = request.report();
    assert_eq!((report.shared_trips(), report.statements()), (0, 2), "{report}");
    request.stash().insert(42u8);
    assert_eq!(request.clone().stash().get::<u8>().as_deref(), Some(&42));
    request.invalidate::<Echo>([1]).await.unwrap();
    request.get::<Echo>(1).await.unwrap();
    assert_eq!(request.report().statements(), 3);
    let empty = Cache::builder().build().await.unwrap().request();
    empty.stash().insert("alone");
    assert_eq!(empty.stash().get::<&str>().as_deref(), Some(&"alone"));
    let error = empty.get::<Echo>(1).await.unwrap_err();
    assert!(error.is_usage());
    assert!(
        error.to_string().contains("source echo (reads::cache::Echo) is not registered; call `.source(..)`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_region_that_does_not_exist_is_a_panic_that_lists_those_that_do() {
    let cache = Cache::builder().region("objects", Region::memory()).build().await.unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(cache.region("objcets")))).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert_eq!(said, "there is no region \"objcets\"; configured: objects");
}

#[tokio::test]
async fn a_budget_that_is_not_kept_panics_with_the_whole_table() {
    let world = World::new().await;
    let request = world.request();
    request.get_many::<UserById>([1, 2000]).await.unwrap();
    request.get::<UserById>(1).await.unwrap();
    world.idle().await;
    let report = request.report();
    report.assert_at_most(Budget { trips: 2, statements: 1 });
    for budget in [Budget { trips: 1, statements: 1 }, Budget { trips: 2, statements: 0 }] {
        let panic = catch_unwind(AssertUnwindSafe(|| report.assert_at_most(budget))).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        let lines: Vec<_> = said.lines().map(str::trim).collect();
        let Budget { trips, statements } = budget;
        let first =
            format!("the request cost 2 trips and 1 statement, and may cost {trips} and {statements}");
        assert_eq!(lines[0], first);
        let row: Vec<_> = lines[3].split_whitespace().collect();
        assert_eq!(row, ["user", "1", "0", "0", "2", "0", "1", "0", "0"], "{said}");
        let trips = lines[4..].iter().map(|line| line.split_whitespace().nth(1).unwrap());
        assert_eq!(trips.collect::<Vec<_>>(), ["read", "lease", "load", "fill"], "{said}");
        assert!(lines[7].ends_with("in the background"), "{said}");
    }
}

#[test]
fn outside_of_a_runtime_a_read_is_an_error_that_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = runtime.block_on(Cache::builder().region("objects", Region::memory()).source(Echo).build());
    let request = cache.unwrap().request();
    let mut get = Box::pin(request.get::<Echo>(1));
    let error = loop {
        // it wakes itself until nothing more gathers
        if let Some(done) = (&mut get).now_or_never() {
            break done.unwrap_err();
        }
    };
    assert!(error.is_usage());
    assert!(error.to_string().contains("needs a tokio runtime"), "{error}");
    assert!(error.to_string().starts_with("source echo: "), "{error}");
    let error = request.invalidate::<Echo>([1]).now_or_never().unwrap().unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("needs a tokio runtime"), "{error}");
}

#[test]
fn caches_requests_and_writes_go_between_threads_and_so_do_their_futures() {
    fn between_threads<T: Send + Sync>() {}
    fn sent<T: Send>(_: impl FnOnce(RequestCache) -> T) {}
    between_threads::<Cache>();
    between_threads::<RequestCache>();
    between_threads::<Write>();
    sent(|request| async move { request.get::<UserById>(1).await.is_ok() });
    sent(|request| async move { request.get_many::<UserById>([1, 2]).await.is_ok() });
    sent(|request| async move { request.get_outcomes::<UserById>([1, 2]).await.len() });
    sent(|request| async move { request.peek::<UserById>(1).await.is_ok() });
    sent(|request| async move { request.refresh::<UserById>(1).await.is_ok() });
    sent(|request| async move { request.invalidate::<UserById>([1]).await.is_ok() });
    sent(|request| async move { request.expand(&[1, 2]).await.is_ok() });
    sent(|request| async move { request.write().published().await.is_ok() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_may_be_used_from_many_tasks_and_threads() {
    let world = World::new().await;
    let request = world.request();
    let tasks = (0..50u64).map(|nth| {
        let request = request.clone();
        tokio::spawn(async move { request.get_many::<UserById>((1..=20).map(|at| nth % 5 * 10 + at)).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().unwrap().found().count(), 20);
    }
    world.idle().await;
    let loads = world.loads_of("user");
    assert_eq!(loads.len(), 60);
    assert!(loads.values().all(|loads| *loads == 1), "{loads:?}");
}

/// A source that says everything about itself when it is made.
struct Made<const NTH: usize> {
    region: &'static str,
    problems: Vec<String>,
}

impl<const NTH: usize> Made<NTH> {
    fn new(region: &'static str, problems: &[&str]) -> Self {
        Self { region, problems: problems.iter().map(|problem| (*problem).to_owned()).collect() }
    }
}

impl<const NTH: usize> Source for Made<NTH> {
    type Key = u64;
    type Value = u64;
    type Error = DbError;

    fn name() -> &'static str {
        ["", "made.one", "made.two", "made.panics", "made.slow"][NTH]
    }

    fn region(&self) -> &str {
        self.region
    }

    async fn check(&self) -> Vec<String> {
        assert_ne!(NTH, 3, "no idea");
        if NTH == 4 {
            std::future::pending::<()>().await;
        }
        self.problems.clone()
    }

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        Ok(ids.iter().map(|id| (*id, id * 10 + NTH as u64)).collect())
    }
}

#[tokio::test]
async fn a_source_may_get_its_name_and_its_region_when_it_is_made() {
    let cache = Cache::builder()
        .region("objects", Region::memory())
        .region("lists", Region::memory())
        .sources(
            mastaba::Sources::new()
                .source(Made::<1>::new("objects", &[]))
                .source(Made::<2>::new("lists", &[])),
        )
        .build()
        .await
        .unwrap();
    let request = cache.request();
    assert_eq!(*request.get::<Made<1>>(7).await.unwrap().unwrap(), 71);
    assert_eq!(*request.get::<Made<2>>(7).await.unwrap().unwrap(), 72);
    assert!(request.report().to_string().contains("made.two"), "{}", request.report());
    let error = request.get::<Made<4>>(7).await.unwrap_err().to_string();
    assert!(error.contains("source made.slow") && error.contains("made.one, made.two"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_sources_find_where_they_load_from_is_told_at_once_and_together_with_all_else() {
    let build = |unchecked: bool, region: Region| {
        let mut sources = mastaba::Sources::new()
            .source(Made::<1>::new(
                "objects",
                &["table one has no column id", "table one has no column name"],
            ))
            .source(Made::<2>::new("objects", &["table two cannot be read"]))
            .source(Made::<3>::new("objects", &[]))
            .source(Made::<4>::new("objects", &[]));
        if unchecked {
            sources = sources.unchecked();
        }
        let region = region.source_budget(Duration::from_secs(2));
        Cache::builder().region("objects", region).sources(sources).build()
    };
    build(true, Region::memory()).await.unwrap();
    for region in [Region::memory(), Region::memory().jitter(2.0)] {
        let sentence = build(false, region).await.unwrap_err().to_string();
        for part in [
            "source made.one: table one has no column id",
            "source made.one: table one has no column name",
            "source made.two: table two cannot be read",
            "source made.panics: `check` panicked: ",
            "source made.slow: `check` took longer than its source_budget of 2s",
        ] {
            assert!(sentence.contains(part), "{part}\n{sentence}");
        }
    }
    let sentence = build(false, Region::memory().jitter(2.0)).await.unwrap_err().to_string();
    assert!(sentence.contains("jitter is 2"), "{sentence}");
}

#[tokio::test]
async fn a_source_without_a_name_or_a_region_is_refused() {
    let error = Cache::builder()
        .region("objects", Region::memory())
        .source(Made::<0>::new("objects", &[]))
        .source(Made::<1>::new("", &[]))
        .build()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("reads::cache::Made<0> has no name; give it `const NAME`, or `fn name`"),
        "{error}"
    );
    assert!(
        error.contains("source made.one (reads::cache::Made<1>) names no region; give it `const REGION`"),
        "{error}"
    );
}
