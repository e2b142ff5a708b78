//! Everything that is wrong with a configuration, told at once.

use crate::Error;

/// One line per problem. A user who has to start a program once per mistake is not helped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    pub(crate) fn push(&mut self, line: impl Into<String>) {
        self.0.push(line.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the lines of another configuration error.
    pub(crate) fn adopt(&mut self, error: &Error) {
        let sentence = error.to_string();
        let lines = sentence.split_once(":\n- ").map_or(sentence.as_str(), |(_, lines)| lines);
        self.0.extend(lines.split("\n- ").map(str::to_owned));
    }

    /// One configuration error for all of them.
    pub(crate) fn into_error(self) -> Error {
        let count = match self.0.len() {
            1 => "a problem".to_owned(),
            count => format!("{count} problems"),
        };
        Error::config(format!("the configuration has {count}:\n- {}", self.0.join("\n- ")))
    }
}

/// The choice that someone who wrote `written` most likely meant, if any is near enough to be more than a guess.
pub(super) fn closest<'a>(written: &str, choices: &[&'a str]) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    choices
        .iter()
        .map(|choice| (strsim::osa_distance(&written.to_lowercase(), &choice.to_lowercase()), *choice))
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
