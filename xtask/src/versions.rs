//! The Rust that each crate promises to do with: none that is older than what its dependencies need.
//!
//! A dependency of ours that is optional and not switched on by default does not count: who switches it on finds its need
//! in its own manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cargo;

/// One line per problem.
pub(crate) fn problems() -> Vec<String> {
    // offline, and for this platform: what was built has been fetched, and nothing else has to be
    let host = match cargo::command().arg("-vV").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return vec![format!("cargo did not start: {error}")],
    };
    let Some(host) = host.lines().find_map(|line| line.strip_prefix("host: ")) else {
        return vec!["cargo does not say for which platform it builds".to_owned()];
    };
    let arguments = ["metadata", "--format-version", "1", "--offline", "--filter-platform", host];
    let output = match cargo::command().args(arguments).output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            return vec![format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr))];
        }
        Err(error) => return vec![format!("cargo did not start: {error}")],
    };
    let metadata: Value = match serde_json::from_slice(&output) {
        Ok(metadata) => metadata,
        Err(error) => return vec![format!("cargo metadata is no JSON: {error}")],
    };
    let Some(graph) = Graph::read(&metadata) else {
        return vec!["cargo metadata has an unknown form".to_owned()];
    };
    graph.problems()
}

/// A version, as far as it matters: `1.90` is `1.90.0`.
type Version = (u64, u64, u64);

#[derive(Default)]
struct Graph<'m> {
    names: BTreeMap<&'m str, &'m str>,
    /// What each needs, where it says so.
    needs: BTreeMap<&'m str, Version>,
    /// What each stands on: not for its tests, and not for its build.
    on: BTreeMap<&'m str, Vec<&'m str>>,
    ours: Vec<&'m str>,
}

impl<'m> Graph<'m> {
    fn read(metadata: &'m Value) -> Option<Self> {
        let mut graph = Self::default();
        for package in metadata["packages"].as_array()? {
            let id = package["id"].as_str()?;
            graph.names.insert(id, package["name"].as_str()?);
            if let Some(version) = package["rust_version"].as_str().and_then(version) {
                graph.needs.insert(id, version);
            }
        }
        graph.ours = metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let by_choice: BTreeMap<&str, BTreeSet<&str>> = metadata["packages"]
            .as_array()?
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, by_choice(package))))
            .filter(|(id, _)| graph.ours.contains(id))
            .collect();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let id = node["id"].as_str()?;
            let of_build = |dep: &&Value| {
                dep["dep_kinds"]
                    .as_array()
                    .is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
            };
            let deps = node["deps"].as_array()?.iter().filter(of_build).filter_map(|dep| dep["pkg"].as_str());
            let is_chosen = |dep: &&str| {
                let name = graph.names.get(dep).copied().unwrap_or_default();
                by_choice.get(id).is_some_and(|names| names.contains(name))
            };
            graph.on.insert(id, deps.filter(|dep| !is_chosen(dep)).collect());
        }
        Some(graph)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for ours in &self.ours {
            let name = self.names.get(ours).copied().unwrap_or(ours);
            let Some(promised) = self.needs.get(ours).copied() else {
                problems.push(format!("{name}: it does not say which Rust it needs (`rust-version`)"));
                continue;
            };
            let most =
                self.all_below(ours).into_iter().filter_map(|id| Some((*self.needs.get(id)?, id))).max();
            if let Some((needed, id)) = most.filter(|(needed, _)| *needed > promised) {
                problems.push(format!(
                    "{name}: it promises to do with Rust {}, and {} needs {}",
                    shown(promised),
                    self.names.get(id).unwrap_or(&id),
                    shown(needed)
                ));
            }
        }
        problems
    }

    fn all_below(&self, of: &'m str) -> BTreeSet<&'m str> {
        let (mut all, mut waiting) = (BTreeSet::new(), vec![of]);
        while let Some(id) = waiting.pop() {
            let new = self.on.get(id).into_iter().flatten().filter(|dep| all.insert(**dep));
            waiting.extend(new);
        }
        all
    }
}

/// The dependencies of a package that are there only when somebody switches them on.
fn by_choice(package: &Value) -> BTreeSet<&str> {
    let features =
        |name: &str| package["features"][name].as_array().into_iter().flatten().filter_map(Value::as_str);
    let (mut on, mut waiting) = (BTreeSet::new(), vec!["default"]);
    while let Some(feature) = waiting.pop() {
        let new = features(feature).filter(|name| on.insert(name.strip_prefix("dep:").unwrap_or(name)));
        waiting.extend(new);
    }
    let optional =
        package["dependencies"].as_array().into_iter().flatten().filter(|dep| dep["optional"] == true);
    optional.filter_map(|dep| dep["name"].as_str()).filter(|name| !on.contains(name)).collect()
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| part.parse::<u64>().ok());
    Some((parts.next()??, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)))
}

fn shown((major, minor, patch): Version) -> String {
    if patch == 0 { format!("{major}.{minor}") } else { format!("{major}.{minor}.{patch}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `ours` stands on `a`, that on `b`; `b` is also needed by tests of `other`. `ours` may stand on `late`.
    fn problems(ours: Option<&str>, b: &str, default: &[&str]) -> Vec<String> {
        let package = |name: &str, rust: Option<&str>| {
            json!({
                "id": name,
                "name": name,
                "rust_version": rust,
                "features": { "default": default, "more": ["dep:late"] },
                "dependencies": [{ "name": "a", "optional": false }, { "name": "late", "optional": true }],
            })
        };
        let on = |name: &str, kind: Option<&str>| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("ours", ours),
                package("other", Some("1.80")),
                package("a", None),
                package("b", Some(b)),
                package("late", Some("1.200")),
            ],
            "workspace_members": ["ours", "other"],
            "resolve": { "nodes": [
                { "id": "ours", "deps": [on("a", None), on("late", None)] },
                { "id": "other", "deps": [on("b", Some("dev"))] },
                { "id": "a", "deps": [on("b", None)] },
                { "id": "b", "deps": [] },
                { "id": "late", "deps": [] },
            ] },
        });
        Graph::read(&metadata).unwrap().problems()
    }

    #[test]
    fn a_promise_that_a_dependency_breaks_is_found() {
        let found = problems(Some("1.85"), "1.90.1", &[]);
        assert_eq!(found, ["ours: it promises to do with Rust 1.85, and b needs 1.90.1"]);
    }

    #[test]
    fn what_tests_need_breaks_no_promise() {
        assert_eq!(problems(Some("1.90"), "1.90.0", &[]), [""; 0]);
        assert_eq!(problems(Some("1.100"), "1.90", &[]), [""; 0], "versions are no text");
    }

    #[test]
    fn what_a_feature_needs_counts_where_it_is_on_by_default() {
        let found = problems(Some("1.90"), "1.90.0", &["more"]);
        assert_eq!(found, ["ours: it promises to do with Rust 1.90, and late needs 1.200"]);
    }

    #[test]
    fn a_crate_that_promises_nothing_is_named() {
        assert!(problems(None, "1.70", &[])[0].starts_with("ours: it does not say"));
    }
}
