//! The data: what `cargo metadata` says of this workspace.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde::Deserialize;

use crate::Result;

/// The packages of the workspace and everything that they are built from.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<ManifestPackage>,
    pub(crate) resolve: Resolve,
}

/// One package, as its manifest describes it.
#[derive(Deserialize)]
pub(crate) struct ManifestPackage {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// None for a member of the workspace.
    pub(crate) source: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) authors: Vec<String>,
    pub(crate) keywords: Vec<String>,
    pub(crate) features: HashMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<ManifestDependency>,
}

/// What a manifest asks for. Which package that became, if any, stands in [`Resolve`].
#[derive(Deserialize)]
pub(crate) struct ManifestDependency {
    pub(crate) name: String,
    pub(crate) req: String,
    /// None for an ordinary one; `dev` or `build`.
    pub(crate) kind: Option<String>,
    pub(crate) optional: bool,
    pub(crate) rename: Option<String>,
}

/// Which packages were chosen.
#[derive(Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// The packages that one package is built with.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<Chosen>,
}

/// One of them, under the name that the code calls it by.
#[derive(Deserialize)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) pkg: String,
}

/// Asks cargo. First without the network: who could build this has all of it.
pub(crate) fn read() -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // packages of other platforms need not be on this machine
    let host = host(&run(Command::new(&cargo).arg("-vV"))?)?;
    let ask = |offline: bool| {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version", "1", "--color", "never", "--filter-platform", &host]);
        if let Some(manifest) = manifest() {
            command.arg("--manifest-path").arg(manifest);
        }
        if offline {
            command.arg("--offline");
        }
        run(&mut command)
    };
    let output = match ask(true)? {
        output if output.status.success() => output,
        _ => ask(false)?,
    };
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let why = told.lines().find(|line| line.starts_with("error")).unwrap_or("it did not say why");
        return Err(format!("the data comes from `cargo metadata`, which failed: {why}").into());
    }
    let mut metadata: Metadata = serde_json::from_slice(&output.stdout)
        .map_err(|why| format!("`cargo metadata` answered something unknown: {why}"))?;
    // what the reader knows comes first
    metadata.packages.sort_by_key(|package| package.source.is_some());
    Ok(metadata)
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|why| {
        let program = command.get_program().display().to_string();
        if why.kind() == ErrorKind::NotFound {
            format!("the data comes from `cargo metadata`, and there is no {program} to run").into()
        } else {
            format!("the data comes from `cargo metadata`, and {program} could not be run: {why}").into()
        }
    })
}

fn host(output: &Output) -> Result<String> {
    let told = String::from_utf8_lossy(&output.stdout);
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(|host| host.trim().to_owned())
        .ok_or_else(|| "`cargo -vV` does not say which platform it is for".into())
}

/// The manifest of this workspace; from a folder without one the binary was started, cargo looks for itself.
fn manifest() -> Option<PathBuf> {
    let started = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    started.into_iter().chain([built]).map(|folder| folder.join("Cargo.toml")).find(|file| file.is_file())
}
