//! The explorer over Postgres: the same pages from the same rows.

#![cfg(unix)]

mod web;

use mastaba_test::servers::{Postgres, Signal};

use self::web::{Explorer, MODES, content, demo, ended, figure, in_mode, line, links, package, wait};

#[test]
fn pages_over_postgres_are_those_over_sqlite() {
    let Some(server) = wait(Postgres::start()) else { return };
    let url = server.url();
    let postgres = Explorer::start(&["--postgres", &url]);
    let sqlite = Explorer::start(&[]);
    let serde = package(&postgres, "serde");
    let author = links(&postgres.get(&serde).page(), "/authors/").remove(0);
    let license = links(&postgres.get(&serde).page(), "/licences/").remove(0);
    let ends = |page: String| content(&page).replace("Rows from Postgres", "Rows from SQLite");
    for address in ["/", "/?q=serde", "/?q=%5C%25_", "/?page=2", &serde, "/packages/1", &author, &license] {
        let expected = ends(sqlite.get(address).page());
        for mode in MODES {
            assert!(ends(postgres.get(&in_mode(address, mode)).page()) == expected, "{address} in {mode}");
        }
    }
    let costs = MODES.map(|mode| figure(&postgres.get(&in_mode(&serde, mode)).page(), "statements"));
    assert!(costs[0] > 5.0 * costs[1] && costs[1] > 0.0 && costs[2] == 0.0, "{costs:?}");
    for address in
        ["/?q=%00", "/packages/99999999999999999999", "/packages/9223372036854775807", "/authors/x"]
    {
        postgres.get(address).refused(address);
    }
    postgres.post(&serde, "description=%00&keywords=").refused("a zero");

    let edited = postgres.post(&serde, "description=Written+to+Postgres&keywords=new");
    assert_eq!(edited.status, 303);
    for mode in MODES {
        assert!(postgres.get(&in_mode("/?q=serde", mode)).page().contains("Written to Postgres"), "{mode}");
    }
    assert_eq!(postgres.signal(Signal::Int).status.code(), Some(0));
    let again = Explorer::start(&["--postgres", &url]);
    assert!(again.get(&serde).page().contains("Written to Postgres"), "it is found, and not filled again");

    let refused = |url: &str, word: &str| {
        line(&ended(demo(&["serve", "--port", "0", "--postgres", url]).spawn().unwrap()), 1, word);
    };
    let at = server.addr();
    refused(&format!("postgres://postgres@{at}/nowhere"), "database \"nowhere\" does not exist");
    refused(&format!("postgres://nobody@{at}/postgres"), "role \"nobody\" does not exist");
}

#[test]
fn no_page_over_postgres_is_stale_after_an_acknowledged_edit() {
    let Some(server) = wait(Postgres::start()) else { return };
    web::load::under_load(&["--postgres", &server.url()], 1);
}

#[test]
fn without_postgres_what_the_cache_knows_is_shown_and_the_rest_says_that_it_cannot_be() {
    let Some(server) = wait(Postgres::start()) else { return };
    let explorer = Explorer::start(&["--postgres", &server.url()]);
    let serde = package(&explorer, "serde");
    let page = web::warm(&explorer, &serde, 0.0, 7.0);
    let cold = package(&explorer, "tokio");
    wait(server.stop());

    // eight at once: each waits for a connection that does not come
    let asked = [
        in_mode(&serde, "naive"),
        in_mode(&serde, "dataloader"),
        cold.clone(),
        "/".to_owned(),
        "/?q=serde".to_owned(),
        format!("{serde}/edit"),
    ];
    let form = "description=lost&keywords=";
    std::thread::scope(|scope| {
        for address in &asked {
            let explorer = &explorer;
            scope.spawn(move || explorer.get(address).unavailable("The database does not answer"));
        }
        scope.spawn(|| explorer.post(&serde, form).unavailable("The database does not answer"));
        scope.spawn(|| {
            let known = explorer.get(&serde).page();
            assert!(content(&known) == content(&page), "{known}");
        });
    });
    assert_eq!(explorer.get("/nothing").status, 404);

    wait(server.restart());
    for address in asked {
        explorer.get(&address).page();
    }
    assert!(!explorer.get(&serde).page().contains("lost"));
    let output = explorer.signal(Signal::Term);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.is_empty() && told.lines().all(|line| line.starts_with("demo: ")), "{told}");
}
