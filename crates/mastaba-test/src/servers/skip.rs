//! A test that is skipped says so.

use std::env;
use std::fs::File;
use std::io::Write;

/// Names the file that the test command reads back.
const FILE: &str = "MASTABA_SKIPPED";

/// Says that the test that runs here is skipped, and why: on the machine of a person to whoever reads its output, and in a
/// line of the file that `MASTABA_SKIPPED` names, where somebody counts. Gives whether that was done: where the variable
/// `CI` is set and nobody counts, a skipped test would look like one that passed.
pub(super) fn skipped(why: &str) -> bool {
    let counted = env::var_os(FILE).filter(|path| !path.is_empty()).map(|path| {
        let mut file =
            File::options().create(true).append(true).open(path).expect("the file of skipped tests opens");
        // in one piece: other tests write there too
        let line = format!("{}\t{why}\n", test());
        file.write_all(line.as_bytes()).expect("a line can be written to the file of skipped tests");
    });
    let ci = env::var("CI").is_ok_and(|value| value != "false" && !value.is_empty());
    if counted.is_none() && ci {
        return false;
    }
    eprintln!("skipped: {why}");
    true
}

/// The name of the test: nextest tells it, and without nextest the thread has it.
fn test() -> String {
    let told = |name| env::var(name).ok();
    match (told("NEXTEST_BINARY_ID"), told("NEXTEST_TEST_NAME")) {
        (Some(binary), Some(name)) => format!("{binary} {name}"),
        _ => std::thread::current().name().unwrap_or("a test").to_owned(),
    }
}
