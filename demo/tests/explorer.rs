//! The explorer over real HTTP: its pages, its figures, its edits, and what it refuses.

mod web;

use std::net::TcpListener;

use mastaba_test::servers::Signal;

use self::web::{Explorer, MODES, content, demo, ended, figure, in_mode, line, links, package};

#[test]
fn every_page_shows_the_same_in_every_mode() {
    let explorer = Explorer::start(&[]);
    let serde = package(&explorer, "serde");
    let page = explorer.get(&serde).page();
    let author = links(&page, "/authors/").remove(0);
    let license = links(&page, "/licences/").remove(0);
    for address in
        ["/", "/?page=2", "/?q=SER", "/?q=%25", "/?q=nothing-is-called-this", &serde, &author, &license]
    {
        let pages = MODES.map(|mode| explorer.get(&in_mode(address, mode)).page());
        let contents = pages.each_ref().map(|page| content(page));
        assert!(contents[0] == contents[1] && contents[1] == contents[2], "{address}: {contents:#?}");
    }
    for word in ["Authors", "Dependencies", "Features", "Dependents", "David Tolnay", "serde_core", "MIT"] {
        assert!(page.contains(word), "{word} is missing in {page}");
    }
    for address in [format!("{serde}/edit"), format!("{author}/edit")] {
        assert!(explorer.get(&address).page().contains("<form class=\"edit\" method=\"post\""), "{address}");
    }
    let found = links(&explorer.get("/?q=serde").page(), "/packages/");
    assert_eq!(found[0], serde, "the one that is called like that comes first");
    assert!(!explorer.get("/?q=%25").page().contains("class=\"card\""), "text is no pattern");

    assert_eq!(explorer.get("/healthz").body, "ok\n");
    let style = explorer.get("/style.css");
    assert!(style.status == 200 && style.header("content-type").unwrap().starts_with("text/css"));
    let icon = explorer.get("/favicon.svg");
    assert!(icon.status == 200 && icon.header("content-type") == Some("image/svg+xml"));
}

#[test]
fn a_page_costs_a_statement_per_object_or_per_level_or_none() {
    let explorer = Explorer::start(&[]);
    let address = package(&explorer, "demo");
    let cost = |mode: &str| {
        let page = explorer.get(&in_mode(&address, mode)).page();
        (figure(&page, "statements"), figure(&page, "trips"), figure(&page, "ms"))
    };
    let cold = cost("mastaba");
    let (naive, loader) = (cost("naive"), cost("dataloader"));
    web::warm(&explorer, &address, 0.0, 7.0);
    let warm = cost("mastaba");
    assert!(naive.0 > 100.0 && naive.0 > 5.0 * loader.0, "naive {naive:?}, DataLoader {loader:?}");
    assert!(cold.0 > 0.0 && cold.0 <= 24.0, "eleven sources, in few levels: {cold:?}");
    assert!(loader.0 > 5.0, "{loader:?}");
    assert_eq!(warm.0, 0.0, "warm it asks the database for nothing: {warm:?}");
    assert!(warm.1 > 0.0 && warm.1 <= 7.0, "one read of the shared tier per level: {warm:?}");
    assert_eq!((naive.0, loader.0), (naive.1, loader.1), "statements are all their trips");
    assert!([naive, loader, warm].iter().all(|cost| cost.2 > 0.0));

    // the list asks one thing that no cache can know: what was found
    let list = web::warm(&explorer, "/?q=to", 1.0, 4.0);
    assert_eq!(figure(&list, "statements"), 1.0);

    // and all are beside each other once they were looked at
    let page = explorer.get(&address).page();
    assert!(!page.contains(">try</a>"), "{page}");
    let numbers = format!("<span class=\"number\">{}</span>", naive.0);
    assert!(page.contains(&numbers), "{numbers} is missing in {page}");
}

#[test]
fn near_answers_without_a_trip() {
    let explorer = Explorer::start(&["--near", "10000"]);
    let address = package(&explorer, "serde");
    web::warm(&explorer, &address, 0.0, 0.0);
    let edited = explorer.post(&address, "description=near+has+forgotten&keywords=");
    assert_eq!(edited.status, 303);
    assert!(explorer.get(&address).page().contains("near has forgotten"));
}

#[test]
fn an_edit_shows_on_every_other_page_at_once_in_every_mode() {
    let explorer = Explorer::start(&[]);
    let serde = package(&explorer, "serde");
    let others = ["/?q=serde".to_owned(), serde.clone()];
    for (nth, mode) in MODES.iter().enumerate() {
        // all of them know it
        others.iter().for_each(|address| drop(explorer.get(address).page()));
        let form = format!("description=Edit+%3Cb%3E{nth}%3C%2Fb%3E+%26&keywords=one+word{nth}");
        let edited = explorer.post(&in_mode(&serde, mode), &form);
        assert_eq!(edited.status, 303, "{}", edited.body);
        let location = edited.header("location").unwrap().to_owned();
        assert!(explorer.get(&location).page().contains("Saved and published"), "{location}");
        for address in &others {
            for mode in MODES {
                let page = explorer.get(&in_mode(address, mode)).page();
                let shown = format!("Edit &lt;b&gt;{nth}&lt;/b&gt; &amp;");
                assert!(page.contains(&shown), "{address} in {mode}: {page}");
            }
        }
        for mode in MODES {
            let page = explorer.get(&in_mode(&serde, mode)).page();
            assert!(page.contains(&format!("#word{nth}")) && page.contains("#one"), "{page}");
            assert!(!page.contains("#serialization"), "{page}");
        }
    }

    // an author stands on the pages of packages, and of what depends on them
    let author = links(&explorer.get(&serde).page(), "/authors/").remove(0);
    let others = [serde, package(&explorer, "serde_core"), package(&explorer, "demo"), author.clone()];
    others.iter().for_each(|address| drop(explorer.get(address).page()));
    assert_eq!(explorer.post(&author, "name=Somebody+New+%3Cx%40example.org%3E").status, 303);
    for address in &others {
        for mode in MODES {
            let page = explorer.get(&in_mode(address, mode)).page();
            assert!(page.contains("Somebody New") && !page.contains("example.org"), "{address}: {page}");
        }
    }
}

#[test]
fn a_form_with_something_wrong_comes_back_with_what_was_typed() {
    let explorer = Explorer::start(&[]);
    let serde = package(&explorer, "serde");
    let long = "x".repeat(501);
    let answer = explorer.post(&serde, &format!("description={long}&keywords=1+2+3+4+5+6+7+8+9+10+11"));
    assert_eq!(answer.status, 422);
    assert!(
        answer.body.contains("500 characters") && answer.body.contains("Ten keywords"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(&long), "{}", answer.body);
    assert!(!explorer.get(&serde).page().contains("xxx"), "and nothing was written");

    let page = explorer.get(&serde).page();
    let mut authors = links(&page, "/authors/");
    authors.dedup();
    let name = explorer.get(&format!("{}/edit", authors[1])).page();
    let name = name.split_once("id=\"name\"").unwrap().1.split_once("value=\"").unwrap().1;
    let name = name.split('"').next().unwrap().replace("&lt;", "<").replace("&gt;", ">");
    let name = name.replace(' ', "+").replace('<', "%3C").replace('>', "%3E");
    let answer = explorer.post(&authors[0], &format!("name={name}"));
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("Another author has this name"), "{}", answer.body);
}

#[test]
fn what_cannot_be_meant_is_refused_on_every_route() {
    let explorer = Explorer::start(&[]);
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let ids = [
        "0",
        "-1",
        "01",
        "x",
        "1x",
        "999999999",
        "99999999999999999999999",
        "%FF",
        "%00",
        "1%2F2",
        "+1",
        "%20",
    ];
    for id in ids {
        for address in [
            format!("/packages/{id}"),
            format!("/packages/{id}/edit"),
            format!("/authors/{id}"),
            format!("/authors/{id}/edit"),
            format!("/licences/{id}"),
        ] {
            explorer.get(&address).refused(&address);
        }
        for (address, body) in [("packages", "description=&keywords="), ("authors", "name=x")] {
            let address = format!("/{address}/{id}");
            explorer.post(&address, body).refused(&address);
        }
    }
    for query in [
        "mode=fast",
        "mode=",
        "page=0",
        "page=-1",
        "page=x",
        "page=10001",
        "page=9999",
        "q=%FF",
        "q=%00",
        "q=a&q=b",
        "mode=naive&mode=naive",
        "page=99999999999999999999999",
    ] {
        for route in ["/", "/authors/1", "/licences/1"] {
            let address = format!("{route}?{query}");
            explorer.get(&address).refused(&address);
        }
    }
    let long = format!("/?q={}", "x".repeat(101));
    explorer.get(&long).refused("a long search");
    for route in ["/packages/1", "/packages/1/edit", "/authors/1/edit"] {
        explorer.get(&format!("{route}?mode=fast")).refused(route);
    }
    for address in [
        "/nothing",
        "/packages",
        "/packages/",
        "/packages/1/",
        "/packages/1/edit/x",
        "/%FF",
        "//",
        "/style.css/",
    ] {
        explorer.get(address).refused(address);
    }
    for address in ["/packages/1", "/authors/1"] {
        for body in [
            "",
            "x=1",
            "description=x",
            "keywords=x",
            "description=%FF&keywords=%FF",
            "name=%00",
            "name=",
            "name=a&name=b",
            "description=a&description=b&keywords=",
            "\u{0}",
            "name=%F0%28%8C%28",
        ] {
            let answer = explorer.post(address, body);
            answer.refused(&format!("{address} with {body:?}"));
        }
        explorer.post_with(address, "", b"name=x").refused("no content type");
        explorer.post_with(address, "content-type: application/json\r\n", b"{}").refused("JSON");
        let large = vec![b'x'; 100_000];
        let answer = explorer.post_with(address, form, &[b"name=", &large[..]].concat());
        assert_eq!(answer.status, 413);
        answer.refused("a large body");
        let foreign = format!("{form}origin: https://example.org\r\n");
        let answer = explorer.post_with(address, &foreign, b"name=x&description=x&keywords=");
        assert_eq!(answer.status, 403);
        answer.refused("a form of another site");
        let unknown = format!("{form}origin: null\r\n");
        assert_eq!(explorer.post_with(address, &unknown, b"name=x").status, 403);
        explorer.post(&format!("{address}?mode=fast"), "name=x&description=x&keywords=").refused("a mode");
    }
    for (method, address) in [
        ("POST", "/"),
        ("DELETE", "/packages/1"),
        ("PUT", "/authors/1"),
        ("PATCH", "/healthz"),
        ("POST", "/licences/1"),
        ("POST", "/packages/1/edit"),
    ] {
        let host = &explorer.host;
        let request = format!("{method} {address} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = explorer.send(&request);
        assert_eq!(answer.status, 405, "{method} {address}");
        answer.refused(address);
    }
    for request in ["rubbish\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\u{1} HTTP/1.1\r\n\r\n"] {
        assert_eq!(explorer.send(request).status, 400, "{request:?}");
    }
    assert!(explorer.get("/packages/1").page().contains("<h1>"), "and it is still well");
    let own = format!("{form}origin: http://{}\r\n", explorer.host);
    assert_eq!(explorer.post_with("/packages/1", &own, b"description=x&keywords=").status, 303);
}

#[test]
fn every_page_says_what_browsers_may_do_with_it() {
    let explorer = Explorer::start(&[]);
    for address in ["/", "/nothing", "/healthz", "/style.css"] {
        let answer = explorer.get(address);
        assert!(
            answer.header("content-security-policy").unwrap().contains("default-src 'none'"),
            "{address}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{address}");
    }
    assert_eq!(explorer.get("/").header("cache-control"), Some("no-store"));
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_in_order_and_its_files_go_with_it() {
    for signal in [Signal::Int, Signal::Term] {
        let explorer = Explorer::start(&[]);
        explorer.get("/").page();
        // a browser keeps connections that it does not use
        let idle = web::connect(&explorer.host);
        let output = explorer.signal(signal);
        drop(idle);
        assert_eq!(output.status.code(), Some(0), "{signal:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    let temporary = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let at = data.path().join("made").display().to_string();
    let explorer = Explorer::start(&["--data-dir", &at]);
    let demo = package(&explorer, "demo");
    let form = "description=kept+over+a+restart&keywords=";
    assert_eq!(explorer.post(&demo, form).status, 303);
    explorer.get(&demo).page();
    assert_eq!(explorer.signal(Signal::Int).status.code(), Some(0));
    let explorer = Explorer::start(&["--data-dir", &at]);
    let page = explorer.get(&demo).page();
    assert!(page.contains("kept over a restart"), "{page}");
    assert_eq!(figure(&page, "statements"), 0.0, "the file is warm: it was closed in order");
    assert_eq!(explorer.signal(Signal::Term).status.code(), Some(0));

    // also while it is still starting
    let mut child = demo_in(temporary.path());
    std::thread::sleep(std::time::Duration::from_millis(300));
    mastaba_test::servers::signal(child.id(), Signal::Int);
    drop(child.stdout.take());
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "its files are gone");
}

#[cfg(unix)]
fn demo_in(folder: &std::path::Path) -> std::process::Child {
    demo(&["serve", "--port", "0"]).env("TMPDIR", folder).spawn().unwrap()
}

#[test]
fn what_keeps_it_from_starting_is_one_clear_line() {
    let run = |args: &[&str]| ended(demo(args).spawn().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    line(&run(&["serve", "--port", &port]), 1, &format!("port {port} of 127.0.0.1 is taken"));
    line(&run(&["serve", "--port", "0", "--host", "no.such.host.invalid"]), 1, "no.such.host.invalid");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("postgres://user:secret@127.0.0.1:{free}/packages");
    let output = run(&["serve", "--port", "0", "--postgres", &nobody]);
    line(&output, 1, &format!("no way into the database packages at 127.0.0.1:{free}: Connection refused"));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    line(&run(&["serve", "--port", "0", "--postgres", "mysql://x"]), 1, "postgres://");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    line(&run(&["serve", "--port", "0", "--data-dir", file.to_str().unwrap()]), 1, "--data-dir");
    std::fs::write(folder.path().join("packages.sqlite"), "no database at all, but text".repeat(40)).unwrap();
    line(
        &run(&["serve", "--port", "0", "--data-dir", folder.path().to_str().unwrap()]),
        1,
        "cannot be opened",
    );

    for args in [
        &["serve", "--port"][..],
        &["serve", "--port", "x"],
        &["serve", "--port", "65536"],
        &["serve", "--near", "0"],
        &["serve", "--json"],
        &["serve", "serve"],
        &["tour", "--port", "1"],
        &["--redis", "redis://127.0.0.1"],
    ] {
        line(&run(args), 2, "--help");
    }
}

#[test]
fn the_package_page_with_three_levels_costs_few_trips_and_statements_and_naively_one_per_object() {
    let explorer = Explorer::start(&[]);
    let address = package(&explorer, "demo");
    let cold = explorer.get(&address).page();
    // a package, what it is built from, whose work that is, and what else is theirs
    let dependency = cold.split_once("<ul class=\"branches\">").unwrap().1;
    let author = dependency.split_once("<div class=\"person\">").unwrap().1;
    assert!(author.split("</div>").next().unwrap().contains("class=\"chip\""), "{author}");

    assert!(cold.contains("Read it naively"), "nobody has yet: {cold}");
    let naive = explorer.get(&in_mode(&address, "naive")).page();
    assert!(report(&naive).is_none(), "only Mastaba has a report");
    let naive = figure(&naive, "statements");
    let beside = format!("Read naively, the same page made {naive} statements");
    // each level waits for the one before: five reads, and cold a lease after each
    let warm = web::warm(&explorer, &address, 0.0, 5.0);
    assert!(warm.contains(&beside), "{warm}");

    for (page, trips, statements) in [(cold, 10, 15), (warm, 5, 0)] {
        let report = report(&page).unwrap();
        let head = report.lines().next().unwrap();
        let cost: Vec<usize> = head.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(
            cost[0] <= trips && cost[1] <= statements,
            "{trips} trips, {statements} statements: {report}"
        );
        assert_eq!((cost[0] + cost[1]) as f64, figure(&page, "trips"), "the panel says the same: {report}");
        assert!(naive > 100.0 && 10.0 * (cost[1] as f64) < naive, "{naive} naively: {report}");
        assert!(report.contains(" read ") && report.contains("package"), "{report}");
        assert_eq!(report.contains(" load "), statements > 0, "{report}");
    }
}

/// The report at the foot of a page.
fn report(page: &str) -> Option<&str> {
    let report = page.split_once("<aside class=\"report\"")?.1;
    Some(report.split_once("<pre tabindex=\"0\">")?.1.split_once("</pre>")?.0)
}

#[test]
fn a_debug_build_says_the_cost_per_tier_in_a_header_of_its_own() {
    let explorer = Explorer::start(&[]);
    let serde = package(&explorer, "serde");
    web::warm(&explorer, &serde, 0.0, 7.0);
    for (address, statements) in [(serde.clone(), "0 statements"), (format!("{serde}/edit"), "2 statements")]
    {
        let answer = explorer.get(&address);
        let tiers = web::timing(&answer);
        assert_eq!(tiers.is_some(), cfg!(debug_assertions), "{}", answer.head);
        let Some(tiers) = tiers else { continue };
        let said = |tier: &str| tiers.iter().find(|(name, _)| name == tier).map(|(_, said)| said.as_str());
        assert_eq!(said("source"), Some(statements), "{}", answer.head);
        assert!(said("shared").is_some_and(|said| said.contains("trip")) && said("total").is_some());
        assert_eq!(said("near"), None, "there is none: {}", answer.head);
    }
}
