//! The steps of `cargo xtask test`, in the order in which they run.

use std::fmt::Write;
use std::time::Instant;

use crate::cargo::{self, Call};
use crate::matrix::{self, Server};
use crate::servers::{self, Readiness};
use crate::sources;
use crate::summary::{Outcome, Summary};
use crate::versions;
use crate::workspace::{Package, Workspace};

/// A named check.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    about: &'static str,
    work: fn(&Workspace) -> Work,
}

/// What a step comes down to.
#[derive(Debug, PartialEq, Eq)]
enum Work {
    /// All are run, also after one has failed: one look then shows everything.
    Calls(Vec<Call>),
    /// Looked at here, one line per problem.
    Problems(Vec<String>),
    /// The tests of the Redis backend, on these.
    Matrix(Vec<Server>),
    Skip(String),
}

// Nothing here relies on the default members of the workspace: every call names its packages or all of them.
// All features, because a test behind a feature that is off by default would otherwise never run.
static STEPS: [Step; 13] = [
    Step { name: "fmt", about: "every file is formatted", work: |_| one(&["fmt", "--all", "--check"]) },
    Step {
        name: "clippy",
        about: "no warning, with all features",
        work: |_| one(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]),
    },
    Step {
        name: "servers",
        about: "what the tests talk to is installed (by apt-get if it may) or fetched",
        work: prepare,
    },
    Step { name: "test", about: "all tests (cargo-nextest when it is installed)", work: test },
    Step { name: "valkey", about: "the tests of mastaba-redis again, on a Valkey 9", work: |_| valkey() },
    Step {
        name: "release",
        about: "what the web crates do without being asked, as in a release build",
        work: |_| release(),
    },
    Step {
        name: "doctest",
        about: "all examples in the documentation",
        work: |_| one(&["test", "--workspace", "--all-features", "--doc", "--no-fail-fast"]),
    },
    Step { name: "doc", about: "the documentation builds without a warning", work: doc },
    Step { name: "features", about: "each library with no feature, and with each alone", work: features },
    Step { name: "package", about: "each crate that is published can be packaged", work: package },
    Step {
        name: "versions",
        about: "no crate promises an older Rust than its dependencies need",
        work: |_| Work::Problems(versions::problems()),
    },
    Step { name: "deny", about: "licences, advisories, sources (when cargo-deny is installed)", work: deny },
    Step {
        name: "sources",
        about: "nothing undone or ignored, no dead link, no circle of files",
        work: look,
    },
];

/// One line per step.
pub(crate) fn list() -> String {
    STEPS.iter().fold(String::new(), |mut text, step| {
        let _ = writeln!(text, "  {:<10}{}", step.name, step.about);
        text
    })
}

/// The steps of these names, or all for no name; always in the order of the list.
pub(crate) fn select(only: &[String]) -> Result<Vec<&'static Step>, String> {
    if let Some(name) = only.iter().find(|name| !STEPS.iter().any(|step| step.name == *name)) {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!("no step `{name}`; there are: {}", names.join(", ")));
    }
    Ok(STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect())
}

/// Runs them all, whatever fails, and prints the summary. Says whether none failed.
pub(crate) fn run_all(steps: &[&'static Step], workspace: &Workspace) -> bool {
    let mut summary = Summary::default();
    for step in steps {
        println!("\n=== {}: {}", step.name, step.about);
        let began = Instant::now();
        let outcome = match (step.work)(workspace) {
            Work::Calls(calls) => run(&calls, workspace),
            Work::Problems(problems) => report(&problems),
            Work::Matrix(servers) => matrix::run(&servers, workspace),
            Work::Skip(why) => {
                println!("skipped: {why}");
                Outcome::Skipped(why)
            }
        };
        summary.push(step.name, began.elapsed(), outcome);
    }
    println!("\n=== summary\n{summary}");
    summary.is_ok()
}

fn run(calls: &[Call], workspace: &Workspace) -> Outcome {
    let mut outcome = Outcome::Ok;
    for call in calls {
        println!("--- {call}");
        if !call.run(&workspace.root) {
            println!("--- failed: {call}");
            outcome = Outcome::Failed;
        }
    }
    outcome
}

fn report(problems: &[String]) -> Outcome {
    for problem in problems {
        println!("{problem}");
    }
    if problems.is_empty() { Outcome::Ok } else { Outcome::Failed }
}

fn one(args: &[&str]) -> Work {
    Work::Calls(vec![Call::new(args.iter().copied())])
}

fn look(workspace: &Workspace) -> Work {
    Work::Problems(sources::problems(workspace))
}

fn prepare(_: &Workspace) -> Work {
    match servers::prepare() {
        Readiness::Ready => Work::Problems(Vec::new()),
        Readiness::Lacking(sentence) => Work::Skip(sentence),
        Readiness::Failed(sentence) => Work::Problems(vec![sentence]),
    }
}

fn features(workspace: &Workspace) -> Work {
    let libraries =
        workspace.packages.iter().filter(|package| package.is_library && !package.features.is_empty());
    Work::Calls(libraries.flat_map(alone).collect())
}

/// No feature, then each.
fn alone(package: &Package) -> impl Iterator<Item = Call> {
    let each = package.features.iter().map(|feature| Some(feature.as_str()));
    std::iter::once(None).chain(each).map(|feature| {
        let mut args = vec!["clippy", "--package", &package.name, "--no-default-features"];
        args.extend(feature.iter().flat_map(|name| ["--features", name]));
        args.extend(["--", "-D", "warnings"]);
        Call::new(args)
    })
}

fn test(_: &Workspace) -> Work {
    tests(cargo::installed("nextest"))
}

/// The same tests either way: `--tests` leaves the documentation to its own step, as nextest does.
fn tests(nextest: bool) -> Work {
    if nextest {
        one(&["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"])
    } else {
        one(&["test", "--workspace", "--all-features", "--tests", "--no-fail-fast"])
    }
}

/// What the step `test` has built, once more. The other servers are asked for by name.
fn valkey() -> Work {
    match matrix::select(&["valkey9".to_owned()]) {
        Ok(servers) => Work::Matrix(servers),
        Err(problem) => Work::Problems(vec![problem]),
    }
}

/// `Server-Timing` is there by default in debug builds alone. That the other default holds is seen where the two web
/// crates, and no others, are compiled without debug assertions: everything that they stand on is there already.
fn release() -> Work {
    let without = ["mastaba-axum", "mastaba-actix"]
        .map(|package| format!("profile.dev.package.{package}.debug-assertions=false"));
    let mut args = vec!["test", "--workspace", "--all-features", "--test", "web", "--no-fail-fast"];
    args.extend(without.iter().flat_map(|setting| ["--config", setting]));
    one(&args)
}

fn doc(_: &Workspace) -> Work {
    let call = Call::new(["doc", "--workspace", "--all-features", "--no-deps"]);
    Work::Calls(vec![call.env("RUSTDOCFLAGS", "-D warnings")])
}

/// All at once: a crate finds another one that is not published yet among those that are packaged with it. They were built
/// by the steps before; and nothing is asked of a registry that was not asked of it for the build.
fn package(workspace: &Workspace) -> Work {
    let published = workspace.packages.iter().filter(|package| package.is_published);
    let names = published.flat_map(|package| ["--package", package.name.as_str()]);
    let fixed = ["package", "--no-verify", "--allow-dirty", "--offline", "--quiet"];
    Work::Calls(vec![Call::new(fixed.into_iter().chain(names))])
}

fn deny(_: &Workspace) -> Work {
    if cargo::installed("deny") {
        one(&["deny", "check"])
    } else {
        Work::Skip("cargo-deny is not installed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Result<Vec<&'static str>, String> {
        let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
        Ok(select(&only)?.iter().map(|step| step.name).collect())
    }

    fn lines(work: Work) -> Vec<String> {
        let Work::Calls(calls) = work else { panic!("no calls: {work:?}") };
        calls.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_name_selects_every_step() {
        let all = [
            "fmt", "clippy", "servers", "test", "valkey", "release", "doctest", "doc", "features", "package",
            "versions", "deny", "sources",
        ];
        assert_eq!(names(&[]).unwrap(), all);
    }

    #[test]
    fn named_steps_keep_their_order_and_run_once() {
        assert_eq!(names(&["doc", "fmt", "doc"]).unwrap(), ["fmt", "doc"]);
    }

    #[test]
    fn an_unknown_step_is_told_what_there_is() {
        let error = names(&["fmt", "docs"]).unwrap_err();
        assert!(error.contains("`docs`") && error.contains("doctest, doc, features"), "{error}");
    }

    #[test]
    fn each_library_is_checked_bare_and_with_each_feature_alone() {
        let package = |name: &str, is_library, features: &[&str]| Package {
            name: name.to_owned(),
            is_library,
            is_published: is_library,
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
        };
        let packages = vec![
            package("lib", true, &["a", "b"]),
            package("plain", true, &[]),
            package("bin", false, &["c"]),
        ];
        assert_eq!(
            lines(features(&Workspace { packages, ..Workspace::default() })),
            [
                "cargo clippy --package lib --no-default-features -- -D warnings",
                "cargo clippy --package lib --no-default-features --features a -- -D warnings",
                "cargo clippy --package lib --no-default-features --features b -- -D warnings",
            ]
        );
    }

    #[test]
    fn what_is_published_is_packaged_together() {
        let package =
            |name: &str, is_published| Package { name: name.to_owned(), is_published, ..Package::default() };
        let packages = vec![package("a", true), package("bench", false), package("b", true)];
        assert_eq!(
            lines(super::package(&Workspace { packages, ..Workspace::default() })),
            ["cargo package --no-verify --allow-dirty --offline --quiet --package a --package b"]
        );
    }

    #[test]
    fn tests_run_with_or_without_nextest() {
        let (with, without) = (lines(tests(true)), lines(tests(false)));
        assert_eq!(with, ["cargo nextest run --workspace --all-features --no-fail-fast"]);
        assert_eq!(without, ["cargo test --workspace --all-features --tests --no-fail-fast"]);
    }

    #[test]
    fn the_web_crates_are_tested_without_debug_assertions_and_nothing_else_is_built_anew() {
        let line = "cargo test --workspace --all-features --test web --no-fail-fast \
                    --config profile.dev.package.mastaba-axum.debug-assertions=false \
                    --config profile.dev.package.mastaba-actix.debug-assertions=false";
        assert_eq!(lines(release()), [line]);
    }

    #[test]
    fn no_call_depends_on_the_default_members() {
        // these call no cargo, or only when it is there; and nothing is installed by a test
        for step in STEPS.iter().filter(|step| {
            !["sources", "deny", "servers", "valkey", "package", "versions"].contains(&step.name)
        }) {
            for line in lines((step.work)(&Workspace::default())) {
                let named = ["--workspace", "--package", "--all "].iter().any(|flag| line.contains(flag));
                assert!(named, "{line}");
            }
        }
    }

    #[test]
    fn warnings_in_documentation_are_errors() {
        let line = "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --all-features --no-deps";
        assert_eq!(lines(doc(&Workspace::default())), [line]);
    }
}
