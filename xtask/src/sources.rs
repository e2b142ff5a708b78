//! What no compiler checks: nothing half-done in the sources, no page missing.

use std::fs;
use std::io;
use std::path::Path;

use crate::workspace::Workspace;

const PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CAVEATS.md", "CHANGELOG.md"];

// Put together, or this file would be the first one found.
const UNDONE: [&str; 3] = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[", "ignore")];

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
    problems
}

fn visit(folder: &Path, workspace: &Workspace, problems: &mut Vec<String>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        if kind.is_dir() && !name.to_string_lossy().starts_with('.') && !is_output(&path, workspace) {
            visit(&path, workspace, problems)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).display().to_string();
            problems.extend(undone(&fs::read_to_string(&path)?).map(|found| format!("{shown}:{found}")));
        }
    }
    Ok(())
}

/// Folders that git ignores: what is built lies there, other people's sources included.
fn is_output(folder: &Path, workspace: &Workspace) -> bool {
    folder == workspace.target || ["target", "artifacts"].iter().any(|name| folder.ends_with(name))
}

fn undone(text: &str) -> impl Iterator<Item = String> {
    text.lines().enumerate().flat_map(|(index, line)| {
        let found = UNDONE.iter().filter(move |mark| line.contains(*mark));
        found.map(move |mark| format!("{}: `{mark}`", index + 1))
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
    fn folders_of_output_are_left_alone() {
        let workspace = Workspace { target: "/elsewhere/built".into(), ..Workspace::default() };
        assert!(is_output(Path::new("/elsewhere/built"), &workspace));
        assert!(is_output(Path::new("/w/target"), &workspace));
        assert!(!is_output(Path::new("/w/crates"), &workspace));
    }
}
