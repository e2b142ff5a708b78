//! Everything that is wrong with a configuration, in one error.

use std::collections::BTreeSet;

use super::Settings;
use crate::Error;

/// One line per problem. A user who has to start a program once per mistake is not helped.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Problems {
    lines: Vec<String>,
    /// Boxed: there is none where nothing is wrong.
    understood: Option<Box<Understood>>,
}

/// What could be read of settings that have something wrong in them. Who goes on to check it must not complain of what
/// follows from a mistake that is in the list already.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Understood {
    pub(crate) settings: Settings,
    pub(crate) doubts: Doubts,
}

/// What nobody can say of wrong settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// Which regions there are.
    pub(crate) regions: bool,
    /// The settings that have been given, and not understood: `cache.objects.backend`.
    keys: BTreeSet<String>,
}

impl Doubts {
    pub(crate) fn doubt(&mut self, key: impl Into<String>) {
        self.keys.insert(key.into());
    }

    /// Takes over those of other settings.
    pub(crate) fn extend(&mut self, more: &Self) {
        self.regions |= more.regions;
        self.keys.extend(more.keys.iter().cloned());
    }

    /// The regions that these settings are of.
    pub(super) fn regions_of_settings(&self) -> Vec<String> {
        let region = |key: &String| Some(key.strip_prefix("cache.")?.split('.').next()?.to_owned());
        self.keys.iter().filter_map(region).collect()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    pub(crate) fn has_backend_of(&self, region: &str) -> bool {
        self.has(&format!("cache.{region}.backend"))
    }
}

impl Problems {
    pub(crate) fn push(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes over the lines of another configuration error.
    pub(crate) fn adopt(&mut self, error: &Error) {
        let sentence = error.to_string();
        let lines = sentence.split_once(":\n- ").map_or(sentence.as_str(), |(_, lines)| lines);
        self.lines.extend(lines.split("\n- ").map(str::to_owned));
    }

    /// Keeps what could be read beside them.
    pub(super) fn beside(mut self, understood: Understood) -> Self {
        self.understood = Some(Box::new(understood));
        self
    }

    /// One configuration error for all of them.
    pub(crate) fn into_error(self) -> Error {
        let count = match self.lines.len() {
            1 => "a problem".to_owned(),
            count => format!("{count} problems"),
        };
        let sentence = format!("the configuration has {count}:\n- {}", self.lines.join("\n- "));
        Error::settings(sentence, self.understood)
    }
}

/// How many letters apart two words are; letters that changed places count once.
pub(super) fn distance(written: &str, meant: &str) -> usize {
    strsim::osa_distance(written, meant)
}

/// The choice that someone who wrote `written` most likely meant, if any is near enough to be more than a guess.
pub(super) fn closest<'a>(written: &str, choices: &[&'a str]) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    choices
        .iter()
        .map(|choice| (distance(&written.to_lowercase(), &choice.to_lowercase()), *choice))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let choices = ["ttl", "stale", "near.max_entries"];
        assert_eq!(closest("tll", &choices), Some("ttl"));
        assert_eq!(closest("TTL", &choices), Some("ttl"));
        assert_eq!(closest("near.max_entreis", &choices), Some("near.max_entries"));
        assert_eq!(closest("colour", &choices), None);
    }
}
