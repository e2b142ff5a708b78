//! The pages of the repository: links that lead somewhere, code that is compiled, tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::markdown::{Page, Pages, TableRow, folder, resolve};
use crate::workspace::Workspace;

/// Where the pages of the book are.
pub(crate) const BOOK: &str = "docs/book/src/";
const SUMMARY: &str = "docs/book/src/SUMMARY.md";
const GUARANTEES: &str = "docs/book/src/guarantees.md";

/// Languages of blocks that are not compiled. Whatever is not in this list is taken for Rust by one reader or another.
const OTHERS: [&str; 6] = ["text", "toml", "sh", "sql", "json", "ini"];

/// What a block of Rust may say of itself: without one of them it is run.
const COMPILED: [&str; 4] = ["no_run", "compile_fail", "should_panic", "edition2024"];

/// What is looked at: all of it by its path within the repository.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) pages: Pages,
    /// All other files, and all folders.
    others: BTreeSet<String>,
    /// The text of all sources of Rust.
    rust: Vec<(String, String)>,
}

impl Repository {
    /// Reads it, without what git ignores.
    pub(crate) fn read(workspace: &Workspace) -> io::Result<Self> {
        let mut repository = Self::default();
        repository.visit(&workspace.root, "", workspace)?;
        Ok(repository)
    }

    fn visit(&mut self, at: &Path, path: &str, workspace: &Workspace) -> io::Result<()> {
        for entry in fs::read_dir(at)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let within = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            if entry.file_type()?.is_dir() {
                // a link may well lead to `.ci/run`
                if name != ".git" && !workspace.is_output(&entry.path()) {
                    self.visit(&entry.path(), &within, workspace)?;
                    self.others.insert(within);
                }
            } else if name.ends_with(".md") {
                self.pages.insert(within, Page::read(&fs::read_to_string(entry.path())?));
            } else {
                if name.ends_with(".rs") {
                    self.rust.push((within.clone(), fs::read_to_string(entry.path())?));
                }
                self.others.insert(within);
            }
        }
        Ok(())
    }

    /// One line per problem.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (path, page) in &self.pages {
            problems.extend(self.dead_links(path, page));
            if path.starts_with(BOOK) || path.ends_with("README.md") {
                problems.extend(self.uncompiled(path, page));
            }
            if path.starts_with(BOOK) {
                problems.extend(self.unknown_tests(path, page));
                problems.extend(cells_without_a_test(path, page));
            }
        }
        problems.extend(self.not_in_summary());
        problems.extend(self.without_a_test());
        problems
    }

    fn dead_links(&self, path: &str, page: &Page) -> impl Iterator<Item = String> {
        page.links.iter().filter_map(move |link| {
            let why = self.is_dead(path, page, &link.to)?;
            Some(format!("{path}:{}: the link `{}` leads nowhere: {why}", link.line, link.to))
        })
    }

    /// Why a link leads nowhere. Those to other sites are not looked at.
    fn is_dead(&self, path: &str, page: &Page, to: &str) -> Option<String> {
        if to.contains("://") || to.starts_with("mailto:") {
            return None;
        }
        let (file, anchor) = to.split_once('#').map_or((to, None), |(file, anchor)| (file, Some(anchor)));
        let target = if file.is_empty() {
            page
        } else {
            let Some(file) = resolve(folder(path), file) else {
                return Some("it leaves the repository".to_owned());
            };
            match self.pages.get(&file) {
                Some(target) => target,
                None if self.others.contains(&file) => return None,
                None => return Some(format!("there is no {file}")),
            }
        };
        let anchor = anchor?;
        (!target.anchors.contains(anchor)).then(|| format!("there is no heading `{anchor}`"))
    }

    /// Blocks that no test compiles.
    fn uncompiled(&self, path: &str, page: &Page) -> Vec<String> {
        let mut problems = Vec::new();
        let mut has_rust = false;
        for block in &page.blocks {
            let mut words = block.info.split([',', ' ']).filter(|word| !word.is_empty());
            let why = match words.next() {
                None => Some("has no language; say `text` where it is none".to_owned()),
                Some("rust") => {
                    has_rust = true;
                    let known = |word: &&str| COMPILED.contains(word) || is_code_of_an_error(word);
                    let stray = words.find(|word| !known(word));
                    stray.map(|word| format!("is not compiled: `{word}`"))
                }
                Some(other) if OTHERS.contains(&other) => None,
                Some(other) => Some(format!("has the language `{other}`, which nobody compiles")),
            };
            problems.extend(why.map(|why| format!("{path}:{}: this block {why}", block.line)));
        }
        if has_rust && !self.is_included(path) {
            problems.push(format!(
                "{path}: its code is compiled by no crate; name it in docs/book/code/src/lib.rs"
            ));
        }
        problems
    }

    /// Whether a page is the documentation of something in a crate.
    fn is_included(&self, path: &str) -> bool {
        self.rust.iter().any(|(source, text)| {
            let base = if source == "docs/book/code/src/lib.rs" { "docs/book/code" } else { folder(source) };
            let names = text.split('"').skip(1).step_by(2).filter(|name| name.ends_with(".md"));
            let mut files = names.filter_map(|name| {
                let base = if base == "docs/book/code" { "docs/book" } else { base };
                resolve(base, name)
            });
            (text.contains("include_str!")) && files.any(|file| file == path)
        })
    }

    /// Names of tests that are not there.
    fn unknown_tests(&self, path: &str, page: &Page) -> impl Iterator<Item = String> {
        let named = page.spans.iter().filter(|span| is_name_of_a_test(&span.text));
        named.filter_map(move |span| {
            let known = self.rust.iter().any(|(_, text)| defines(text, &span.text));
            (!known).then(|| format!("{path}:{}: there is no test `{}`", span.line, span.text))
        })
    }

    fn not_in_summary(&self) -> Vec<String> {
        let Some(summary) = self.pages.get(SUMMARY) else { return vec![format!("{SUMMARY} is missing")] };
        let listed: BTreeSet<String> =
            summary.links.iter().filter_map(|link| resolve(BOOK.trim_end_matches('/'), &link.to)).collect();
        let pages = self.pages.keys().filter(|path| path.starts_with(BOOK) && path.as_str() != SUMMARY);
        let missing = pages.filter(|path| !listed.contains(*path));
        missing.map(|path| format!("{path}: it is not in {SUMMARY}")).collect()
    }

    /// Promises that no test shows.
    fn without_a_test(&self) -> Vec<String> {
        let Some(page) = self.pages.get(GUARANTEES) else { return vec![format!("{GUARANTEES} is missing")] };
        if page.rows_with_tests.is_empty() {
            return vec![format!("{GUARANTEES}: there is no table with a column `test`")];
        }
        let rows = page.rows_with_tests.iter();
        let bare = rows.filter(|(_, spans)| !spans.iter().any(|span| is_name_of_a_test(span)));
        bare.map(|(line, _)| format!("{GUARANTEES}:{line}: this promise names no test")).collect()
    }
}

/// Cells that owe a test: others of their column name one.
fn cells_without_a_test(path: &str, page: &Page) -> Vec<String> {
    let mut problems = Vec::new();
    for table in &page.tables {
        let columns = table.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let names_one = |row: &TableRow, column: usize| {
            row.cells.get(column).is_some_and(|spans| spans.iter().any(|span| is_name_of_a_test(span)))
        };
        for column in (0..columns).filter(|column| table.iter().any(|row| names_one(row, *column))) {
            let bare = table.iter().filter(|row| !names_one(row, column));
            problems.extend(bare.map(|row| {
                let nth = column + 1;
                format!("{path}:{}: column {nth} names no test here, and one in other rows", row.line)
            }));
        }
    }
    problems
}

/// `E0277`.
fn is_code_of_an_error(word: &str) -> bool {
    word.strip_prefix('E')
        .is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A test's name is a sentence. No setting has so many words, and metrics begin with the name of the library.
fn is_name_of_a_test(text: &str) -> bool {
    let is_name = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_name && text.matches('_').count() >= 4 && !text.starts_with("mastaba_")
}

/// Whether a source has a function of this name.
fn defines(text: &str, name: &str) -> bool {
    let opening = format!("fn {name}");
    text.match_indices(&opening).any(|(at, _)| {
        let next = text[at + opening.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests;
