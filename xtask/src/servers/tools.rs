//! Other people's tools, called.

use std::io::{Error, ErrorKind};
use std::process::{Command, Stdio};

/// Runs it and shows what it prints; `failure` is the sentence where it does not go well.
pub(super) fn call(command: &[&str], failure: &str) -> Result<(), String> {
    let status = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).status();
    let status = status.map_err(|error| not_started(command, &error))?;
    if status.success() { Ok(()) } else { Err(failure.to_owned()) }
}

/// Runs it, and gives whether it went well and what it prints.
pub(super) fn output_of(command: &[&str]) -> Result<(bool, String), String> {
    let output =
        Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|error| not_started(command, &error))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn not_started(command: &[&str], error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{} is not installed", command[0]),
        _ => format!("{} does not start: {error}", command[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let missing = call(&["no-such-program-anywhere", "now"], "it failed");
        assert_eq!(missing, Err("no-such-program-anywhere is not installed".to_owned()));
    }

    #[test]
    fn a_tool_that_fails_fails_with_the_sentence_that_was_given() {
        assert_eq!(call(&["false"], "it failed"), Err("it failed".to_owned()));
        assert_eq!(call(&["true"], "it failed"), Ok(()));
        assert_eq!(output_of(&["sh", "-c", "echo a; exit 3"]), Ok((false, "a\n".to_owned())));
    }
}
