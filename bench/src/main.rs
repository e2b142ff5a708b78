//! Measures Mastaba beside a reference and its peers.
//!
//! Every figure is a ratio taken inside one run: all cases of a group run once per round in a fresh random
//! order, the ratio to the reference is taken inside the round, and the table gives the median with its
//! quartiles. So two figures of one table can be compared, and figures of two runs cannot.

mod by_hand;
mod distance;
mod fixture;
mod pin;
mod rounds;
mod rows;
mod servers;
mod task;

use std::alloc::System;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts every allocation of the program, for the rows that are counts.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HELP: &str = "\
mastaba-bench [ROW..] [--json] [--quick]

Rows:
  P1    hot single get in one request
  P2    near hit from a new request, on one and two threads
  P3    multi-get of 1, 10, 100 and 1000, all in Redis; P3j: as gets that are awaited together; P3m: into a map
  P3E   multi-get of what is in the embedded file, and in memory
  P5    two passes: half in Redis, half only in PostgreSQL
  P6    a page over HTTP: 1 user and 20 posts, each with author and photo
  P7    stampede: 200 requests for the same 20 cold keys, in one process and in two
  P8    growth: keys in one call, requests in flight, bytes of an idle request
  P9    heap allocations of a multi-get of 100
  P10   P3, P5 and P6 with Redis and PostgreSQL a network away, 0.25 ms each way
  P11   a write in each mode, in memory and in Redis, and the reads that writes send to the source
  P12   the pages of P6: what one costs Redis in CPU
  P13   multi-get of 10, 100 and 1000 from a cluster of three, with the keys as they are and in 16 and 64 shards
  P14   a fleet: what 10, 100 and 1000 processes cost one Redis, and what each of them does alone
  P15   P3, P5 and P6 over Redis, Valkey 9 and Memcached, by hand and by Mastaba

Servers are started for the rows that need them, on cores of their own where taskset is installed.
Without a row, all of them. --json prints one object a line; --quick takes few rounds and proves nothing.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == rows::stampede::TAKE_PART).is_some() {
        let (case, url) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
        rows::stampede::take_part(&case, &url);
        return ExitCode::SUCCESS;
    }
    let mut wanted: Vec<String> = Vec::new();
    let (mut json, mut quick) = (false, false);
    for argument in arguments {
        match argument.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return ExitCode::SUCCESS;
            }
            row => wanted.push(row.to_uppercase()),
        }
    }
    if let Some(unknown) = wanted.iter().find(|row| !rows::ALL.iter().any(|(name, _)| name == row)) {
        let names: Vec<_> = rows::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no row {unknown}; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    for (name, run) in rows::ALL {
        if wanted.is_empty() || wanted.iter().any(|row| row == name) {
            for table in run(rounds::Effort { quick }) {
                if json { table.print_json() } else { table.print() }
            }
        }
    }
    ExitCode::SUCCESS
}
