//! The programs that the tests start. No server is started here: each test has servers of its own on free ports, so a
//! service that a package brings along does not matter.

mod fetch;
mod release;
mod tools;

use std::env;
use std::process::{Command, Stdio};

use programs::{Program, Recipe, Supply};

/// The one table of them, as the tests have it.
#[path = "../../crates/mastaba-test/src/servers/programs.rs"]
#[allow(unreachable_pub, reason = "there it is public")]
pub(crate) mod programs;

/// So that no package asks anything.
const QUIET: &str = "DEBIAN_FRONTEND=noninteractive";

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// Tests will be skipped: the sentence says which programs they would need.
    Lacking(String),
    /// The same where no test may be skipped.
    Failed(String),
}

/// Python's own tool, by which some programs are fetched; no test starts it.
const PIP: &str = "python3-pip";

/// Installs and fetches what the tests of every run need and lack, as far as this process may.
pub(crate) fn prepare() -> Readiness {
    let every: Vec<Program> = Program::ALL.into_iter().filter(|program| !BY_NAME.contains(program)).collect();
    prepare_for(&every)
}

/// The servers that tests are run against only when somebody asks for it.
const BY_NAME: [Program; 2] = [Program::Valkey8, Program::Redis8];

/// The same for these programs.
pub(crate) fn prepare_for(programs: &[Program]) -> Readiness {
    let ci = env::var("CI").is_ok_and(|value| value != "false" && !value.is_empty());
    let missing = || programs.iter().copied().filter(|program| program.find().is_none()).collect();
    ensure(
        ci,
        missing,
        || installer(may_run("apt-get"), is_root(), may_sudo),
        &Hands { run, has_pip, fetch: fetch::all },
    )
}

/// What it does to the machine.
struct Hands<R, P, F> {
    run: R,
    has_pip: P,
    fetch: F,
}

/// [`prepare_for`] with hands that can be watched. `installer` is what a call of apt-get begins with, when it may be called.
fn ensure<R: Fn(&[&str]) -> bool, P: Fn() -> bool, F: Fn(&[(Program, Recipe)]) -> Vec<String>>(
    ci: bool,
    missing: impl Fn() -> Vec<Program>,
    installer: impl FnOnce() -> Option<Vec<&'static str>>,
    hands: &Hands<R, P, F>,
) -> Readiness {
    let lacking = missing();
    if lacking.is_empty() {
        return Readiness::Ready;
    }
    let recipes = recipes(&lacking);
    let mut packages = packages(&lacking);
    if recipes.iter().any(|(_, recipe)| recipe.wheel.is_some()) && !(hands.has_pip)() {
        packages.push(PIP);
    }
    if let (Some(begin), false) = (installer(), packages.is_empty()) {
        let install = [&begin[..], &["install", "-y", "--no-install-recommends"], &packages].concat();
        // the lists may be old, or none: a fresh machine has none
        if !(hands.run)(&install) && (hands.run)(&[&begin[..], &["update"]].concat()) {
            (hands.run)(&install);
        }
    }
    let problems = if recipes.is_empty() { Vec::new() } else { (hands.fetch)(&recipes) };
    let lacking = missing();
    if lacking.is_empty() {
        return Readiness::Ready;
    }
    let sentence = lack(&lacking, &problems);
    if ci { Readiness::Failed(sentence) } else { Readiness::Lacking(sentence) }
}

/// The sentence about what is still lacking.
fn lack(lacking: &[Program], problems: &[String]) -> String {
    let packages = packages(lacking);
    let installed = lacking.iter().filter(|program| matches!(program.supply(), Supply::Package(_)));
    let installed: Vec<&str> = installed.map(|program| program.name()).collect();
    let mut sentences = Vec::new();
    if !installed.is_empty() {
        let names = installed.join(", ");
        sentences.push(format!("not installed: {names} (Debian: apt-get install {})", packages.join(" ")));
    }
    if !problems.is_empty() {
        sentences.push(format!("not fetched: {}", problems.join("; ")));
    }
    sentences.join("; ")
}

/// Each once.
fn packages(programs: &[Program]) -> Vec<&'static str> {
    let package = |program: &Program| match program.supply() {
        Supply::Package(name) => Some(name),
        Supply::Fetched(_) => None,
    };
    let mut packages: Vec<&str> = programs.iter().filter_map(package).collect();
    packages.dedup();
    packages
}

fn recipes(programs: &[Program]) -> Vec<(Program, Recipe)> {
    let recipe = |&program: &Program| match program.supply() {
        Supply::Package(_) => None,
        Supply::Fetched(recipe) => Some((program, recipe)),
    };
    programs.iter().filter_map(recipe).collect()
}

/// What a program says, if it starts.
pub(crate) fn said(command: &[&str]) -> String {
    tools::output_of(command).map(|(_, text)| text).unwrap_or_default()
}

fn has_pip() -> bool {
    tools::output_of(&["python3", "-m", "pip", "--version"]).is_ok_and(|(well, _)| well)
}

fn installer(has_apt_get: bool, is_root: bool, may_sudo: impl FnOnce() -> bool) -> Option<Vec<&'static str>> {
    match (has_apt_get, is_root) {
        (false, _) => None,
        (true, true) => Some(vec!["env", QUIET, "apt-get"]),
        (true, false) => may_sudo().then(|| vec!["sudo", "-n", "env", QUIET, "apt-get"]),
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Without a password: nobody is there to type it.
fn may_sudo() -> bool {
    let mut command = Command::new("sudo");
    command.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(command: &[&str]) -> bool {
    println!("--- {}", command.join(" "));
    let status = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether the path has a program of this name.
fn may_run(name: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A machine that lacks what is at these places of [`Program::ALL`].
    struct Machine {
        lacking: RefCell<Vec<usize>>,
        /// How many calls fail before one installs.
        failures: RefCell<usize>,
        has_pip: bool,
        calls: RefCell<Vec<String>>,
    }

    impl Machine {
        fn new(lacking: &[usize], failures: usize) -> Self {
            let (lacking, failures) = (RefCell::new(lacking.to_vec()), RefCell::new(failures));
            Self { lacking, failures, has_pip: true, calls: RefCell::default() }
        }

        fn prepare(&self, ci: bool, root: bool) -> Readiness {
            let hands = Hands {
                run: |command: &[&str]| self.call(command),
                has_pip: || self.has_pip,
                fetch: |recipes: &[(Program, Recipe)]| self.fetch(recipes),
            };
            ensure(ci, || self.programs().collect(), || installer(true, root, || false), &hands)
        }

        fn programs(&self) -> impl Iterator<Item = Program> {
            self.lacking.borrow().clone().into_iter().map(|index| Program::ALL[index])
        }

        /// There is no Valkey 9 for this machine.
        fn fetch(&self, recipes: &[(Program, Recipe)]) -> Vec<String> {
            let names: Vec<&str> = recipes.iter().map(|(program, _)| program.name()).collect();
            self.calls.borrow_mut().push(format!("fetch {}", names.join(" ")));
            let fails = |index: &usize| Program::ALL[*index] == Program::Valkey9;
            self.lacking.borrow_mut().retain(|index| Program::ALL[*index].is_package() || fails(index));
            let failed = names.iter().filter(|name| **name == "valkey9");
            failed.map(|name| format!("{name}: pip has none")).collect()
        }

        fn call(&self, command: &[&str]) -> bool {
            self.calls.borrow_mut().push(command.join(" "));
            let mut failures = self.failures.borrow_mut();
            let installs = command.contains(&"install");
            if installs && *failures > 0 {
                *failures -= 1;
                return false;
            }
            if installs {
                self.lacking.borrow_mut().retain(|&index| !Program::ALL[index].is_package());
            }
            true
        }
    }

    impl Program {
        fn is_package(self) -> bool {
            matches!(self.supply(), Supply::Package(_))
        }
    }

    const APT: &str = "env DEBIAN_FRONTEND=noninteractive apt-get";

    #[test]
    fn nothing_is_called_when_nothing_is_missing() {
        let machine = Machine::new(&[], 0);
        assert_eq!(machine.prepare(true, true), Readiness::Ready);
        assert!(machine.calls.borrow().is_empty());
    }

    #[test]
    fn only_what_is_missing_is_installed_and_each_package_once() {
        let machine = Machine::new(&[2, 3, 4, 5, 6, 7, 8], 0);
        assert_eq!(machine.prepare(false, true), Readiness::Ready);
        let packages = "postgresql mariadb-server chromium chromium-driver";
        let install = format!("{APT} install -y --no-install-recommends {packages}");
        assert_eq!(*machine.calls.borrow(), [install]);
    }

    #[test]
    fn the_lists_are_updated_only_after_a_failure() {
        let machine = Machine::new(&[0], 1);
        assert_eq!(machine.prepare(true, true), Readiness::Ready);
        let install = format!("{APT} install -y --no-install-recommends redis-server");
        assert_eq!(*machine.calls.borrow(), [install.clone(), format!("{APT} update"), install]);
    }

    #[test]
    fn what_cannot_be_installed_is_named_and_fails_in_ci_alone() {
        let sentence =
            "not installed: redis-server, redis-cli (Debian: apt-get install redis-server redis-tools)";
        for root in [true, false] {
            let prepare = |ci| Machine::new(&[0, 1], 2).prepare(ci, root);
            assert_eq!(prepare(false), Readiness::Lacking(sentence.to_owned()));
            assert_eq!(prepare(true), Readiness::Failed(sentence.to_owned()));
        }
        let machine = Machine::new(&[0], 0);
        machine.prepare(false, false);
        assert!(machine.calls.borrow().is_empty(), "it may not install anything");
    }

    #[test]
    fn what_is_no_package_is_fetched_and_needs_no_root() {
        let memcached = Program::ALL.iter().position(|program| *program == Program::Memcached).unwrap();
        let machine = Machine::new(&[memcached], 0);
        assert_eq!(machine.prepare(true, false), Readiness::Ready);
        assert_eq!(*machine.calls.borrow(), ["fetch memcached"]);
    }

    #[test]
    fn what_cannot_be_fetched_is_named_with_its_reason_and_pip_is_installed_for_it() {
        let valkey = Program::ALL.iter().position(|program| *program == Program::Valkey9).unwrap();
        let machine = Machine { has_pip: false, ..Machine::new(&[0, valkey], 0) };
        let sentence = "not fetched: valkey9: pip has none".to_owned();
        assert_eq!(machine.prepare(false, true), Readiness::Lacking(sentence));
        let install = format!("{APT} install -y --no-install-recommends redis-server python3-pip");
        assert_eq!(*machine.calls.borrow(), [install, "fetch valkey9".to_owned()]);
        let sentence = "not installed: redis-server (Debian: apt-get install redis-server); \
                        not fetched: valkey9: pip has none";
        let machine = Machine { has_pip: false, ..Machine::new(&[0, valkey], 0) };
        assert_eq!(machine.prepare(true, false), Readiness::Failed(sentence.to_owned()));
    }

    #[test]
    fn packages_are_installed_by_root_or_by_sudo_that_asks_nothing() {
        assert_eq!(installer(true, true, || panic!("root needs no sudo")).unwrap().join(" "), APT);
        assert_eq!(installer(true, false, || true).unwrap().join(" "), format!("sudo -n {APT}"));
        assert_eq!(installer(true, false, || false), None);
        assert_eq!(installer(false, true, || true), None);
    }

    #[test]
    fn only_what_is_there_may_be_run() {
        assert!(may_run("sh") && !may_run("no-such-program-anywhere"));
    }
}
