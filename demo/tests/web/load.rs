//! Many readers, and one who edits.

use std::io::{BufReader, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mastaba_test::servers::Signal;

use super::{Explorer, connect, package, read};

/// How many connections read at once.
const READERS: usize = 32;

/// How long.
const TIME: Duration = Duration::from_secs(4);

/// How many edits a page is behind or ahead: the number of the edit that it shows.
fn shown(page: &str) -> u64 {
    let rest = page.split_once("Edit number ").unwrap_or_else(|| panic!("no edit in {page}")).1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The memory of a process that is in use, in MiB; `None` where the system does not tell.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

fn memory(explorers: &[Explorer]) -> Option<Vec<u64>> {
    explorers.iter().map(|explorer| resident(explorer.pid())).collect()
}

/// Reads from some processes and edits in the first, and sees that nobody is shown what was there before an
/// acknowledged edit.
pub(crate) fn under_load(more: &[&str], processes: usize) {
    let explorers: Vec<_> = (0..processes).map(|_| Explorer::start(more)).collect();
    let serde = package(&explorers[0], "serde");
    let edit = |number: u64| {
        let answer =
            explorers[0].post(&serde, &format!("description=Edit+number+{number}.&keywords=n{number}"));
        assert_eq!(answer.status, 303, "{}", answer.body);
    };
    edit(0);
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let reads = AtomicU64::new(0);
    let began = Instant::now();
    let early = std::thread::scope(|scope| {
        for nth in 0..READERS {
            // eight of each kind of reader, whatever the number of processes
            let explorer = &explorers[nth / 8 % processes];
            let (serde, acknowledged, reads, done) = (&serde, &acknowledged, &reads, &done);
            scope.spawn(move || {
                let mut stream = BufReader::new(connect(&explorer.host));
                // one in eight reads without the cache: they need the same, and make the database busy
                let mode = ["mastaba", "mastaba", "mastaba", "dataloader"][nth % 4];
                let mode = if nth % 8 == 4 { "naive" } else { mode };
                let addresses = [format!("{serde}?mode={mode}"), format!("/?q=serde&mode={mode}")];
                for address in addresses.iter().cycle() {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    let before = acknowledged.load(Ordering::SeqCst);
                    let request = format!("GET {address} HTTP/1.1\r\nhost: {}\r\n\r\n", explorer.host);
                    stream.get_mut().write_all(request.as_bytes()).unwrap();
                    let page = read(&mut stream).page();
                    let shown = shown(&page);
                    if shown < before {
                        done.store(true, Ordering::SeqCst);
                        panic!("{address} shows edit {shown} after edit {before} was acknowledged");
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut early = None;
        for number in 1.. {
            if began.elapsed() > TIME || done.load(Ordering::SeqCst) {
                break;
            }
            if early.is_none() && began.elapsed() > TIME / 4 {
                early = memory(&explorers);
            }
            edit(number);
            acknowledged.store(number, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
        early
    });
    let (reads, edits) = (reads.into_inner(), acknowledged.into_inner());
    let late = memory(&explorers);
    println!("{reads} pages, {edits} edits, {early:?} MiB, {late:?} MiB");
    assert!(edits >= 5 && reads >= 2 * READERS as u64, "{reads} reads, {edits} edits");
    for (early, late) in early.into_iter().flatten().zip(late.into_iter().flatten()) {
        assert!(late < early + 64 && late < 512, "{early} MiB have become {late} MiB");
    }
    for explorer in explorers {
        let output = explorer.signal(Signal::Term);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}
