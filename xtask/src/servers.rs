//! The programs that the tests start. Nothing is started here: each test has servers of its own on free ports, so a
//! service that a package brings along does not matter.

use std::env;
use std::process::{Command, Stdio};

use programs::Program;

/// The one table of them, as the tests have it.
#[path = "../../crates/mastaba-test/src/servers/programs.rs"]
#[allow(unreachable_pub, reason = "there it is public")]
mod programs;

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

/// Installs what is missing, when this process may.
pub(crate) fn prepare() -> Readiness {
    let ci = env::var("CI").is_ok_and(|value| value != "false" && !value.is_empty());
    ensure(ci, missing, || installer(may_run("apt-get"), is_root(), may_sudo), run)
}

/// [`prepare`] with hands that can be watched. `installer` is what a call of apt-get begins with, when it may be called.
fn ensure(
    ci: bool,
    missing: impl Fn() -> Vec<Program>,
    installer: impl FnOnce() -> Option<Vec<&'static str>>,
    run: impl Fn(&[&str]) -> bool,
) -> Readiness {
    let lacking = missing();
    if lacking.is_empty() {
        return Readiness::Ready;
    }
    if let Some(begin) = installer() {
        let packages = packages(&lacking);
        let install = [&begin[..], &["install", "-y", "--no-install-recommends"], &packages].concat();
        // the lists may be old, or none: a fresh machine has none
        if !run(&install) && run(&[&begin[..], &["update"]].concat()) {
            run(&install);
        }
    }
    let lacking = missing();
    if lacking.is_empty() {
        return Readiness::Ready;
    }
    let names: Vec<&str> = lacking.iter().map(|program| program.name()).collect();
    let sentence = format!(
        "not installed: {} (Debian: apt-get install {})",
        names.join(", "),
        packages(&lacking).join(" ")
    );
    if ci { Readiness::Failed(sentence) } else { Readiness::Lacking(sentence) }
}

fn missing() -> Vec<Program> {
    Program::ALL.into_iter().filter(|program| program.find().is_none()).collect()
}

/// Each once.
fn packages(programs: &[Program]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = programs.iter().map(|program| program.package()).collect();
    packages.dedup();
    packages
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
        calls: RefCell<Vec<String>>,
    }

    impl Machine {
        fn new(lacking: &[usize], failures: usize) -> Self {
            let (lacking, failures) = (RefCell::new(lacking.to_vec()), RefCell::new(failures));
            Self { lacking, failures, calls: RefCell::default() }
        }

        fn prepare(&self, ci: bool, root: bool) -> Readiness {
            let missing = || self.lacking.borrow().iter().map(|&index| Program::ALL[index]).collect();
            ensure(ci, missing, || installer(true, root, || false), |command| self.call(command))
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
                self.lacking.borrow_mut().clear();
            }
            true
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
