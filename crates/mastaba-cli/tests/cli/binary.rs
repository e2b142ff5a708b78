//! Runs the binary.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

/// What it said, and how it ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs it with these arguments, and nothing in its environment that it reads.
pub(crate) async fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, &[]).await
}

/// Runs it against a server and gives the JSON that it prints.
///
/// # Panics
/// If it ends with another code.
pub(crate) async fn json(url: &str, words: &[&str], code: i32) -> Value {
    let ran = run(&[words, &["--json", "--url", url]].concat()).await;
    assert_eq!((ran.code, ran.err.as_str()), (code, ""), "{}", ran.out);
    serde_json::from_str(&ran.out).expect("it prints JSON")
}

/// The same with variables.
pub(crate) async fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mastaba"));
    command.args(arguments).env_remove("MASTABA_URL").envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().await.expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Ran { code: status.code().expect("it ends by itself"), out: text(stdout), err: text(stderr) }
}
