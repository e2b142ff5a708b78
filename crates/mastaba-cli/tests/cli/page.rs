//! The page of the book whose blocks are what the binary prints. `MASTABA_WRITE_PAGES=1` writes them anew.

use std::fs::{self, File};
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/src/operations/doctor.md");

/// Compares the block after `<!-- NAME -->` with what was printed; or writes it there.
///
/// # Panics
/// If they differ, or there is no such block.
pub(crate) fn check(name: &str, printed: &str) {
    let path = Path::new(PAGE);
    // tests run at the same time
    let lock = File::open(path).expect("the page");
    lock.lock().expect("the page can be locked");
    let page = fs::read_to_string(path).expect("the page");
    let mark = format!("<!-- {name} -->\n");
    let (before, rest) = page.split_once(&mark).unwrap_or_else(|| panic!("{PAGE} has no block {name}"));
    let (opening, rest) = rest.split_once('\n').expect("a line that opens the block");
    assert!(opening.starts_with("```"), "{name}: a block comes after its mark");
    let (block, after) = rest.split_once("```\n").expect("the end of the block");
    let printed = format!("{}\n", printed.trim_end());
    if std::env::var_os("MASTABA_WRITE_PAGES").is_some() {
        fs::write(path, format!("{before}{mark}{opening}\n{printed}```\n{after}"))
            .expect("the page is written");
    } else {
        assert_eq!(block, printed, "{PAGE}, block {name}: MASTABA_WRITE_PAGES=1 writes it anew");
    }
}

/// What is to be changed where there is nothing.
const NOTHING: &str = "all is as it should be";

/// What differs from run to run, replaced: ports, versions, times, sizes; and without what a busy machine adds.
pub(crate) fn steady(printed: &str, ports: &[u16]) -> String {
    steady_from(6379, printed, ports)
}

/// The same on the ports that Memcached has.
pub(crate) fn steady_memcached(printed: &str, ports: &[u16]) -> String {
    steady_from(11211, printed, ports)
}

fn steady_from(first: u16, printed: &str, ports: &[u16]) -> String {
    let mut text = printed.to_owned();
    for (number, port) in (first..).zip(ports) {
        text = text
            .replace(&format!(":{port}"), &format!(":{number}"))
            .replace(&format!("port {port}"), &format!("port {number}"));
    }
    let mut lines: Vec<String> = Vec::new();
    let mut skips = false;
    for line in text.lines() {
        // a line that goes on begins with many blanks
        skips = line.starts_with("  warning: round trip") || skips && line.starts_with("        ");
        if skips {
            continue;
        }
        let row = |name: &str| line.starts_with(&format!("  {name} "));
        let value = |text: &str| format!("{}{text}", &line[..26.min(line.len())]);
        lines.push(match line {
            _ if row("running for") => value("3s"),
            _ if row("memory used") => value("1.1 MiB"),
            _ if row("round trip") => value("p50 0.05 ms, p99 0.11 ms, of 20 pings to each server"),
            _ if row("connections") => value("2 of 1024 (-c)"),
            _ if row("clock") && !line.contains("not known") && first == 6379 => {
                value("as of this machine, to a tenth of a second")
            }
            _ if line.starts_with("Redis ") || line.starts_with("Valkey ") => versionless(line),
            _ if line.starts_with("Memcached 1.") => versionless(line),
            line => line.to_owned(),
        });
    }
    if lines.last().is_some_and(|line| line == "What to change") {
        lines.push(format!("  {:<24}{NOTHING}", "nothing"));
    }
    lines.join("\n") + "\n"
}

/// `Redis 7.0.15 at port 1` is any 7.0.
fn versionless(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if let Some(version) = words.get_mut(1) {
        let parts: Vec<&str> = version.split('.').collect();
        *version = format!("{}.x", parts[0]);
    }
    words.join(" ")
}

/// The same for what stands under a key: times, and numbers in hexadecimal.
pub(crate) fn steady_entry(printed: &str) -> String {
    const DIGITS: &str = "3f0c9a51d2e84b76";
    let is_number =
        |word: &str| matches!(word.len(), 12 | 16) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut lines: Vec<String> = Vec::new();
    for line in printed.lines() {
        let row = |name: &str| line.starts_with(&format!("  {name} "));
        let value = |text: &str| format!("{}{text}", &line[..26.min(line.len())]);
        lines.push(match line {
            _ if row("made") => value("2026-11-27T12:00:00.000Z, 20s ago"),
            _ if row("fresh") || row("kept") => value("for 59m 40s more, of 1h"),
            _ if row("cost of its load") => value("13us"),
            _ if row("confirmed") => {
                value("in 0.41 ms; near of every process is told, where the server notifies")
            }
            _ if row("next read") && line.contains("fresh for") => {
                let (before, rest) = line.split_once("fresh for ").expect("it is there");
                let rest = rest.split_once(" more").expect("for how long").1;
                format!("{before}fresh for 59.7min more{rest}")
            }
            line => {
                let words = line.split_inclusive([' ', ',']).map(|word| {
                    let bare = word.trim_end_matches([' ', ',']);
                    if is_number(bare) { word.replace(bare, &DIGITS[..bare.len()]) } else { word.to_owned() }
                });
                words.collect()
            }
        });
    }
    lines.join("\n") + "\n"
}
