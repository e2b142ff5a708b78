//! `cargo xtask book`: the guide, built by mdBook.
//!
//! Its pages link to others of the repository: decisions, caveats, examples. In a built book these would lead nowhere, so the
//! book is built of a copy of its pages that has those files beside it, and links to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::markdown::{Page, folder, include, relative, resolve};
use crate::pages::BOOK;
use crate::workspace::Workspace;

/// Where files from elsewhere lie in the copy.
const BESIDE: &str = "repository";
const SUMMARY: &str = "SUMMARY.md";

/// Builds it, or says why it is not built. Whether nothing went wrong.
pub(crate) fn build(workspace: &Workspace) -> Result<bool, String> {
    let staged = workspace.target.join("book-pages");
    let built = workspace.target.join("book");
    let pages = Staging::of(&workspace.root)?;
    pages.write(&workspace.root, &staged)?;
    if !mdbook(&["--version"]) {
        println!(
            "skipped: mdbook is not installed (cargo install mdbook); the pages lie in {}",
            staged.display()
        );
        return Ok(true);
    }
    let (from, to) = (staged.display().to_string(), built.display().to_string());
    let sound = mdbook(&["build", &from, "--dest-dir", &to]);
    if sound {
        println!("{}", built.join("index.html").display());
    }
    Ok(sound)
}

fn mdbook(arguments: &[&str]) -> bool {
    let mut command = Command::new("mdbook");
    command.args(arguments).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The files of the copy, by their path in it.
#[derive(Debug, Default)]
struct Staging {
    pages: BTreeMap<String, String>,
    /// Files that are copied as they are: path in the repository, and in the copy.
    files: BTreeMap<String, String>,
}

impl Staging {
    /// All that the summary leads to, from page to page.
    fn of(root: &Path) -> Result<Self, String> {
        let read = |path: &str| {
            fs::read_to_string(root.join(path)).map_err(|error| format!("{path} cannot be read: {error}"))
        };
        let is_file = |path: &str| root.join(path).is_file();
        Self::follow(&read, &is_file)
    }

    fn follow(
        read: &impl Fn(&str) -> Result<String, String>,
        is_file: &impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let mut staging = Self::default();
        let mut waiting = VecDeque::from([format!("{BOOK}{SUMMARY}")]);
        let mut seen = BTreeSet::from([format!("{BOOK}{SUMMARY}")]);
        let mut beside = Vec::new();
        while let Some(path) = waiting.pop_front() {
            let base = folder(&path);
            let text = include(&read(&path)?, |file| {
                let from =
                    resolve(base, file).ok_or_else(|| format!("{path} includes {file} from outside"))?;
                read(&from)
            })?;
            let page = Page::read(&text);
            let mut out = text.clone();
            // from the last to the first, so that what was found stays where it is
            for link in page.links.iter().rev() {
                let Some(target) = local(base, &link.to).filter(|target| is_file(target)) else { continue };
                if target.ends_with(".md") {
                    if seen.insert(target.clone()) {
                        waiting.push_back(target.clone());
                    }
                } else {
                    staging.files.insert(target.clone(), place(&target));
                }
                let anchor =
                    link.to.split_once('#').map_or(String::new(), |(_, anchor)| format!("#{anchor}"));
                let to = relative(folder(&place(&path)), &place(&target)) + &anchor;
                let written =
                    text[link.range.clone()].replacen(&format!("({}", link.to), &format!("({to}"), 1);
                out.replace_range(link.range.clone(), &written);
            }
            if !path.starts_with(BOOK) {
                beside.push((place(&path), page.title));
            }
            staging.pages.insert(place(&path), out);
        }
        let summary = staging.pages.entry(SUMMARY.to_owned()).or_default();
        summary.push_str("\n# From the repository\n\n");
        beside.sort();
        for (path, title) in beside {
            let _ = writeln!(summary, "- [{}]({path})", if title.is_empty() { &path } else { &title });
        }
        Ok(staging)
    }

    fn write(&self, root: &Path, to: &Path) -> Result<(), String> {
        let failed = |path: &Path, error: &std::io::Error| format!("{}: {error}", path.display());
        if to.exists() {
            fs::remove_dir_all(to).map_err(|error| failed(to, &error))?;
        }
        let put = |path: &Path, text: &[u8]| -> Result<(), String> {
            let parent = path.parent().unwrap_or(to);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(path, text))
                .map_err(|error| failed(path, &error))
        };
        let from = root.join(folder(BOOK.trim_end_matches('/'))).join("book.toml");
        let settings = fs::read(&from).map_err(|error| failed(&from, &error))?;
        put(&to.join("book.toml"), &settings)?;
        for (path, text) in &self.pages {
            put(&to.join("src").join(path), text.as_bytes())?;
        }
        for (path, place) in &self.files {
            let bytes = fs::read(root.join(path)).map_err(|error| failed(&root.join(path), &error))?;
            put(&to.join("src").join(place), &bytes)?;
        }
        Ok(())
    }
}

/// What a link to something in the repository leads to.
fn local(base: &str, to: &str) -> Option<String> {
    let file = to.split('#').next().filter(|file| !file.is_empty() && !file.contains("://"))?;
    resolve(base, file)
}

/// Where a file of the repository lies in the copy. The repository's README is not the front page of the book.
fn place(path: &str) -> String {
    match path.strip_prefix(BOOK) {
        Some(page) => page.to_owned(),
        None => format!("{BESIDE}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("docs/book/src/SUMMARY.md", "# Summary\n\n- [One](guide/one.md)\n"),
            (
                "docs/book/src/guide/one.md",
                "# One\n[two](../two.md#a) [why](../../../why.md#b) ![it](../../../a.svg) [site](https://a.example)\n\
                 {{#include ../../../table.md}}",
            ),
            ("docs/book/src/two.md", "# Two\n[one](guide/one.md)\n"),
            ("docs/why.md", "# Why\n[back](book/src/two.md) [more](more.md)\n"),
            ("docs/more.md", "no heading"),
            ("docs/a.svg", "<svg/>"),
            ("docs/table.md", "| a |\n"),
        ])
    }

    fn staged() -> Staging {
        let files = files();
        let read = |path: &str| files.get(path).map(|text| (*text).to_owned()).ok_or(format!("no {path}"));
        Staging::follow(&read, &|path| files.contains_key(path)).unwrap()
    }

    #[test]
    fn what_lies_elsewhere_is_taken_along_and_linked_to() {
        let staged = staged();
        assert_eq!(
            staged.pages["guide/one.md"],
            "# One\n[two](../two.md#a) [why](../repository/docs/why.md#b) ![it](../repository/docs/a.svg) \
             [site](https://a.example)\n| a |\n"
        );
        assert_eq!(staged.pages["repository/docs/why.md"], "# Why\n[back](../../two.md) [more](more.md)\n");
        assert_eq!(staged.files["docs/a.svg"], "repository/docs/a.svg");
    }

    #[test]
    fn what_was_taken_along_stands_in_the_summary() {
        let summary = &staged().pages["SUMMARY.md"];
        assert!(summary.contains("- [One](guide/one.md)"), "{summary}");
        assert!(summary.contains("- [Why](repository/docs/why.md)"), "{summary}");
        assert!(summary.contains("- [repository/docs/more.md](repository/docs/more.md)"), "{summary}");
    }

    #[test]
    fn a_page_that_cannot_be_read_is_named() {
        let error = Staging::follow(&|path| Err(format!("no {path}")), &|_| true).unwrap_err();
        assert_eq!(error, "no docs/book/src/SUMMARY.md");
    }
}
