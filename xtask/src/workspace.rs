//! The workspace, as cargo describes it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cargo::{self, Call};

const BENCH: &str = "mastaba-bench";

/// What the steps need to know. Nothing about packages or features is written down a second time here.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Where cargo builds: no sources of ours.
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) is_library: bool,
    pub(crate) is_published: bool,
    /// In order of name, without `default`.
    pub(crate) features: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace around the current folder.
    pub(crate) fn discover() -> Result<Self, String> {
        let output = cargo::command()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .map_err(|error| format!("cargo did not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata is no JSON: {error}"))?;
        Self::read(&metadata).ok_or_else(|| "cargo metadata has an unknown form".to_owned())
    }

    fn read(metadata: &Value) -> Option<Self> {
        let mut packages =
            metadata["packages"].as_array()?.iter().map(package).collect::<Option<Vec<_>>>()?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Self {
            root: metadata["workspace_root"].as_str()?.into(),
            target: metadata["target_directory"].as_str()?.into(),
            packages,
        })
    }

    /// Folders that git ignores: what is built lies there, other people's sources included.
    pub(crate) fn is_output(&self, folder: &Path) -> bool {
        folder == self.target || ["target", "artifacts"].iter().any(|name| folder.ends_with(name))
    }

    /// The call that measures.
    pub(crate) fn bench(&self, rows: &[String], json: bool) -> Result<Call, String> {
        if !self.packages.iter().any(|package| package.name == BENCH) {
            return Err(format!("this workspace has no package {BENCH}"));
        }
        let fixed = ["run", "--profile", "bench", "--package", BENCH, "--"].map(str::to_owned);
        let json = json.then(|| "--json".to_owned());
        Ok(Call::new(fixed.into_iter().chain(rows.iter().cloned()).chain(json)))
    }

    /// The soak over a real Redis.
    pub(crate) fn soak(&self, arguments: &[String]) -> Call {
        let fixed = ["run", "--release", "--package", "mastaba-redis", "--example", "chaos", "--"];
        Call::new(fixed.map(str::to_owned).into_iter().chain(arguments.iter().cloned()))
    }
}

fn package(value: &Value) -> Option<Package> {
    let kinds = value["targets"].as_array()?.iter().filter_map(|target| target["kind"].as_array()).flatten();
    let mut features: Vec<String> = value["features"].as_object()?.keys().cloned().collect();
    features.retain(|feature| feature != "default");
    features.sort();
    Some(Package {
        name: value["name"].as_str()?.to_owned(),
        is_library: kinds.filter_map(Value::as_str).any(|kind| kind == "lib" || kind == "proc-macro"),
        // `publish = false` is a list of no registry
        is_published: value["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        features,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Value {
        json!({
            "workspace_root": "/somewhere",
            "target_directory": "/somewhere/target",
            "packages": [
                { "name": "mastaba-bench", "publish": [], "features": {}, "targets": [{ "kind": ["bin"] }] },
                {
                    "name": "lib",
                    "features": { "toml": ["dep:toml"], "default": ["near"], "near": [] },
                    "targets": [{ "kind": ["lib"] }, { "kind": ["test"] }],
                },
            ],
        })
    }

    #[test]
    fn features_kinds_and_who_is_published_are_read_from_cargo() {
        let workspace = Workspace::read(&metadata()).unwrap();
        let features = vec!["near".to_owned(), "toml".to_owned()];
        let package = Package { name: "lib".to_owned(), is_library: true, is_published: true, features };
        assert_eq!(workspace.packages[0], package);
        assert!(!workspace.packages[1].is_library && !workspace.packages[1].is_published);
    }

    #[test]
    fn folders_of_output_are_left_alone() {
        let workspace = Workspace { target: "/elsewhere/built".into(), ..Workspace::default() };
        assert!(workspace.is_output(Path::new("/elsewhere/built")));
        assert!(workspace.is_output(Path::new("/w/target")));
        assert!(!workspace.is_output(Path::new("/w/crates")));
    }

    #[test]
    fn an_unknown_form_is_not_guessed_at() {
        assert!(Workspace::read(&json!({ "packages": [{}] })).is_none());
    }

    #[test]
    fn bench_hands_rows_and_json_on() {
        let workspace = Workspace::read(&metadata()).unwrap();
        let call = workspace.bench(&["P1".to_owned()], true).unwrap();
        assert_eq!(call.to_string(), "cargo run --profile bench --package mastaba-bench -- P1 --json");
        assert!(Workspace::default().bench(&[], false).unwrap_err().contains("mastaba-bench"));
    }
}
