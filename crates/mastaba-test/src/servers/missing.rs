//! What is installed.

use std::env;
use std::path::{Path, PathBuf};

/// Whether one of these programs is not installed; a test returns when it is so.
///
/// On the machine of a person it prints which one the test is skipped for. It panics when the variable `CI` is set to
/// anything but `false`, for there a skipped test would look like one that passed.
///
/// ```
/// use mastaba_test::servers::missing;
///
/// assert!(!missing(&["sh"]));
/// ```
pub fn missing(programs: &[&str]) -> bool {
    let Some(program) = programs.iter().find(|program| find(program).is_none()) else { return false };
    let ci = env::var("CI").is_ok_and(|value| value != "false" && !value.is_empty());
    assert!(
        !ci,
        "{program} is not installed, and in CI no test is skipped: run cargo xtask test, which installs it"
    );
    eprintln!("skipped: {program} is not installed; cargo xtask test installs it");
    true
}

/// Where a program is, by its name or its path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/local/bin", "/usr/sbin"].map(PathBuf::from));
    folders.chain(postgres()).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Debian keeps the programs of each PostgreSQL in a folder of its own, off the path. The newest comes first.
fn postgres() -> Vec<PathBuf> {
    let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() else { return Vec::new() };
    let mut folders: Vec<PathBuf> = versions.flatten().map(|version| version.path()).collect();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    folders.sort_by_key(|path| std::cmp::Reverse(number(path)));
    folders.iter().map(|folder| folder.join("bin")).collect()
}
