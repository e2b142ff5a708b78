//! What a test does where a program is not installed.

use super::Program;
use super::skip::skipped;

/// Whether one of these programs is not installed; a test returns when it is so.
///
/// On the machine of a person it prints which one the test is skipped for. It panics when the variable `CI` is set to
/// anything but `false`, for there a skipped test would look like one that passed.
///
/// ```no_run
/// use mastaba_test::servers::{Program, missing};
///
/// # fn test() {
/// if missing(&[Program::RedisServer]) {
///     return;
/// }
/// # }
/// ```
pub fn missing(programs: &[Program]) -> bool {
    let Some(program) = programs.iter().find(|program| program.find().is_none()) else { return false };
    let name = program.name();
    assert!(
        skipped(&format!("{name} is not installed; cargo xtask test installs it")),
        "{name} is not installed, and in CI no test is skipped: run cargo xtask test, which installs it"
    );
    true
}
