//! What no compiler checks: nothing half-done in the sources, no program started that nobody installs, how the library
//! is built up ([`structure`]), and the pages ([`pages`](crate::pages)).

use std::fs;
use std::io;
use std::path::Path;

use crate::pages::Repository;
use crate::structure;
use crate::workspace::Workspace;

const PAGES: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CAVEATS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];

// Put together, or this file would be the first one found.
const UNDONE: [&str; 3] = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[", "ignore")];

/// Programs that are started by name without being in the table of what is installed, which is for tests: every Debian has
/// the first two or the code goes on without them, and the bench and the book say so where theirs is missing.
const BASE: [&str; 4] = ["id", "sudo", "taskset", "mdbook"];

/// One line per problem.
pub(crate) fn problems(workspace: &Workspace) -> Vec<String> {
    let mut problems: Vec<String> = PAGES
        .iter()
        .filter(|page| !workspace.root.join(page).is_file())
        .map(|page| format!("{page} is missing"))
        .collect();
    if let Err(error) = visit(&workspace.root, workspace, &mut problems) {
        problems.push(format!("the sources cannot be read: {error}"));
    }
    match Repository::read(workspace) {
        Ok(repository) => problems.extend(repository.problems()),
        Err(error) => problems.push(format!("the pages cannot be read: {error}")),
    }
    match structure::problems(&workspace.root) {
        Ok(found) => problems.extend(found),
        Err(error) => problems.push(format!("the sources of the crates cannot be read: {error}")),
    }
    problems
}

fn visit(folder: &Path, workspace: &Workspace, problems: &mut Vec<String>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        if kind.is_dir() && !name.to_string_lossy().starts_with('.') && !workspace.is_output(&path) {
            visit(&path, workspace, problems)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).display().to_string();
            let text = fs::read_to_string(&path)?;
            problems.extend(undone(&text).chain(strangers(&text)).map(|found| format!("{shown}:{found}")));
        }
    }
    Ok(())
}

fn undone(text: &str) -> impl Iterator<Item = String> {
    text.lines().enumerate().flat_map(|(index, line)| {
        let found = UNDONE.iter().filter(move |mark| line.contains(*mark));
        found.map(move |mark| format!("{}: `{mark}`", index + 1))
    })
}

/// Programs that are started by a name written on the spot. A test gets one from the table instead, so that the test
/// command and the tests cannot disagree about what a machine has to have.
fn strangers(text: &str) -> impl Iterator<Item = String> {
    let starts = |line: &str| {
        let named = line.split_once("Command::new(\"")?.1.split_once('"')?.0;
        // in this workspace also the commands of Redis are made like this, in upper case
        let is_known = BASE.contains(&named) || named.chars().all(|c| c.is_ascii_uppercase());
        (!is_known).then(|| named.to_owned())
    };
    text.lines().enumerate().filter_map(move |(index, line)| {
        let named = starts(line)?;
        let table = "crates/mastaba-test/src/servers/programs.rs";
        Some(format!(
            "{}: `{named}` is started by its name; put it into {table}, and ask for it with `missing`",
            index + 1
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_of_undone_work_is_found_with_its_line() {
        let text = format!("fn a() {{\n    {}\"later\");\n}}\n{} = \"slow\"]\n", UNDONE[0], UNDONE[2]);
        let found: Vec<String> = undone(&text).collect();
        assert_eq!(found, [format!("2: `{}`", UNDONE[0]), format!("4: `{}`", UNDONE[2])]);
    }

    #[test]
    fn other_uses_of_the_words_are_fine() {
        assert_eq!(undone("let todo = 1; // ignored, unimplemented\n```ignore\n").count(), 0);
    }

    #[test]
    fn a_program_that_nobody_installs_is_found_with_its_line() {
        // put together, or this line would be found
        let start = |name: &str| ["Command", "::new(\"", name, "\")"].concat();
        let text = format!("let a = 1;\nlet mut child = {}.spawn();\n", start("chromedriver"));
        let found: Vec<String> = strangers(&text).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("2: `chromedriver` is started by its name"), "{found:?}");
        for known in ["id", "UNLINK"] {
            assert_eq!(strangers(&start(known)).count(), 0, "{known}");
        }
        assert_eq!(strangers("Command::new(Program::Chromedriver.find()?)").count(), 0);
    }
}
