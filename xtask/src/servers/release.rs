//! Packages of another release of Debian, unpacked aside: this machine's own lists, sources and packages stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::programs::RELEASE;
use super::tools::{call, output_of};

/// The lists of the packages of [`RELEASE`], in a folder of their own.
#[derive(Debug)]
pub(super) struct Release {
    folder: PathBuf,
}

impl Release {
    /// Has apt read them, from where this machine gets its own packages, and by the keys that it trusts for these.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let release = Self { folder: folder.to_owned() };
        let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let own = codename(&system).ok_or("this is no Debian: /etc/os-release has no VERSION_CODENAME")?;
        let mut found = false;
        for sub in ["sources", "lists/partial", "archives/partial"] {
            let folder = release.folder.join(sub);
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        for path in sources() {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let modern = path.extension().is_some_and(|extension| extension == "sources");
            let text = if modern { stanzas(&text, own) } else { lines(&text, own) };
            let name = path.file_name().unwrap_or_default();
            found |= !text.is_empty();
            let copy = release.folder.join("sources").join(name);
            fs::write(&copy, text).map_err(|error| format!("{}: {error}", copy.display()))?;
        }
        if !found {
            return Err(format!("apt has no source for {own} whose {RELEASE} could be asked"));
        }
        // a machine on which nothing is installed yet
        fs::write(release.folder.join("status"), "").map_err(|error| error.to_string())?;
        let failure = format!("apt-get finds no {RELEASE} where this machine gets its packages");
        call(&release.apt("apt-get", &["update"]).each(), &failure)?;
        Ok(release)
    }

    /// Downloads these packages, and the libraries that they need, and unpacks them into `root`.
    pub(super) fn unpack(&self, packages: &[&str], downloads: &Path, root: &Path) -> Result<(), String> {
        let names = self.with_libraries(packages)?;
        let into = downloads.display().to_string();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // it downloads into the folder where it stands, and looks at the signed sums
        let download = self.apt("apt-get", &[&["download"], &names[..]].concat());
        let failure = format!("apt-get cannot download {}", names.join(" "));
        call(&[&["env", "-C", &into], &download.each()[..]].concat(), &failure)?;
        let files =
            downloads.read_dir().map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
        for archive in files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
            let (archive, root) = (archive.display().to_string(), root.display().to_string());
            call(&["dpkg-deb", "-x", &archive, &root], &format!("{archive} cannot be unpacked"))?;
        }
        Ok(())
    }

    /// These packages and all libraries below them, by what the packages say that they depend on.
    fn with_libraries(&self, packages: &[&str]) -> Result<BTreeSet<String>, String> {
        let mut all: BTreeSet<String> = packages.iter().map(|&name| name.to_owned()).collect();
        let mut asked = BTreeSet::new();
        loop {
            let new: Vec<&str> = all.difference(&asked).map(String::as_str).collect();
            if new.is_empty() {
                return Ok(all);
            }
            let known = describe(&self.show(&new)?);
            if let Some(name) = new.iter().find(|name| !known.contains_key(**name)) {
                return Err(format!("{RELEASE} has no package {name}"));
            }
            asked.extend(known.keys().cloned());
            let below: Vec<&str> =
                known.values().flat_map(|package| package.depends.iter().map(String::as_str)).collect();
            let below: BTreeSet<&str> = below.into_iter().filter(|name| !all.contains(*name)).collect();
            let below: Vec<&str> = below.into_iter().collect();
            let libraries = if below.is_empty() { BTreeMap::new() } else { describe(&self.show(&below)?) };
            all.extend(libraries.into_iter().filter(|(_, package)| package.is_library).map(|(name, _)| name));
        }
    }

    /// What apt knows of these packages. Some names are of none: several can stand for them.
    fn show(&self, packages: &[&str]) -> Result<String, String> {
        let words = self.apt("apt-cache", &[&["show", "--no-all-versions"], packages].concat());
        output_of(&words.each()).map(|(_, text)| text)
    }

    /// A call of apt with these lists alone.
    fn apt(&self, tool: &str, words: &[&str]) -> Words {
        let place = |name: &str| self.folder.join(name).display().to_string();
        let settings = [
            ("Dir::Etc::SourceList", "/dev/null".to_owned()),
            ("Dir::Etc::SourceParts", place("sources")),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("APT::Default-Release", String::new()),
            ("Dir::State", place("")),
            ("Dir::State::Status", place("status")),
            ("Dir::Cache", place("")),
            // the folder belongs to whoever runs this
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
        ];
        let settings =
            settings.into_iter().flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")]);
        let begin = [tool.to_owned(), "-q".to_owned()].into_iter().chain(settings);
        Words(begin.chain(words.iter().map(|&word| word.to_owned())).collect())
    }
}

/// A command.
struct Words(Vec<String>);

impl Words {
    fn each(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

fn codename(system: &str) -> Option<&str> {
    let named = system.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    named.map(|name| name.trim_matches('"')).filter(|name| !name.is_empty())
}

/// The files that say where this machine gets its packages.
fn sources() -> Vec<PathBuf> {
    let parts = Path::new("/etc/apt/sources.list.d").read_dir().ok().into_iter().flatten().flatten();
    let is_source = |path: &PathBuf| path.extension().is_some_and(|name| name == "list" || name == "sources");
    let parts = parts.map(|entry| entry.path()).filter(is_source);
    [PathBuf::from("/etc/apt/sources.list")].into_iter().chain(parts).filter(|path| path.is_file()).collect()
}

/// The lines of an old file that name the suite `own`, with [`RELEASE`] in its place. Neither updates nor other people's
/// sources: theirs have other suites.
fn lines(text: &str, own: &str) -> String {
    let told = text.lines().filter(|line| line.starts_with("deb ")).filter_map(|line| {
        // the options in brackets may have spaces between them
        let rest = line[4..].trim_start();
        let after = if rest.starts_with('[') { rest.find(']')? + 1 } else { 0 };
        let (options, rest) = rest.split_at(after);
        let mut words = rest.split_whitespace();
        let (address, suite) = (words.next()?, words.next()?);
        let parts: Vec<&str> = words.collect();
        (suite == own && parts.contains(&"main"))
            .then(|| format!("deb {options} {address} {RELEASE} main\n").replace("deb  ", "deb "))
    });
    told.collect()
}

/// The same of a new file, by stanzas.
fn stanzas(text: &str, own: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = lines.split(|line| line.trim().is_empty());
    let told = stanzas.filter_map(|stanza| {
        let field = |name: &str| {
            let mut fields = stanza.iter().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.split_whitespace().collect::<Vec<_>>()).unwrap_or_default()
        };
        let fits = field("Suites").contains(&own)
            && field("Components").contains(&"main")
            && field("Types").contains(&"deb")
            && !field("Enabled").contains(&"no");
        let kept = stanza.iter().map(|line| {
            match line.split_once(':').map(|(name, _)| name.to_lowercase()).as_deref() {
                Some("suites") => format!("Suites: {RELEASE}\n"),
                Some("components") => "Components: main\nTargets: Packages\n".to_owned(),
                Some("types") => "Types: deb\n".to_owned(),
                _ => format!("{line}\n"),
            }
        });
        fits.then(|| kept.chain(["\n".to_owned()]).collect::<String>())
    });
    told.collect()
}

/// What a package says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Description {
    is_library: bool,
    depends: Vec<String>,
}

/// Reads what `apt-cache show` prints.
fn describe(text: &str) -> BTreeMap<String, Description> {
    let stanza = |stanza: &str| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let depends =
            field("Depends").into_iter().chain(field("Pre-Depends")).flat_map(|list| list.split(','));
        // the first of several that would do; without its version and its machine
        let name = |one: &str| one.trim().split([' ', ':', '|']).next().unwrap_or_default().to_owned();
        let description = Description {
            is_library: field("Section") == Some("libs"),
            depends: depends.map(name).filter(|name| !name.is_empty()).collect(),
        };
        Some((field("Package")?.to_owned(), description))
    };
    text.split("\n\n").filter_map(stanza).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codename_is_read_with_or_without_quotes() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=\"bookworm\"\n"), Some("bookworm"));
        assert_eq!(codename("ID=arch\n"), None);
    }

    #[test]
    fn of_old_sources_the_suite_of_the_machine_is_replaced_and_the_others_are_left_out() {
        let text = "# deb http://a bookworm main\ndeb http://a bookworm main contrib\n\
                    deb [arch=amd64 signed-by=/k] http://b/x bookworm main\ndeb http://c bookworm-updates main\n\
                    deb http://d bookworm nonfree\ndeb-src http://a bookworm main\n";
        let told = "deb http://a trixie main\ndeb [arch=amd64 signed-by=/k] http://b/x trixie main\n";
        assert_eq!(lines(text, "bookworm"), told);
        assert_eq!(lines("deb http://a noble main\n", "bookworm"), "");
    }

    #[test]
    fn of_new_sources_the_suite_of_the_machine_is_replaced_and_the_key_stays() {
        let text = "Types: deb deb-src\n# once\nURIs: http://a\nSuites: bookworm bookworm-updates\nComponents: main\n\
                    Signed-By:\n -----BEGIN\n .\n abc: d\n\nTypes: deb\nURIs: http://b\nSuites: bookworm-security\n\
                    Components: main\n\nEnabled: no\nTypes: deb\nURIs: http://c\nSuites: bookworm\nComponents: main\n";
        let told = "Types: deb\nURIs: http://a\nSuites: trixie\nComponents: main\nTargets: Packages\n\
                    Signed-By:\n -----BEGIN\n .\n abc: d\n\n";
        assert_eq!(stanzas(text, "bookworm"), told);
    }

    #[test]
    fn what_a_package_depends_on_is_read_without_versions_and_machines() {
        let text = "Package: a\nDepends: libc6 (>= 2.38), perl:any, x | y\nPre-Depends: init (>= 1)\nSection: web\n\n\
                    Package: libc6\nSection: libs\nDepends: libgcc-s1\n\n";
        let known = describe(text);
        assert_eq!(known["a"].depends, ["libc6", "perl", "x", "init"]);
        assert!(!known["a"].is_library && known["libc6"].is_library);
        assert_eq!(known.len(), 2);
    }
}
