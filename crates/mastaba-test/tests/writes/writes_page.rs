//! The page on writes names the test that shows each promise: they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands between backticks and is as long as the name of a test.
fn named(page: &str) -> BTreeSet<String> {
    let words = page.split('`').skip(1).step_by(2);
    words
        .filter(|word| word.matches('_').count() >= 4 && !word.contains([' ', '(', '.']))
        .map(str::to_owned)
        .collect()
}

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_page_on_writes_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = named(&fs::read_to_string(root.join("docs/writes.md")).unwrap());
    assert!(named.len() >= 25, "{named:?}");
    let mut text = String::new();
    sources(&root.join("crates"), &mut text);
    let missing: Vec<_> = named.iter().filter(|name| !text.contains(&format!("fn {name}"))).collect();
    assert!(missing.is_empty(), "docs/writes.md names tests that are not there: {missing:?}");
}
