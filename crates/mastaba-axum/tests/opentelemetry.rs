//! What OpenTelemetry is given of a request.

#[allow(dead_code)]
#[path = "../examples/opentelemetry.rs"]
mod example;

#[tokio::test]
async fn the_reads_of_a_request_are_exported_under_its_span() {
    let spans = tokio::time::timeout(std::time::Duration::from_secs(20), example::spans());
    let lines = spans.await.expect("the test hangs");
    let load = |source: &str| format!("      - trip operation=load name={source} keys=1 statements=1");
    let read = |source: &str| {
        [
            "    read".to_owned(),
            "      - trip operation=read name=objects keys=1 statements=0".to_owned(),
            "      - trip operation=lease name=objects keys=1 statements=0".to_owned(),
            load(source),
            "      - trip operation=fill name=objects keys=1 statements=0".to_owned(),
        ]
    };
    let mut expected = vec!["http".to_owned(), "  request_cache".to_owned()];
    expected.push("    - request status=200 trips=4 statements=2".to_owned());
    expected.extend(read("user"));
    expected.extend(read("photo"));
    assert_eq!(lines, expected, "\n{}", lines.join("\n"));
}
