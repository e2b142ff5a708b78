//! The forms that settings come in, flattened to pairs of a dotted key and a text.

use std::ffi::OsString;

use super::names::near_miss;
use super::problems::{Doubts, Problems};

/// One setting, before anyone has looked whether it exists.
#[derive(Debug)]
pub(super) struct Pair {
    /// The key as the user wrote it, for messages.
    pub(super) written: String,
    /// The key in the one form that the parser knows.
    pub(super) key: String,
    /// `None` for a table that is there but empty, which only TOML can say.
    pub(super) value: Option<String>,
}

/// How the user writes keys, for messages.
#[derive(Debug)]
pub(super) enum Form {
    Map {
        prefix: String,
    },
    #[cfg(feature = "toml")]
    Toml,
    Env {
        prefix: String,
    },
}

/// All pairs of one input, and what was wrong with it already.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) form: Form,
    pub(super) pairs: Vec<Pair>,
    pub(super) problems: Problems,
    /// What the problems leave open.
    pub(super) doubts: Doubts,
}

impl Input {
    /// Takes the keys that are ours from a map that also has others, and those that are most likely meant to be: they are
    /// unknown then, like any other misspelt one.
    pub(super) fn from_map<K: AsRef<str>, V: AsRef<str>>(
        prefix: &str,
        map: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut input = Self::new(Form::Map { prefix: prefix.to_owned() });
        for (written, value) in map {
            let written = written.as_ref();
            let Some(key) = written.strip_prefix(prefix) else { continue };
            let ours = key.starts_with("cache.") || key == "data_dir" || key == "namespace";
            if ours || near_miss(key).is_some() {
                input.push(written, key.to_owned(), Some(value.as_ref().to_owned()));
            }
        }
        input
    }

    /// Takes every variable that starts with the prefix. The variables are a parameter because a test cannot set
    /// any without touching those of all other tests.
    pub(super) fn from_env(prefix: &str, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut input = Self::new(Form::Env { prefix: prefix.to_owned() });
        for (name, value) in variables {
            // A name that is no Unicode still shows its prefix, and is then unknown like any other misspelt one.
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            match value.into_string() {
                Ok(value) => input.push(&name, rest.to_lowercase().replace("__", "."), Some(value)),
                Err(_) => {
                    input.doubts.doubt(rest.to_lowercase().replace("__", "."));
                    input.problems.push(format!("{name}: the value is not Unicode"));
                }
            }
        }
        // The environment has no order of its own; messages should not change from run to run.
        input.pairs.sort_by(|a, b| a.written.cmp(&b.written));
        input
    }

    pub(super) fn new(form: Form) -> Self {
        Self { form, pairs: Vec::new(), problems: Problems::default(), doubts: Doubts::default() }
    }

    pub(super) fn push(&mut self, written: &str, key: String, value: Option<String>) {
        self.pairs.push(Pair { written: written.to_owned(), key, value });
    }
}

impl Form {
    /// A whole key as the user would write it.
    pub(super) fn key(&self, key: &str) -> String {
        match self {
            Self::Map { prefix } | Self::Env { prefix } => format!("{prefix}{}", self.part(key)),
            #[cfg(feature = "toml")]
            Self::Toml => self.part(key),
        }
    }

    /// A part of a key as the user would write it.
    pub(super) fn part(&self, part: &str) -> String {
        match self {
            Self::Env { .. } => part.to_uppercase().replace('.', "__"),
            _ => part.to_owned(),
        }
    }
}
