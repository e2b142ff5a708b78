//! The explorer over Redis: several processes that show the same, and what they do without it.

#![cfg(unix)]

mod web;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{Postgres, RedisServer, Signal};

use self::web::{Explorer, MODES, demo, ended, figure, in_mode, line, package, timing, wait, warm};

/// A Redis and a Postgres; none where one of them is not installed.
fn servers() -> Option<(RedisServer, Postgres)> {
    Some((wait(RedisServer::start())?, wait(Postgres::start())?))
}

/// An explorer over both.
fn explorer(redis: &RedisServer, postgres: &Postgres, more: &[&str]) -> Explorer {
    let (redis, postgres) = (redis.url(), postgres.url());
    Explorer::start(&[&["--redis", &redis, "--postgres", &postgres], more].concat())
}

/// Looks again and again until it is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What stopped in order has said.
#[track_caller]
fn told(explorer: Explorer) -> String {
    let output = explorer.signal(Signal::Term);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_edit_in_one_process_shows_at_once_in_the_other() {
    let Some((redis, postgres)) = servers() else { return };
    // all at once over an empty database: one of them fills it
    let [plain, near, other] = std::thread::scope(|scope| {
        let start = |more: &'static [&str]| {
            let (redis, postgres) = (&redis, &postgres);
            scope.spawn(move || explorer(redis, postgres, more))
        };
        [&[][..], &["--near", "10000"], &["--near", "10000"]]
            .map(start)
            .map(|started| started.join().unwrap())
    });
    let serde = package(&plain, "serde");
    let pages = [serde.clone(), "/?q=serde".to_owned()];

    // what one has loaded, all know, near too
    warm(&plain, &serde, 0.0, 7.0);
    let page = near.get(&serde).page();
    assert_eq!(figure(&page, "statements"), 0.0, "{page}");
    warm(&near, &serde, 0.0, 1.0);

    let mut stale = Vec::new();
    for nth in 0..30 {
        let (writer, readers) = match nth % 3 {
            0 => (&plain, [&near, &other]),
            1 => (&near, [&other, &plain]),
            _ => (&other, [&plain, &near]),
        };
        // all of them know what is there before
        for address in &pages {
            readers.iter().for_each(|reader| drop(reader.get(address).page()));
        }
        let edited = writer.post(&serde, &format!("description=Edit+number+{nth}.&keywords=word{nth}"));
        assert_eq!(edited.status, 303, "{}", edited.body);
        for reader in readers {
            let shown = pages.each_ref().map(|address| reader.get(address).page());
            let news = format!("Edit number {nth}.");
            stale.extend(shown.iter().filter(|page| !page.contains(&news)).map(|_| nth));
            assert!(shown[0].contains(&format!("#word{nth}")), "{}", shown[0]);
        }
    }
    assert_eq!(stale, Vec::<i32>::new(), "edits that were not seen at once");
    for mode in MODES {
        assert!(plain.get(&in_mode(&serde, mode)).page().contains("Edit number 29."), "{mode}");
    }

    // near costs the ping that makes it so, and nothing else
    let page = warm(&near, &serde, 0.0, 1.0);
    assert_eq!(figure(&page, "trips"), 1.0, "{page}");
    assert!(page.contains("Rows from Postgres, cached in Redis, near in front of it."), "{page}");
    let tiers = timing(&near.get(&serde));
    assert_eq!(tiers.is_some(), cfg!(debug_assertions));
    for (tier, costs) in tiers.into_iter().flat_map(|tiers| [("near", tiers.clone()), ("shared", tiers)]) {
        let found = costs.iter().find(|(name, _)| name == tier);
        let (_, said) = found.unwrap_or_else(|| panic!("no {tier} in {costs:?}"));
        assert!(if tier == "near" { said.ends_with("hits") } else { said == "1 trip" }, "{costs:?}");
    }
    for explorer in [plain, near, other] {
        assert_eq!(told(explorer), "");
    }
}

#[test]
fn near_shows_an_edit_at_once_also_where_news_travel_slowly() {
    let Some((redis, postgres)) = servers() else { return };
    let line = wait(Proxy::to(redis.addr()));
    let here = explorer(&redis, &postgres, &[]);
    let far = Explorer::start(&["--redis", &line.url(), "--postgres", &postgres.url(), "--near", "10000"]);
    let serde = package(&here, "serde");
    warm(&far, &serde, 0.0, 1.0);
    // what it is told of arrives later than a page that does not wait for it would be ready
    wait(line.slow(Duration::from_millis(100)));
    for nth in 0..2 {
        assert!(figure(&warm(&far, &serde, 0.0, 1.0), "trips") <= 1.0, "near knows the page");
        assert_eq!(here.post(&serde, &format!("description=Edit+number+{nth}.&keywords=")).status, 303);
        let page = far.get(&serde).page();
        assert!(page.contains(&format!("Edit number {nth}.")), "{page}");
    }
}

#[test]
fn no_page_of_two_processes_over_redis_is_stale_after_an_acknowledged_edit() {
    let Some((redis, postgres)) = servers() else { return };
    let (redis, postgres) = (redis.url(), postgres.url());
    web::load::under_load(&["--redis", &redis, "--postgres", &postgres], 2);
}

#[test]
fn no_page_of_two_processes_over_redis_is_stale_with_near_either() {
    let Some((redis, postgres)) = servers() else { return };
    let (redis, postgres) = (redis.url(), postgres.url());
    web::load::under_load(&["--redis", &redis, "--postgres", &postgres, "--near", "10000"], 2);
}

#[test]
fn pages_go_on_without_redis_and_are_hits_again_once_it_is_back() {
    let Some(redis) = wait(RedisServer::start()) else { return };
    let explorer = Explorer::start(&["--redis", &redis.url()]);
    let serde = package(&explorer, "serde");
    let pages = [serde.clone(), "/?q=serde".to_owned(), package(&explorer, "demo")];
    warm(&explorer, &serde, 0.0, 7.0);

    let (done, read) = (AtomicBool::new(false), AtomicUsize::new(0));
    let goes_on = || {
        let seen = read.load(Ordering::SeqCst);
        until("pages", || read.load(Ordering::SeqCst) >= seen + 12);
    };
    let page = std::thread::scope(|scope| {
        for nth in 0..4 {
            let (explorer, pages, done, read) = (&explorer, &pages, &done, &read);
            scope.spawn(move || {
                for address in pages.iter().cycle().skip(nth) {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    // every one of them is a page, before, while and after
                    if std::panic::catch_unwind(|| explorer.get(address).page()).is_err() {
                        done.store(true, Ordering::SeqCst);
                        panic!("{address} is no page");
                    }
                    read.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        goes_on();
        wait(redis.kill());
        let mut page = String::new();
        until("a page that passes Redis over", || {
            page = explorer.get(&serde).page();
            page.contains("passed over")
        });
        goes_on();
        wait(redis.restart_empty());
        until("a page from Redis", || figure(&explorer.get(&serde).page(), "statements") == 0.0);
        goes_on();
        done.store(true, Ordering::SeqCst);
        page
    });
    assert!(figure(&page, "statements") > 0.0, "it is from the database: {page}");
    assert!(page.contains("Authors") && page.contains("David Tolnay"), "{page}");
    warm(&explorer, &serde, 0.0, 7.0);
    let told = told(explorer);
    assert!(told.contains("is passed over") && told.contains("answers again"), "{told}");
    assert!(told.lines().all(|line| line.starts_with("demo: region packages: ")), "{told}");
    assert!(told.lines().count() < 30, "what is known already is not told again: {told}");
}

#[test]
fn an_edit_while_redis_is_out_shows_at_once_and_stays_when_redis_is_back() {
    let Some((redis, postgres)) = servers() else { return };
    let one = explorer(&redis, &postgres, &[]);
    let near = explorer(&redis, &postgres, &["--near", "10000"]);
    let serde = package(&one, "serde");
    warm(&one, &serde, 0.0, 7.0);
    warm(&near, &serde, 0.0, 1.0);
    wait(redis.kill());

    let form = "description=Written+without+Redis.&keywords=";
    assert_eq!(one.post(&serde, form).status, 303, "written is written");
    for explorer in [&one, &near] {
        for address in [&serde, "/?q=serde"] {
            let page = explorer.get(address).page();
            assert!(page.contains("Written without Redis."), "near was not told, and is not asked: {page}");
        }
    }

    wait(redis.restart_empty());
    warm(&one, &serde, 0.0, 7.0);
    warm(&near, &serde, 0.0, 1.0);
    for explorer in [&one, &near] {
        assert!(explorer.get(&serde).page().contains("Written without Redis."));
    }
    let told = told(one);
    assert!(told.contains("has not confirmed that") && told.contains("has confirmed, "), "{told}");
}

#[test]
fn a_redis_that_cannot_be_used_is_one_clear_line() {
    let run = |redis: &str| ended(demo(&["serve", "--port", "0", "--redis", redis]).spawn().unwrap());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = run(&format!("redis://user:secret@127.0.0.1:{free}"));
    line(&output, 1, &format!("127.0.0.1:{free}"));
    line(&output, 1, "Connection refused");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    line(&run("http://127.0.0.1"), 1, "redis://");
    let Some(guarded) = wait(RedisServer::builder().password("secret").start()) else { return };
    let output = run(&format!("redis://:wrong@{}", guarded.addr()));
    line(&output, 1, "password");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("wrong@"));
}
