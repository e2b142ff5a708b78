//! The tests of `mastaba-redis` against servers of several kinds: `cargo xtask test --servers redis7,valkey9`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use crate::cargo::{self, Call};
use crate::servers::programs::Program;
use crate::servers::{self, Readiness};
use crate::summary::Outcome;
use crate::workspace::Workspace;

const PACKAGE: &str = "mastaba-redis";

/// Names the server that the tests start.
pub(crate) const SERVER: &str = "MASTABA_REDIS_SERVER";

/// Names the file in which tests say that they were skipped.
const SKIPPED: &str = "MASTABA_SKIPPED";

/// A kind of server, by the name that it has on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
}

static SERVERS: [Server; 4] = [
    Server { name: "redis7", program: Program::RedisServer },
    Server { name: "redis8", program: Program::Redis8 },
    Server { name: "valkey8", program: Program::Valkey8 },
    Server { name: "valkey9", program: Program::Valkey9 },
];

/// The servers of these names, in this order.
pub(crate) fn select(names: &[String]) -> Result<Vec<Server>, String> {
    let known: Vec<&str> = SERVERS.iter().map(|server| server.name).collect();
    let find = |name: &String| SERVERS.iter().copied().find(|server| server.name == name);
    let unknown = |name: &String| format!("no server `{name}`; there are: {}", known.join(", "));
    names.iter().map(|name| find(name).ok_or_else(|| unknown(name))).collect()
}

/// Where a server is, fetched or installed first where it is not there. An error says why it cannot be had, and whether that
/// may be.
pub(crate) fn find(server: Server) -> Result<String, (Readiness, String)> {
    let ready = servers::prepare_for(&[server.program]);
    match (&ready, server.program.find()) {
        (Readiness::Lacking(why) | Readiness::Failed(why), _) => {
            let why = why.clone();
            Err((ready, why))
        }
        (Readiness::Ready, Some(path)) => Ok(path.display().to_string()),
        (Readiness::Ready, None) => {
            let why = format!("{} has gone", server.name);
            Err((Readiness::Failed(why.clone()), why))
        }
    }
}

/// Runs the tests once for each server, and prints a table.
pub(crate) fn run(servers: &[Server], workspace: &Workspace) -> Outcome {
    let rows: Vec<Row> = servers.iter().map(|server| test(*server, workspace)).collect();
    println!("\n{}", Matrix(&rows));
    outcome(&rows)
}

fn outcome(rows: &[Row]) -> Outcome {
    let absent = rows.iter().filter_map(|row| row.absent.as_ref());
    let absent: Vec<&str> = absent.map(String::as_str).collect();
    if rows.iter().any(|row| row.is_bad) {
        Outcome::Failed
    } else if absent.is_empty() {
        Outcome::Ok
    } else {
        Outcome::Skipped(absent.join("; "))
    }
}

fn test(server: Server, workspace: &Workspace) -> Row {
    let path = match find(server) {
        Ok(path) => path,
        Err((ready, why)) => {
            let is_bad = matches!(ready, Readiness::Failed(_));
            return Row { server: server.name, absent: Some(why), is_bad, ..Row::default() };
        }
    };
    let mut row = Row { server: server.name, version: version_of(&path), ..Row::default() };
    let file = match tempfile::NamedTempFile::new() {
        Ok(file) => file,
        Err(error) => return Row { absent: Some(error.to_string()), is_bad: true, ..row },
    };
    let call = call(cargo::installed("nextest"), &path, file.path());
    println!("--- {call}");
    let went_well = call.told(&workspace.root, |line| row.read(line));
    row.skipped = skips(&fs::read_to_string(file.path()).unwrap_or_default());
    row.is_bad = !went_well || row.run == 0;
    row
}

/// With all packages in sight, features are as in the step `test`, and what that has built is used. Without nextest nothing
/// chooses a package but the flag.
fn call(nextest: bool, server: &str, skipped: &Path) -> Call {
    let call = if nextest {
        let filter = format!("package({PACKAGE})");
        Call::new(["nextest", "run", "--workspace", "--all-features", "--no-fail-fast", "-E", &filter])
    } else {
        Call::new(["test", "--package", PACKAGE, "--all-features", "--tests", "--no-fail-fast"])
    };
    // no colour: its lines are read
    call.env(cargo::COLOUR, "never").env(SERVER, server).env(SKIPPED, &skipped.display().to_string())
}

fn version_of(path: &str) -> String {
    let said = servers::said(&[path, "--version"]);
    said.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned()
}

/// For each reason the tests that were skipped for it. A test is skipped for the first one that it told.
fn skips(text: &str) -> BTreeMap<String, usize> {
    let mut tests = BTreeSet::new();
    let mut reasons = BTreeMap::new();
    for (test, why) in text.lines().filter_map(|line| line.split_once('\t')) {
        if tests.insert(test) {
            *reasons.entry(why.to_owned()).or_default() += 1;
        }
    }
    reasons
}

/// What came of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    server: &'static str,
    version: String,
    /// Why there is none.
    absent: Option<String>,
    run: usize,
    /// As the runner counts: a test that was skipped by itself has passed.
    passed: usize,
    skipped: BTreeMap<String, usize>,
    is_bad: bool,
}

impl Row {
    /// Takes in a line of a runner.
    fn read(&mut self, line: &str) {
        // nextest: `Summary [ 12.3s] 9 tests run: 7 passed (1 slow), 2 failed, 0 skipped`, or `5/9 tests run` when it was stopped
        let summary = line.trim_start().strip_prefix("Summary ").and_then(|line| line.split_once(" run: "));
        if let Some((before, after)) = summary {
            let run = before.trim_end_matches(" tests").trim_end_matches(" test").rsplit(' ').next();
            self.run = run.and_then(|run| run.split('/').next()?.parse().ok()).unwrap_or(0);
            self.passed = count(after, "passed");
        }
        // cargo: `test result: ok. 5 passed; 0 failed; 0 ignored; ..`, once for each file
        if let Some(result) = line.strip_prefix("test result: ") {
            let passed = count(result, "passed");
            self.passed += passed;
            self.run += passed + count(result, "failed");
        }
    }

    fn skips(&self) -> usize {
        self.skipped.values().sum()
    }
}

/// The number before a word.
fn count(text: &str, word: &str) -> usize {
    let words: Vec<&str> = text.split([' ', ',', ';']).collect();
    let pair = words.windows(2).find(|pair| pair[1] == word);
    pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

struct Matrix<'a>(&'a [Row]);

impl fmt::Display for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<9}{:<9}{:>5}{:>8}{:>8}{:>9}",
            "server", "version", "run", "passed", "failed", "skipped"
        )?;
        for row in self.0 {
            write!(f, "\n{:<9}", row.server)?;
            if let Some(why) = &row.absent {
                write!(f, "not run: {why}")?;
                continue;
            }
            let (failed, passed) = (row.run - row.passed, row.passed.saturating_sub(row.skips()));
            write!(f, "{:<9}{:>5}{passed:>8}{failed:>8}{:>9}", row.version, row.run, row.skips())?;
            let reasons = row.skipped.iter().fold(String::new(), |mut text, (why, tests)| {
                let _ = write!(text, "  {tests}: {why}");
                text
            });
            f.write_str(&reasons)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn servers_are_known_by_name_and_keep_their_order() {
        let selected = select(&names(&["valkey9", "redis7"])).unwrap();
        assert_eq!(
            selected.iter().map(|server| server.program).collect::<Vec<_>>(),
            [Program::Valkey9, Program::RedisServer]
        );
        let error = select(&names(&["redis7", "redis9"])).unwrap_err();
        assert_eq!(error, "no server `redis9`; there are: redis7, redis8, valkey8, valkey9");
    }

    #[test]
    fn the_tests_of_one_package_run_as_they_were_built_with_all_others() {
        let file = Path::new("/skipped");
        let told =
            "CARGO_TERM_COLOR=\"never\" MASTABA_REDIS_SERVER=\"/s\" MASTABA_SKIPPED=\"/skipped\" cargo ";
        let with = call(true, "/s", file).to_string();
        assert_eq!(
            with,
            format!("{told}nextest run --workspace --all-features --no-fail-fast -E package(mastaba-redis)")
        );
        let without = call(false, "/s", file).to_string();
        assert_eq!(
            without,
            format!("{told}test --package mastaba-redis --all-features --tests --no-fail-fast")
        );
    }

    fn read(lines: &[&str]) -> (usize, usize) {
        let mut row = Row::default();
        lines.iter().for_each(|line| row.read(line));
        (row.run, row.passed)
    }

    #[test]
    fn what_either_runner_counts_is_read() {
        let summary =
            "     Summary [  71.252s] 234 tests run: 230 passed (3 slow), 3 failed, 1 timed out, 9 skipped";
        assert_eq!(read(&["    PASS [   0.1s] (1/2) a tests run: 7 passed", summary]), (234, 230));
        assert_eq!(read(&["     Summary [   0.052s] 1 test run: 1 passed, 0 skipped"]), (1, 1));
        assert_eq!(read(&["     Summary [   0.052s] 5/9 tests run: 4 passed, 1 failed, 0 skipped"]), (5, 4));
        let files = [
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        ];
        assert_eq!(read(&files), (8, 6));
    }

    #[test]
    fn a_test_that_says_twice_that_it_is_skipped_is_one() {
        let skipped = skips("a\tno TLS\nb\tno TLS\na\tno psql\nc\tno psql\n");
        let expected = [("no TLS".to_owned(), 2), ("no psql".to_owned(), 1)];
        assert_eq!(skipped, BTreeMap::from(expected));
    }

    fn row(server: &'static str, run: usize, passed: usize, skipped: usize) -> Row {
        let skipped = (skipped > 0).then(|| ("no TLS".to_owned(), skipped)).into_iter().collect();
        Row { server, version: "9.1.2".to_owned(), run, passed, skipped, is_bad: run != passed, absent: None }
    }

    #[test]
    fn the_table_tells_passed_from_skipped_and_names_what_is_not_there() {
        let absent = Row { server: "redis8", absent: Some("pip is not there".to_owned()), ..Row::default() };
        let rows = [row("redis7", 10, 10, 0), row("valkey9", 10, 9, 3), absent];
        let expected = "\
server   version    run  passed  failed  skipped
redis7   9.1.2       10      10       0        0
valkey9  9.1.2       10       6       1        3  3: no TLS
redis8   not run: pip is not there";
        assert_eq!(Matrix(&rows).to_string(), expected);
        assert_eq!(outcome(&rows), Outcome::Failed);
        assert_eq!(outcome(&rows[..1]), Outcome::Ok);
        let rows = [rows[0].clone(), rows[2].clone()];
        assert_eq!(outcome(&rows), Outcome::Skipped("pip is not there".to_owned()));
    }
}
