//! A program in which a panic is the end starts, whatever its types assert.

use std::process::Command;

#[test]
fn a_program_in_which_a_panic_is_the_end_starts_stores_and_reads_back() {
    let mut cargo = Command::new(env!("CARGO"));
    let program =
        cargo.args(["run", "--quiet", "--locked", "--package", "panic-abort", "--profile", "panic-abort"]);
    let output = program.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let why = "a panic ends this program, so it was not tried with values that are made up";
    assert!(said.starts_with(&format!("2 loads, with names ({why}), schema ")), "{said}{errors}");
    assert_eq!(said.lines().count(), 1, "no events: {said}");
}
