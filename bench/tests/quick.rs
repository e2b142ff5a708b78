//! That the bench runs, and the counts that do not depend on the machine.

use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mastaba-bench")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_row_names_ours_the_reference_and_the_peers() {
    let (sound, out, err) = bench(&["P1", "P2", "--json", "--quick"]);
    assert!(sound, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in ["P1", "P2 1 thread", "P2 2 threads"] {
        let cases: Vec<_> = lines
            .iter()
            .filter(|line| line["row"] == row)
            .map(|line| line["case"].as_str().unwrap())
            .collect();
        for case in ["reference", "mastaba", "quick_cache", "moka future"] {
            assert!(cases.contains(&case), "{row} has {cases:?}");
        }
    }
    for line in &lines {
        for field in ["median", "ratio", "p25", "p75"] {
            assert!(line[field].as_f64().unwrap() > 0.0, "{line}");
        }
        assert!(line["unit"].is_string());
    }
}

#[test]
fn a_multi_get_allocates_no_more_than_it_may() {
    let (sound, out, err) = bench(&["P9", "--json", "--quick"]);
    assert!(sound, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ours = |row: &str| {
        let line = lines.iter().find(|line| line["row"] == row && line["case"] == "mastaba").unwrap();
        line["median"].as_f64().unwrap()
    };
    assert!(ours("P9 request") <= 1.0, "{}", ours("P9 request"));
    assert!(ours("P9 near") <= 110.0, "{}", ours("P9 near"));
    assert!(ours("P9 shared") <= 528.0, "{}", ours("P9 shared"));
}

#[test]
fn an_unknown_row_is_told_what_there_is() {
    let (sound, _, err) = bench(&["P77"]);
    assert!(!sound && err.contains("P77") && err.contains("P1, P2"), "{err}");
}
