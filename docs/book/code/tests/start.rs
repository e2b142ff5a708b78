//! The page that begins with an empty folder: its program does what it shows, over a PostgreSQL.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use mastaba_test::servers::Postgres;
use sqlx::PgPool;
use tower::ServiceExt;

#[allow(dead_code, unreachable_pub, reason = "a program of its own, whose `main` takes a fixed port")]
mod start {
    include!(concat!(env!("OUT_DIR"), "/start.rs"));
}

const PAGE: &str = include_str!("../../src/start/axum.md");

/// The blocks of a language.
fn blocks(language: &'static str) -> impl Iterator<Item = &'static str> {
    let opening = format!("```{language}\n");
    let parts: Vec<&'static str> = PAGE.split(opening.as_str()).skip(1).collect();
    parts.into_iter().filter_map(|rest| rest.split("```").next())
}

#[test]
fn the_program_of_the_page_has_at_most_forty_lines() {
    let program = blocks("rust,no_run").next().unwrap();
    assert!(program.lines().count() <= 40, "{} lines", program.lines().count());
}

#[tokio::test]
async fn the_program_of_the_page_answers_as_the_page_shows() {
    let Some(server) = Postgres::start().await else { return };
    let test = async {
        let pool = PgPool::connect(&format!("postgres://postgres@{}/postgres", server.addr())).await.unwrap();
        sqlx::raw_sql(blocks("sql").next().unwrap()).execute(&pool).await.unwrap();
        let app = start::app(pool).await.unwrap();
        // as `curl -i` prints it
        let shown: Vec<&str> = blocks("text").filter(|block| block.starts_with("HTTP/1.1 200")).collect();
        assert_eq!(shown.len(), 2, "a first answer, and another one");
        for (shown, statements) in shown.iter().zip(["3 statements", "0 statements"]) {
            let request = Request::get("/blog/1").body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let header = response.headers()["server-timing"].to_str().unwrap().to_owned();
            assert!(header.contains(statements), "{header}");
            assert!(shown.contains(statements), "the page shows it: {shown}");
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(shown.contains(&body), "the page shows another answer than {body}");
            // fills are on their way
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs");
}
