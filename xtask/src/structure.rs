//! How the library is built up: no files that use each other in a circle, and no two types of one name.
//!
//! A file uses another one if it names something that stands there: in a `use`, or as a path that begins with `crate`,
//! `self`, `super` or a module below. What a file hands on (`pub use`) is looked for where it stands. Three things are no
//! use: code of tests; what a file has of the files that it is a part of (`claim/fill.rs` is a part of `claim.rs`); and
//! handing on itself, so that the root of a module may list what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Uses that close a circle and are right as they are: the file, what it uses, and why.
const CIRCLES: [(&str, &str, &str); 2] = [
    (
        "source.rs",
        "request.rs",
        "a loader reads through the request that it loads for, which its `LoadContext` gives it",
    ),
    (
        "error.rs",
        "config/problems.rs",
        "the error of a configuration carries what was understood of it to who goes on to check",
    ),
];

/// Names that several types may have, and why.
const NAMES: [(&str, &str); 9] = [
    ("State", "what is behind the lock of one file, and private to it"),
    ("Inner", "what is behind the `Arc` of one type, and private to its file"),
    ("CacheService", "the same for axum and for actix"),
    ("Options", "the same for axum and for actix"),
    ("ResponseFuture", "the same for axum and for actix"),
    ("ScopedBody", "the same for axum and for actix"),
    ("Begin", "the same for sqlx and for sea-orm"),
    ("Transaction", "the same for sqlx and for sea-orm"),
    ("Savepoint", "that of a transaction of sqlx or sea-orm rolls back to one of its write"),
];

/// Programs: what one calls its types is no matter of another one.
const PROGRAMS: [&str; 6] =
    ["bench/src", "crates/mastaba-cli/src", "demo/src", "examples/blog/src", "sim/src", "xtask/src"];

/// One line per problem.
pub(crate) fn problems(root: &Path) -> io::Result<Vec<String>> {
    let library = Crate::read(&root.join("crates/mastaba/src"))?;
    let mut problems = circles(&library);
    let mut crates = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path().join("src");
        if path.is_dir() && !PROGRAMS.iter().any(|program| path == root.join(program)) {
            crates.push(Crate::read(&path)?);
        }
    }
    problems.extend(names(&crates));
    for program in PROGRAMS {
        let program = Crate::read(&root.join(program))?;
        problems.extend(twice(&types(std::slice::from_ref(&program))));
    }
    Ok(problems)
}

fn circles(library: &Crate) -> Vec<String> {
    let allowed = CIRCLES.map(|(file, used, _)| (file, used));
    let mut problems: Vec<String> = library
        .circles(&allowed)
        .into_iter()
        .map(|circle| {
            format!("crates/mastaba/src: these files use each other in a circle: {}", circle.join(", "))
        })
        .collect();
    for (file, used) in allowed {
        if !library.leads(used, file, &allowed) {
            problems
                .push(format!("xtask/src/structure.rs: that {file} uses {used} closes no circle any longer"));
        }
    }
    problems
}

fn names(crates: &[Crate]) -> Vec<String> {
    let types = types(crates);
    let unused = NAMES.iter().filter(|(name, _)| types.get(name).is_none_or(|files| files.len() < 2));
    let unused =
        unused.map(|(name, _)| format!("xtask/src/structure.rs: only one type is called {name} now"));
    twice(&types).chain(unused).collect()
}

/// The types of some crates by name, with the files that have one.
fn types(crates: &[Crate]) -> BTreeMap<&str, Vec<&str>> {
    let mut types: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in crates.iter().flat_map(|of| of.files.values()) {
        for name in file.text.lines().filter_map(type_of) {
            types.entry(name).or_default().push(&file.shown);
        }
    }
    types
}

fn twice(types: &BTreeMap<&str, Vec<&str>>) -> impl Iterator<Item = String> {
    let is_allowed = |name: &str| NAMES.iter().any(|(allowed, _)| *allowed == name);
    let twice = types.iter().filter(move |(name, files)| files.len() > 1 && !is_allowed(name));
    twice.map(|(name, files)| format!("{} types are called {name}: {}", files.len(), files.join(", ")))
}

/// A module by its path below the root of its crate: of `claim/fill.rs`, `claim` and `fill`.
type Module = Vec<String>;

/// The files of a crate, and what each of them uses.
struct Crate {
    files: BTreeMap<Module, File>,
}

struct File {
    /// Its path below the folder of the sources.
    shown: String,
    text: String,
    uses: Vec<Use>,
}

/// One name that a `use` brings in.
struct Use {
    path: Vec<String>,
    name: String,
    /// It is handed on.
    public: bool,
}

impl Crate {
    /// Reads the sources below `src`. Files called `tests` are left out.
    fn read(src: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        list(src, &mut paths)?;
        let mut files = Vec::new();
        for path in paths {
            let shown = path.strip_prefix(src).unwrap_or(&path).display().to_string();
            files.push((shown, fs::read_to_string(&path)?));
        }
        Ok(Self::of(files))
    }

    fn of(sources: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut files = BTreeMap::new();
        for (shown, text) in sources {
            let mut module: Module =
                shown.trim_end_matches(".rs").split(['/', '\\']).map(str::to_owned).collect();
            if module.last().is_some_and(|last| last == "lib" || last == "main" || last == "mod") {
                module.pop();
            }
            if module.iter().any(|part| part == "tests") {
                continue;
            }
            let text = without_tests(&text);
            files.insert(module, File { shown, uses: uses(&text), text });
        }
        Self { files }
    }

    /// The circles, each as the names of its files. `allowed` are uses that count as none, as pairs of files.
    fn circles(&self, allowed: &[(&str, &str)]) -> Vec<Vec<String>> {
        let uses = self.uses(allowed);
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            uses.keys().map(|from| (*from, reached(&uses, from))).collect();
        let mut circles = BTreeSet::new();
        for (from, to) in &reach {
            if to.contains(from) {
                let circle = to.iter().filter(|other| reach[*other].contains(from));
                circles.insert(circle.map(|file| (*file).to_owned()).collect::<Vec<_>>());
            }
        }
        circles.into_iter().collect()
    }

    /// Whether a file uses another one, itself or through others.
    fn leads(&self, from: &str, to: &str, allowed: &[(&str, &str)]) -> bool {
        reached(&self.uses(allowed), from).contains(to)
    }

    /// What each file uses.
    fn uses(&self, allowed: &[(&str, &str)]) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, file) in &self.files {
            let used = self.used(module, file).into_iter().map(|of| self.files[of].shown.as_str());
            let counted = used.filter(|used| !allowed.contains(&(file.shown.as_str(), used)));
            uses.insert(&file.shown, counted.collect());
        }
        uses
    }

    fn used<'c>(&'c self, module: &'c Module, file: &File) -> BTreeSet<&'c Module> {
        let named = file.uses.iter().filter(|of| !of.public).map(|of| of.path.clone());
        let paths = named.chain(paths(&file.text));
        let used = paths.filter_map(|path| self.stands_in(&self.absolute(module, &path)?, 0));
        used.filter(|of| !module.starts_with(of)).collect()
    }

    /// A path from the root of the crate. `None`: it leads out of it.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let mut base = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            first => {
                let below = [&base[..], &[first.to_owned()]].concat();
                if !self.files.contains_key(&below) {
                    return None;
                }
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The file in which something stands, or the one that it was looked for in.
    fn stands_in(&self, path: &[String], depth: usize) -> Option<&Module> {
        let len = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len]))?;
        let (module, file) = self.files.get_key_value(&path[..len])?;
        let Some(name) = path.get(len).filter(|_| depth < 9) else { return Some(module) };
        match file.uses.iter().find(|of| of.name == *name) {
            Some(of) => {
                let mut on = self.absolute(module, &of.path)?;
                on.extend(path[len + 1..].iter().cloned());
                self.stands_in(&on, depth + 1)
            }
            None => Some(module),
        }
    }
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// The text without comments, and without the tests at its end.
fn without_tests(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| match line.find("//") {
        // not within a text
        Some(at) if line[..at].matches('"').count() % 2 == 0 => &line[..at],
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn uses(text: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    for statement in text.split_inclusive(';') {
        let Some(statement) = statement.strip_suffix(';') else { continue };
        let start = statement.rfind("\nuse ").or_else(|| statement.rfind("\npub"));
        let start = start.map_or(statement, |at| &statement[at..]).trim();
        let (public, tree) = match start.strip_prefix("use ") {
            Some(tree) => (false, tree),
            None => match start.strip_prefix("pub").and_then(|rest| rest.split_once("use ")) {
                Some((how, tree)) if how.trim().is_empty() || how.trim().starts_with('(') => (true, tree),
                _ => continue,
            },
        };
        grow(&[], tree, &mut |path| {
            let mut path = path.to_vec();
            let mut name = path.last().cloned().unwrap_or_default();
            if let Some((of, new)) = name.clone().split_once(" as ") {
                path.pop();
                path.push(of.trim().to_owned());
                name = new.trim().to_owned();
            }
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
                name = path.last().cloned().unwrap_or_default();
            }
            uses.push(Use { path, name, public });
        });
    }
    uses
}

/// Calls `leaf` with every path of a tree: `a::{b, c::d}` has two.
fn grow(before: &[String], tree: &str, leaf: &mut impl FnMut(&[String])) {
    let tree = tree.trim();
    let Some((base, inner)) = tree.split_once('{') else {
        if !tree.is_empty() {
            let parts = tree.split("::").map(|part| part.trim().to_owned());
            leaf(&before.iter().cloned().chain(parts).collect::<Vec<_>>());
        }
        return;
    };
    let parts = base.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let base: Vec<String> = before.iter().cloned().chain(parts).collect();
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut from) = (0, 0);
    for (at, sign) in inner.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                grow(&base, &inner[from..at], leaf);
                from = at + 1;
            }
            _ => {}
        }
    }
    grow(&base, &inner[from..], leaf);
}

/// The paths that stand in the code itself.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let in_path = |sign: char| sign.is_alphanumeric() || sign == '_' || sign == ':';
    let is_use = |line: &str| line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "));
    let lines = text.lines().filter(|line| !is_use(line));
    for word in lines.flat_map(|line| line.split(|sign| !in_path(sign))) {
        let path: Vec<String> = word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if word.contains("::") && !word.starts_with(':') && path.len() > 1 {
            paths.push(path);
        }
    }
    paths
}

fn reached<'u>(uses: &BTreeMap<&'u str, BTreeSet<&'u str>>, from: &str) -> BTreeSet<&'u str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = uses.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(uses.get(file).into_iter().flatten());
        }
    }
    reached
}

/// The name of the type that is defined in a line.
fn type_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) => {
            rest.strip_prefix('(').map_or(rest, |rest| rest.split_once(')').map_or("", |(_, rest)| rest))
        }
        None => line,
    };
    let (kind, rest) = line.trim_start().split_once(' ')?;
    let end = rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len());
    (["struct", "enum", "trait", "union"].contains(&kind) && end > 0).then_some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const N: usize>(files: [(&str, &str); N]) -> Crate {
        Crate::of(files.map(|(file, text)| (file.to_owned(), text.to_owned())))
    }

    #[test]
    fn files_that_use_each_other_are_a_circle_through_others_too() {
        let found = of([
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n"),
            ("a.rs", "use crate::b::B;\npub struct A;\n"),
            ("b.rs", "pub struct B;\nfn b() -> crate::c::C {}\n"),
            ("c.rs", "use std::fmt;\nuse super::{A, other};\npub struct C;\n"),
            ("d.rs", "use crate::a::A;\n"),
        ])
        .circles(&[]);
        assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn what_is_handed_on_is_used_where_it_stands() {
        let files = [
            (
                "a.rs",
                "mod inner;\npub(crate) use self::inner::{\n    Inner,\n    Other as New,\n};\nuse crate::b::B;\n",
            ),
            ("a/inner.rs", "pub struct Inner;\npub struct Other;\n"),
            ("b.rs", "use crate::a::New;\npub struct B;\n"),
        ];
        assert!(of(files).circles(&[]).is_empty(), "b.rs uses a/inner.rs, and not a.rs");
    }

    #[test]
    fn parts_of_a_file_tests_comments_and_what_is_allowed_close_no_circle() {
        let files = of([
            ("a.rs", "mod part;\nuse part::Part;\nuse crate::b::B;\npub struct A;\n"),
            ("a/part.rs", "use super::A;\npub struct Part;\n"),
            ("b.rs", "// crate::a::A\npub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
            ("b/tests.rs", "use crate::a::A;\n"),
            ("c.rs", "use crate::d::D;\npub struct C;\n"),
            ("d.rs", "use crate::c::C;\npub struct D;\n"),
        ]);
        assert_eq!(files.circles(&[]), [["c.rs", "d.rs"]]);
        let allowed = [("d.rs", "c.rs")];
        assert!(files.circles(&allowed).is_empty());
        assert!(files.leads("c.rs", "d.rs", &allowed) && !files.leads("b.rs", "a.rs", &allowed));
    }

    #[test]
    fn types_of_one_name_are_found_in_all_crates() {
        let one = of([("a.rs", "struct Lane<T> {\n}\npub(crate) enum Once {}\n    trait Within {}\n")]);
        let other =
            of([("b/c.rs", "pub trait Lane: Send {}\npub struct State;\n"), ("d.rs", "union State {}\n")]);
        let found = names(&[one, other]);
        assert_eq!(found[0], "2 types are called Lane: a.rs, b/c.rs");
        assert!(found[1..].iter().all(|found| found.contains("only one type is called")), "{found:?}");
        assert!(!found.iter().any(|found| found.contains("called State")), "{found:?}");
    }
}
