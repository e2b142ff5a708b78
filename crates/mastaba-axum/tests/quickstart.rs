//! The quickstart of the README is an example of this crate, and it works.

use std::time::Duration;

#[allow(dead_code, unreachable_pub)] // its `main` takes a fixed port
#[path = "../examples/quickstart.rs"]
mod quickstart;

#[allow(dead_code)]
#[path = "web/http.rs"]
mod http;

const README: &str = include_str!("../../../README.md");
const EXAMPLE: &str = include_str!("../examples/quickstart.rs");

#[test]
fn the_readme_shows_the_example_in_at_most_forty_lines() {
    let (_, section) = README.split_once("\n## In axum\n").expect("the section of the README");
    let (_, block) = section.split_once("```rust,no_run\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (_, code) = EXAMPLE.split_once("\n\n").unwrap();
    assert_eq!(block, code, "README.md and examples/quickstart.rs have to be changed together");
    assert!(block.lines().count() <= 40, "{} lines", block.lines().count());
}

#[tokio::test]
async fn the_quickstart_answers() {
    let test = async {
        let address = http::serve(quickstart::app().await.unwrap()).await;
        let reply = http::get(address, "/book/7").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "Book 7, and then Book 8"));
        if cfg!(debug_assertions) {
            let header = reply.header("server-timing").unwrap();
            assert!(header.contains("1 statement"), "both titles by one: {header}");
        }
        assert_eq!(http::get(address, "/book/999").await.body, "Book 999, and then nothing");
        assert_eq!(http::get(address, "/book/1000").await.status, 404);
    };
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs");
}
