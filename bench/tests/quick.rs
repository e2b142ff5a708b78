//! That the bench runs, and the counts that do not depend on the machine.

use std::process::Command;

use mastaba_test::servers::{Program, missing};
use serde_json::Value;

fn bench(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mastaba-bench")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_row_names_ours_the_reference_and_the_peers() {
    let (sound, out, err) = bench(&["P1", "P2", "--json", "--quick"]);
    assert!(sound, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in ["P1", "P2 1 thread", "P2 2 threads"] {
        let cases: Vec<_> = lines
            .iter()
            .filter(|line| line["row"] == row)
            .map(|line| line["case"].as_str().unwrap())
            .collect();
        for case in ["reference", "mastaba", "quick_cache", "moka future"] {
            assert!(cases.contains(&case), "{row} has {cases:?}");
        }
    }
    for line in &lines {
        for field in ["median", "ratio", "p25", "p75"] {
            assert!(line[field].as_f64().unwrap() > 0.0, "{line}");
        }
        assert!(line["unit"].is_string());
    }
}

#[test]
fn a_multi_get_allocates_no_more_than_it_may() {
    let (sound, out, err) = bench(&["P9", "--json", "--quick"]);
    assert!(sound, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ours = |row: &str| {
        let line = lines.iter().find(|line| line["row"] == row && line["case"] == "mastaba").unwrap();
        line["median"].as_f64().unwrap()
    };
    assert!(ours("P9 request") <= 1.0, "{}", ours("P9 request"));
    assert!(ours("P9 near") <= 110.0, "{}", ours("P9 near"));
    assert!(ours("P9 shared") <= 528.0, "{}", ours("P9 shared"));
}

fn rows(names: &[&str]) -> Vec<Value> {
    let mut arguments = names.to_vec();
    arguments.extend(["--json", "--quick"]);
    let (sound, out, err) = bench(&arguments);
    assert!(sound, "{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The figures of a case; the third quartile of so few rounds is the worst one.
fn worst(lines: &[Value], row: &str, case: &str) -> f64 {
    let line = lines.iter().find(|line| line["row"] == row && line["case"] == case);
    line.unwrap_or_else(|| panic!("{row}: {case} is not in {lines:?}"))["p75"].as_f64().unwrap()
}

#[test]
fn a_warm_request_is_one_mget_and_nothing_else_as_the_server_counts() {
    if missing(&[Program::RedisServer]) {
        return;
    }
    let lines = rows(&["P3"]);
    assert!(worst(&lines, "P3 commands", "mastaba") <= 1.0);
    for case in ["reference", "mastaba joined", "fred MGET", "DataLoader joined"] {
        let measured = |line: &&Value| line["case"] == case && line["unit"] == "us/call";
        assert!(lines.iter().filter(measured).count() >= 2, "{case} is measured for each size");
    }
}

#[test]
fn half_of_the_keys_can_be_made_cold_again_and_again() {
    if missing(&[Program::RedisServer, Program::Initdb, Program::Postgres]) {
        return;
    }
    let lines = rows(&["P5"]);
    for case in ["reference", "mastaba", "fill not awaited", "DataLoader load_many", "one by one"] {
        assert!(lines.iter().any(|line| line["case"] == case), "{case} is not in {lines:?}");
    }
}

#[test]
fn every_kind_of_server_is_measured_by_hand_and_by_us() {
    let programs =
        [Program::RedisServer, Program::Valkey9, Program::Memcached, Program::Initdb, Program::Postgres];
    if missing(&programs) {
        return;
    }
    let lines = rows(&["P15"]);
    for part in ["P15 P3", "P15 P5", "P15 P6"] {
        for case in ["Redis 7", "Valkey 9", "Memcached"] {
            for who in [format!("{case} by hand"), format!("{case}, mastaba")] {
                let measured =
                    |line: &Value| line["row"].as_str().unwrap().starts_with(part) && line["case"] == *who;
                assert!(lines.iter().any(measured), "{part}: {who} is not in {lines:?}");
            }
        }
    }
}

#[test]
fn a_stampede_is_one_statement_and_each_key_once_in_one_process_and_in_two() {
    if missing(&[Program::RedisServer]) {
        return;
    }
    let lines = rows(&["P7"]);
    assert!(worst(&lines, "P7 at once statements", "mastaba") <= 1.0);
    assert!(worst(&lines, "P7 spread statements", "mastaba") <= 2.0);
    for row in ["P7 at once keys", "P7 spread keys", "P7 two processes keys"] {
        // the ratio to the 20 keys that there are
        assert!(worst(&lines, row, "mastaba") <= 1.0, "{row}");
    }
    assert!(worst(&lines, "P7 at once statements", "naive") > 100.0, "a stampede it is");
}

#[test]
fn over_a_network_every_trip_takes_as_long_as_one_there_and_back() {
    if missing(&[Program::RedisServer, Program::Initdb, Program::Postgres]) {
        return;
    }
    let lines = rows(&["P10"]);
    let median = |row: &str, case: &str| {
        let line = lines.iter().find(|line| line["row"] == row && line["case"] == case);
        line.unwrap_or_else(|| panic!("{row}: {case} is not in {lines:?}"))["median"].as_f64().unwrap()
    };
    // microseconds, and the least of trips that follow each other
    for (row, case, trips) in [
        ("P10 P3 1", "reference", 1.0),
        ("P10 P3 100", "mastaba", 1.0),
        ("P10 P3 100", "GET one by one", 100.0),
        ("P10 P5", "reference", 3.0),
        ("P10 P5", "mastaba", 2.0),
        ("P10 P6 1 connection 100% warm p50", "reference", 3.0),
        ("P10 P6 1 connection 100% warm p50", "mastaba", 3.0),
        ("P10 P6 1 connection 90% warm p50", "naive SQL", 61.0),
    ] {
        let took = median(row, case);
        assert!(took >= 500.0 * trips, "{row}: {case} takes {took} us");
    }
    assert!(median("P10 P6 32 connections 90% warm rate", "mastaba near") > 0.0);
}

#[test]
fn what_a_page_costs_redis_is_measured_for_each_way_to_read() {
    if missing(&[Program::RedisServer, Program::Initdb, Program::Postgres]) {
        return;
    }
    let lines = rows(&["P12"]);
    for connections in ["1 connection", "32 connections"] {
        let of = |warm: u8, case| worst(&lines, &format!("P12 {connections} {warm}% warm Redis CPU"), case);
        for case in ["reference", "mastaba", "mastaba near", "by hand and near", "DataLoader"] {
            assert!(of(100, case).is_finite() && of(90, case).is_finite(), "{case}");
        }
    }
    let line = |case| {
        lines.iter().find(|line| line["row"] == "P12 1 connection 90% warm Redis CPU" && line["case"] == case)
    };
    assert!(line("reference").unwrap()["median"].as_f64().unwrap() > 1.0, "a page is three trips at least");
}

#[test]
fn a_write_is_one_trip_or_two_and_sends_little_more_than_itself_to_the_source() {
    if missing(&[Program::RedisServer]) {
        return;
    }
    let lines = rows(&["P11"]);
    for mode in ["simple", "strict", "serve", "degrade"] {
        let case = format!("mastaba {mode}");
        for place in ["memory", "Redis"] {
            assert!(worst(&lines, &format!("P11 {place}"), &case) > 0.0);
            let share = worst(&lines, &format!("P11 {place} reads"), &case);
            assert!(share > 0.0 && share < 50.0, "{mode}, {place}: {share} %");
        }
    }
    let trips = |mode| worst(&lines, "P11 trips", &format!("mastaba {mode}"));
    assert_eq!(["simple", "strict", "serve", "degrade"].map(trips), [1.0, 2.0, 2.0, 2.0]);
}

#[test]
fn an_unknown_row_is_told_what_there_is() {
    let (sound, _, err) = bench(&["P77"]);
    assert!(!sound && err.contains("P77") && err.contains("P1, P2"), "{err}");
}

#[test]
fn a_read_of_a_cluster_is_a_command_for_each_slot_and_by_shards_a_command_for_each_shard() {
    if missing(&[Program::RedisServer]) {
        return;
    }
    let lines = rows(&["P13"]);
    let commands = |case| worst(&lines, "P13 100 commands", case);
    let median = |case: &str| {
        let line = lines.iter().find(|line| line["row"] == "P13 100 commands" && line["case"] == case);
        line.unwrap()["median"].as_f64().unwrap()
    };
    assert!(median("reference") > 90.0, "100 keys fall into nearly as many slots");
    // the generation of the region is a key more
    assert!(commands("mastaba") <= 1.02, "{}", commands("mastaba"));
    for (shards, most) in [("16 shards", 16.0), ("64 shards", 64.0)] {
        assert!(median(&format!("by hand, {shards}")) <= most);
        assert!(median(&format!("mastaba, {shards}")) <= most + 1.0);
    }
    assert!(worst(&lines, "P13 balance", "16 shards, worst name") > 1.0);
    assert!(lines.iter().any(|line| line["unit"] == "us/call" && line["case"] == "mastaba, 16 shards"));
}

/// The names of the rows and of their cases, in the order in which they are printed.
fn skeleton(printed: &str) -> Vec<&str> {
    let named = printed.lines().filter_map(|line| match line.strip_prefix("  ") {
        Some(case) => case.split("  ").next().filter(|case| !case.is_empty() && *case != "case"),
        None => line.starts_with("P14").then(|| line.split("  ").next().unwrap_or(line)),
    });
    named.collect()
}

#[test]
fn a_fleet_loads_a_key_once_and_hears_of_each_change_in_each_process_as_the_page_shows() {
    if missing(&[Program::RedisServer]) {
        return;
    }
    let lines = rows(&["P14"]);
    let text = |line: &'_ Value, field| line[field].as_str().unwrap().to_owned();
    let mut printed: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if at == 0 || lines[at - 1]["row"] != line["row"] {
            printed.push(text(line, "row"));
        }
        printed.push(text(line, "case"));
    }
    let page = include_str!("../../docs/book/src/fleets.md");
    let blocks: Vec<_> =
        page.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(
        skeleton(&blocks.concat()),
        printed,
        "the page on fleets shows what `cargo xtask bench P14` prints"
    );

    let median = |row: &str, case: &str| {
        let line = lines.iter().find(|line| line["row"] == row && line["case"] == case);
        line.unwrap_or_else(|| panic!("{row}: {case} is not in {lines:?}"))["median"].as_f64().unwrap()
    };
    assert!(median("P14 together loads", "100 processes") <= 2.0);
    let sent = |case| median("P14 sent", case);
    assert!(sent("100 processes") - sent("50 processes") > 50.0 * 40.0, "a message has its key");
    for (alone, many) in [("1 process", 5.0), ("5 processes", 4.0)] {
        let next = if alone == "1 process" { "5 processes" } else { "20 processes" };
        let loads = |case| median("P14 outage loads", case);
        assert!(
            loads(next) > loads(alone) * many * 0.6,
            "each adds its own: {} and {}",
            loads(alone),
            loads(next)
        );
    }
    for (case, processes) in [("1 process", 1.0), ("5 processes", 5.0), ("20 processes", 20.0)] {
        assert!(
            median("P14 outage waits", case) >= 5.0 * processes,
            "each finds out alone, by five failures"
        );
    }
}
