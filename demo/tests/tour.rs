//! The tour as a reader starts it: its figures, its bounds, and how it behaves in a pipe.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const STEPS: [&str; 18] = [
    "cold-get",
    "same-get",
    "warm-request",
    "absent",
    "absent-again",
    "joined-gets",
    "batch",
    "three-levels",
    "three-levels-warm",
    "names",
    "near",
    "force-past-request",
    "force-past-shared",
    "invalidate",
    "after-invalidate",
    "refresh",
    "after-refresh",
    "restart",
];

const FIGURES: [&str; 9] = [
    "request_hits",
    "near_hits",
    "shared_hits",
    "loaded",
    "absent",
    "shared_trips",
    "statements",
    "naive_statements",
    "micros",
];

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo")).args(args).output().expect("the demo can be started")
}

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "it failed: {stderr}");
    String::from_utf8(output.stdout.clone()).expect("the demo writes UTF-8")
}

/// The steps of one tour, in their order.
struct Tour(Vec<Value>);

impl Tour {
    fn given() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = demo(&["tour", "--json", "--data-dir", folder.path().to_str().unwrap()]);
        Self(stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn of(&self, step: &str, figure: &str) -> u64 {
        let found = self.0.iter().find(|each| each["step"] == step);
        let found = found.unwrap_or_else(|| panic!("there is no step {step}"));
        found[figure].as_u64().unwrap_or_else(|| panic!("{step} has no {figure}: {found}"))
    }

    fn figures<const N: usize>(&self, step: &str, figures: [&str; N]) -> [u64; N] {
        figures.map(|figure| self.of(step, figure))
    }
}

#[test]
fn every_step_is_one_object_with_all_figures_in_the_order_of_the_tour() {
    let tour = Tour::given();
    let steps: Vec<_> = tour.0.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, STEPS);
    for step in &tour.0 {
        assert!(step["asked"].as_str().is_some_and(|asked| !asked.is_empty()), "{step}");
        for figure in FIGURES {
            assert!(step[figure].is_u64(), "{figure} of {step}");
        }
    }
}

#[test]
fn each_tier_answers_what_the_tour_says_it_does() {
    let tour = Tour::given();
    let tiers =
        ["request_hits", "near_hits", "shared_hits", "loaded", "absent", "shared_trips", "statements"];
    for (step, expected) in [
        ("cold-get", [0, 0, 0, 1, 0, 2, 1]),
        ("same-get", [1, 0, 0, 0, 0, 0, 0]),
        ("warm-request", [0, 0, 1, 0, 0, 1, 0]),
        ("absent", [0, 0, 0, 1, 1, 1, 1]),
        ("absent-again", [0, 0, 1, 0, 1, 1, 0]),
        ("near", [0, tour.of("names", "loaded"), 0, 0, 0, 0, 0]),
        ("force-past-request", [0, 0, 1, 0, 0, 1, 0]),
        ("force-past-shared", [0, 0, 0, 1, 0, 0, 1]),
        ("invalidate", [0, 0, 0, 0, 0, 1, 0]),
        ("after-invalidate", [0, 0, 0, 1, 0, 1, 1]),
        ("refresh", [0, 0, 0, 1, 0, 1, 1]),
        ("after-refresh", [0, 0, 1, 0, 0, 1, 0]),
    ] {
        assert_eq!(tour.figures(step, tiers), expected, "{step}: {tiers:?}");
    }
    assert_eq!(tour.figures("joined-gets", ["shared_trips", "statements", "naive_statements"]), [1, 1, 20]);
    let [shared, loaded, absent, statements] =
        tour.figures("batch", ["shared_hits", "loaded", "absent", "statements"]);
    assert!(shared > 0 && loaded > 0, "part hit, part miss: {shared} and {loaded}");
    assert_eq!([shared + loaded, absent, statements], [101, 1, 1]);
}

#[test]
fn three_levels_are_one_read_each_and_one_statement_per_level_and_source() {
    let tour = Tour::given();
    let [reads, trips, statements, naive, loaded] = tour.figures(
        "three-levels",
        ["shared_reads", "shared_trips", "statements", "naive_statements", "loaded"],
    );
    assert_eq!(reads, 3, "one read of the shared tier per level");
    assert!(trips <= 2 * reads, "and a lease where a source is loaded for the first time: {trips} trips");
    // dependencies, authors, features and keywords; their packages; and the four again
    assert!((6..=4 + 1 + 4).contains(&statements), "{statements} statements");
    assert!(naive > 20 * statements && loaded > 20 * statements, "naive {naive}, loaded {loaded}");

    // the packages themselves are a level more here
    assert_eq!(tour.figures("three-levels-warm", ["shared_trips", "statements", "loaded"]), [4, 0, 0]);
    assert_eq!(tour.figures("restart", ["shared_trips", "statements", "loaded"]), [4, 0, 0]);
    assert!(tour.of("restart", "shared_hits") > 100);
}

#[test]
fn a_table_is_one_line_a_step_and_colours_are_for_terminals() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).env("CLICOLOR_FORCE", "1").output().unwrap();
    let text = stdout(&output);
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(output.stderr.is_empty(), "no progress bar either: {}", String::from_utf8_lossy(&output.stderr));
    let numbered = |line: &&str| {
        let columns = line.get(..2).zip(line.get(2..4));
        columns.is_some_and(|(at, gap)| at.trim().parse::<usize>().is_ok() && gap == "  ")
    };
    assert_eq!(text.lines().filter(numbered).count(), STEPS.len(), "{text}");
}

#[test]
fn its_folder_goes_with_it_unless_it_is_to_be_kept() {
    let parent = tempfile::tempdir().unwrap();
    let folders = |at: &Path| std::fs::read_dir(at).unwrap().count();
    let given = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        stdout(&command.env("TMPDIR", parent.path()).args(args).output().unwrap())
    };
    if cfg!(unix) {
        given(&["tour"]);
        assert_eq!(folders(parent.path()), 0);
        let text = given(&["--keep"]);
        assert_eq!(folders(parent.path()), 1);
        assert!(text.contains(parent.path().to_str().unwrap()), "{text}");
    }
    let data = parent.path().join("data");
    given(&["--data-dir", data.to_str().unwrap()]);
    given(&["--data-dir", data.to_str().unwrap()]);
    assert_eq!(folders(&data), 2, "every tour has a folder of its own, so that cold is cold");
}

#[test]
fn help_says_how_to_use_it() {
    let text = stdout(&demo(&["--help"]));
    for word in [
        "cargo run",
        "tour",
        "--json",
        "--data-dir",
        "--keep",
        "serve",
        "--port",
        "--host",
        "--postgres",
        "--redis",
        "--near",
    ] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
}

#[test]
fn what_it_does_not_know_is_one_line_and_a_failure() {
    for args in [&["--jsn"][..], &["tuor"], &["tour", "tour"], &["--data-dir"], &["restarted"]] {
        let output = demo(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert!(stderr.contains("--help") && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn a_missing_cargo_is_told_in_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).env("CARGO", "no-such-cargo").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("no-such-cargo") && stderr.contains("cargo metadata"), "{stderr}");
}
