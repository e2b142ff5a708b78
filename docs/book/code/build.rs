//! Takes the program out of the page that begins with an empty folder, so that a test can run what the page shows.

use std::path::Path;
use std::{env, fs};

const PAGE: &str = "../src/start/axum.md";

fn main() {
    println!("cargo::rerun-if-changed={PAGE}");
    let page = fs::read_to_string(PAGE).expect("the page");
    let program = page.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next());
    let to = Path::new(&env::var_os("OUT_DIR").expect("set by cargo")).join("start.rs");
    fs::write(to, program.expect("a program on the page")).expect("a file can be written");
}
