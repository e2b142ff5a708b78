//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    /// Names the steps of `test`.
    List,
    /// Runs the steps named in `only`, or all when it is empty.
    Test {
        only: Vec<String>,
    },
    /// Runs the tests of the Redis backend against each of these servers.
    Matrix {
        servers: Vec<String>,
    },
    Fmt,
    Bench {
        rows: Vec<String>,
        json: bool,
    },
    /// Draws what is measured, or what was measured before and printed with `--json`.
    Chart {
        from: Option<PathBuf>,
    },
    /// Builds the guide.
    Book,
    /// Hands its arguments on, but for the server to run over.
    Soak {
        server: Option<String>,
        arguments: Vec<String>,
    },
}

const COMMANDS: &str = "test, bench, soak, book, fmt";

/// The text of `--help`.
pub(crate) fn help() -> String {
    format!(
        "\
cargo xtask COMMAND

  test                   every check that CI makes, in order, with a summary at the end
  test --only STEP       just this step; may be given several times
  test --list            the names of the steps
  test --servers redis7,valkey9
                         the tests of mastaba-redis against each of these servers; there are redis7 (what is installed
                         as redis-server), redis8, valkey8 and valkey9, which are fetched
  bench [ROWS..] [--json]
                         measures, with the bench profile; all rows when none is named
  bench --svg [--from FILE]
                         measures the rows that docs/img/bench.svg shows, and draws it; or draws what --json printed
  soak [--seconds N] [--seed N] [--processes N] [--server valkey9|memcached]
                         reads and writes over a Redis, or that server, behind proxies that fail, and compares every read
  book                   builds the guide (docs/book), when mdbook is installed
  fmt                    formats every crate of the workspace
  --help                 this text

Steps of test:
{}
The step servers installs Debian packages when this is root or sudo asks nothing, and fetches what is no package of this
machine into mastaba/servers in the folder of the user's caches; nothing else is ever fetched.
A step whose tool is not installed is skipped by name. Without their servers, tests are skipped by name, or fail when
the variable CI is set.
The exit code is 0 when no step failed, 1 when one did, 101 when the command line is wrong.",
        crate::steps::list()
    )
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let args: Vec<OsString> = args.into_iter().collect();
    read(lexopt::Parser::from_args(args)).map_err(|error| format!("{error}; see cargo xtask --help"))
}

fn read(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    match parser.next()? {
        None | Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(Value(name)) => match name.string()?.as_str() {
            "test" => test(parser),
            "bench" => bench(parser),
            "soak" => soak(parser),
            "book" => nothing_more(parser, Command::Book),
            "fmt" => nothing_more(parser, Command::Fmt),
            "help" => Ok(Command::Help),
            other => Err(format!("no command `{other}`; there are: {COMMANDS}").into()),
        },
        Some(other) => Err(other.unexpected()),
    }
}

fn test(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut only = Vec::new();
    let (mut list, mut servers) = (false, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("only") => only.push(parser.value()?.string()?),
            Long("list") => list = true,
            Long("servers") => {
                let names = parser.value()?.string()?;
                servers.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    match (list, servers.is_empty(), only.is_empty()) {
        (true, ..) => Ok(Command::List),
        (false, true, _) => Ok(Command::Test { only }),
        (false, false, true) => Ok(Command::Matrix { servers }),
        (false, false, false) => Err("--servers has tests of its own, and takes no --only".into()),
    }
}

fn bench(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut rows, mut json, mut svg, mut from) = (Vec::new(), false, false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(row) => rows.push(row.string()?),
            Long("json") => json = true,
            Long("svg") => svg = true,
            Long("from") => from = Some(PathBuf::from(parser.value()?)),
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    match (svg, from) {
        (false, None) => Ok(Command::Bench { rows, json }),
        (true, from) if rows.is_empty() && !json => Ok(Command::Chart { from }),
        (true, _) => Err("--svg has rows of its own, and takes no --json".into()),
        (false, Some(_)) => Err("--from is for --svg".into()),
    }
}

fn soak(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut server, mut arguments) = (None, Vec::new());
    let mut given = parser.raw_args()?;
    while let Some(argument) = given.next() {
        match argument.string()?.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            "--server" => server = Some(given.next().ok_or("--server needs a name")?.string()?),
            argument => arguments.push(argument.to_owned()),
        }
    }
    Ok(Command::Soak { server, arguments })
}

fn nothing_more(mut parser: lexopt::Parser, command: Command) -> Result<Command, lexopt::Error> {
    match parser.next()? {
        None => Ok(command),
        Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(other) => Err(other.unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn test_without_options_asks_for_every_step() {
        assert_eq!(parsed("test"), Ok(Command::Test { only: Vec::new() }));
    }

    #[test]
    fn only_may_be_repeated_and_written_both_ways() {
        let only = vec!["fmt".to_owned(), "deny".to_owned()];
        assert_eq!(parsed("test --only fmt --only=deny"), Ok(Command::Test { only }));
    }

    #[test]
    fn servers_are_named_with_commas_and_go_with_no_step() {
        let servers = vec!["redis7".to_owned(), "valkey9".to_owned()];
        assert_eq!(parsed("test --servers redis7,valkey9"), Ok(Command::Matrix { servers }));
        assert!(parsed("test --servers redis7 --only fmt").unwrap_err().contains("--only"));
    }

    #[test]
    fn only_needs_a_step() {
        assert!(parsed("test --only").unwrap_err().contains("--only"));
    }

    #[test]
    fn list_wins_over_running() {
        assert_eq!(parsed("test --list"), Ok(Command::List));
        assert_eq!(parsed("test --only fmt --list"), Ok(Command::List));
    }

    #[test]
    fn bench_takes_rows_and_json_in_any_order() {
        let rows = vec!["P1".to_owned(), "P2".to_owned()];
        assert_eq!(parsed("bench P1 --json P2"), Ok(Command::Bench { rows, json: true }));
        assert_eq!(parsed("bench"), Ok(Command::Bench { rows: Vec::new(), json: false }));
    }

    #[test]
    fn a_picture_is_made_of_a_run_or_of_a_file() {
        assert_eq!(parsed("bench --svg"), Ok(Command::Chart { from: None }));
        let from = Some(PathBuf::from("a.jsonl"));
        assert_eq!(parsed("bench --from a.jsonl --svg"), Ok(Command::Chart { from }));
        for line in ["bench --svg P1", "bench --svg --json", "bench --from a.jsonl", "bench --svg --from"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn soak_hands_its_arguments_on() {
        let arguments = vec!["--seconds".to_owned(), "5".to_owned()];
        assert_eq!(
            parsed("soak --seconds 5"),
            Ok(Command::Soak { server: None, arguments: arguments.clone() })
        );
        let server = Some("valkey9".to_owned());
        assert_eq!(parsed("soak --server valkey9 --seconds 5"), Ok(Command::Soak { server, arguments }));
        assert!(parsed("soak --server").unwrap_err().contains("--server needs a name"));
        assert_eq!(parsed("soak --help"), Ok(Command::Help));
    }

    #[test]
    fn help_is_found_everywhere_and_nothing_at_all_is_help() {
        for line in ["", "--help", "-h", "help", "test --help", "bench -h", "fmt --help", "book -h"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
        assert!(help().contains("features"), "the steps are part of the help");
        assert!(help().contains("\n  servers   what the tests talk to"), "{}", help());
    }

    #[test]
    fn an_unknown_command_is_told_what_there_is() {
        let error = parsed("tset").unwrap_err();
        assert!(error.contains("`tset`") && error.contains("test, bench, soak, book, fmt"), "{error}");
    }

    #[test]
    fn what_a_command_does_not_take_is_refused() {
        for line in ["test fmt", "test --fast", "fmt now", "book now", "bench --yaml", "--version"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
