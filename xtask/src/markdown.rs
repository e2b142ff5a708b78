//! What a page of Markdown consists of, as far as checks and the book need to know.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// A page, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Of links and images, in order.
    pub(crate) links: Vec<Link>,
    /// What a link may lead to within the page: one for each heading.
    pub(crate) anchors: BTreeSet<String>,
    /// Fenced blocks of code.
    pub(crate) blocks: Vec<Block>,
    /// What stands between backticks in a line of text.
    pub(crate) spans: Vec<Span>,
    /// Lines of rows of tables, with what stands between backticks in them, where a column of the table is called `test`.
    pub(crate) rows_with_tests: Vec<(usize, Vec<String>)>,
    /// The rows of each table, without its head.
    pub(crate) tables: Vec<Vec<TableRow>>,
    /// The first heading.
    pub(crate) title: String,
}

/// A row of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableRow {
    pub(crate) line: usize,
    /// What stands between backticks in each cell.
    pub(crate) cells: Vec<Vec<String>>,
}

/// Where a link or an image leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) line: usize,
    /// All of the link in the text of the page.
    pub(crate) range: Range<usize>,
    pub(crate) to: String,
}

/// A fenced block of code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) line: usize,
    /// What stands behind the opening fence.
    pub(crate) info: String,
}

/// Code in a line of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn read(text: &str) -> Self {
        let mut reader =
            Reader { text, page: Self::default(), heading: None, row: None, table: Table::default() };
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            reader.event(&event, range);
        }
        reader.page
    }
}

/// A table that is being read.
#[derive(Default)]
struct Table {
    in_head: bool,
    names_tests: bool,
}

struct Reader<'t> {
    text: &'t str,
    page: Page,
    /// The text of a heading, up to here.
    heading: Option<String>,
    /// The row of a table, up to here.
    row: Option<TableRow>,
    table: Table,
}

impl Reader<'_> {
    fn event(&mut self, event: &Event<'_>, range: Range<usize>) {
        let line = self.text[..range.start].matches('\n').count() + 1;
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                self.page.links.push(Link { line, range, to: dest_url.to_string() });
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                self.page.blocks.push(Block { line, info: info.to_string() });
            }
            Event::Start(Tag::Heading { .. }) => self.heading = Some(String::new()),
            Event::End(TagEnd::Heading(level)) => self.heading_ends(*level),
            Event::Start(Tag::Table(_)) => {
                self.table = Table::default();
                self.page.tables.push(Vec::new());
            }
            Event::Start(Tag::TableHead) => self.table.in_head = true,
            Event::End(TagEnd::TableHead) => self.table.in_head = false,
            Event::Start(Tag::TableRow) => self.row = Some(TableRow { line, cells: Vec::new() }),
            Event::Start(Tag::TableCell) => {
                if let Some(row) = &mut self.row {
                    row.cells.push(Vec::new());
                }
            }
            Event::End(TagEnd::TableRow) => {
                let Some(row) = self.row.take() else { return };
                if self.table.names_tests {
                    self.page.rows_with_tests.push((row.line, row.cells.concat()));
                }
                if let Some(table) = self.page.tables.last_mut() {
                    table.push(row);
                }
            }
            Event::Code(code) => {
                self.page.spans.push(Span { line, text: code.to_string() });
                if let Some(cell) = self.row.as_mut().and_then(|row| row.cells.last_mut()) {
                    cell.push(code.to_string());
                }
                self.says(code);
            }
            Event::Text(text) => self.says(text),
            _ => {}
        }
    }

    fn says(&mut self, text: &str) {
        self.table.names_tests |= self.table.in_head && text == "test";
        if let Some(heading) = &mut self.heading {
            heading.push_str(text);
        }
    }

    fn heading_ends(&mut self, level: HeadingLevel) {
        let Some(heading) = self.heading.take() else { return };
        let slug = slug(&heading);
        // the second heading of a name gets a number, as sites and mdBook give it
        let mut anchor = slug.clone();
        let mut number = 1;
        while !self.page.anchors.insert(anchor.clone()) {
            anchor = format!("{slug}-{number}");
            number += 1;
        }
        if level == HeadingLevel::H1 && self.page.title.is_empty() {
            self.page.title = heading;
        }
    }
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// `a/b/../c` as `a/c`. `None`: it leads out of where it began.
pub(crate) fn resolve(folder: &str, to: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The way from a folder to a file, both within the repository.
pub(crate) fn relative(folder: &str, to: &str) -> String {
    let from: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<&str> = to.split('/').collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut way = vec![".."; from.len() - common];
    way.extend(&to[common..]);
    way.join("/")
}

/// The folder of a file: `docs` for `docs/a.md`.
pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Replaces `{{#include FILE}}` by what `read` gives for the file.
pub(crate) fn include(
    text: &str,
    mut read: impl FnMut(&str) -> Result<String, String>,
) -> Result<String, String> {
    const OPENING: &str = "{{#include ";
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(OPENING) {
        let (file, behind) = after.split_once("}}").ok_or("`{{#include` without its end")?;
        out.push_str(before);
        out.push_str(&read(file.trim())?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// Every page by its path within the repository.
pub(crate) type Pages = BTreeMap<String, Page>;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# The `page`: one

See [this](a.md#b), ![that](../c.png) and `code_of_this`.

## Same
## Same

```rust,no_run
let a = \"[no](link.md)\";
```

| what | test |
| --- | --- |
| one | `a_b` |
| two | |

| what | else |
| --- | --- |
| three | |
";

    #[test]
    fn a_page_is_taken_apart() {
        let page = Page::read(TEXT);
        let links: Vec<_> = page.links.iter().map(|link| (link.line, link.to.as_str())).collect();
        assert_eq!(links, [(3, "a.md#b"), (3, "../c.png")]);
        assert_eq!(&TEXT[page.links[0].range.clone()], "[this](a.md#b)");
        assert_eq!(page.anchors.iter().collect::<Vec<_>>(), ["same", "same-1", "the-page-one"]);
        assert_eq!(page.blocks, [Block { line: 8, info: "rust,no_run".to_owned() }]);
        assert!(page.spans.iter().any(|span| span.text == "code_of_this" && span.line == 3));
        assert_eq!(page.rows_with_tests, [(14, vec!["a_b".to_owned()]), (15, vec![])]);
        assert_eq!(page.title, "The page: one");
    }

    #[test]
    fn anchors_are_made_as_sites_make_them() {
        assert_eq!(slug("Rows that you did not name"), "rows-that-you-did-not-name");
        assert_eq!(slug("What `commit` says"), "what-commit-says");
        assert_eq!(slug("In axum, now: 2_0"), "in-axum-now-2_0");
    }

    #[test]
    fn ways_lead_there_and_back() {
        assert_eq!(resolve("docs/book/src", "../../a.md").as_deref(), Some("docs/a.md"));
        assert_eq!(resolve("docs", "../../a.md"), None);
        assert_eq!(relative("docs/book/src", "docs/a.md"), "../../a.md");
        assert_eq!(relative("", "README.md"), "README.md");
        assert_eq!(folder("docs/book/a.md"), "docs/book");
        assert_eq!(folder("a.md"), "");
    }

    #[test]
    fn files_are_included() {
        let read = |file: &str| Ok(format!("<{file}>"));
        assert_eq!(include("a {{#include b.md}} c", read).unwrap(), "a <b.md> c");
        assert!(include("a {{#include b", read).is_err());
        assert_eq!(include("a", read).unwrap(), "a");
    }
}
