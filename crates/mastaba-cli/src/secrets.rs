//! What is not to be repeated, wherever somebody has written it: a URL may stand where another argument belongs, and a server or a
//! library may put in its error what it was sent.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;

/// What is shorter stands in ordinary words as well.
const SHORTEST: usize = 4;
const MASK: &str = "***";
/// Arguments of a URL that are secret.
const PARAMETERS: [&str; 2] = ["password", "sentinel_password"];

/// Passwords, as they were written and as they are meant.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Those of this program's arguments and of its environment.
    pub(crate) fn here() -> Self {
        let arguments = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
        let variable = std::env::var_os("MASTABA_URL").map(|it| it.to_string_lossy().into_owned());
        Self::of(arguments.chain(variable))
    }

    fn of(texts: impl IntoIterator<Item = String>) -> Self {
        let mut secrets = Self::default();
        for text in texts {
            secrets.find(&text);
        }
        secrets
    }

    /// In a text that may have a URL in it.
    fn find(&mut self, text: &str) {
        let (rest, query) = text.split_once('?').unwrap_or((text, ""));
        for pair in query.split('&') {
            if let Some((name, value)) = pair.split_once('=')
                && PARAMETERS.contains(&name)
            {
                self.add(value);
            }
        }
        let (_, rest) = rest.split_once("://").unwrap_or(("", rest));
        // a password that should have been percent-encoded may have a `@`, a `?` and anything else in it
        for rest in [rest, text.split_once("://").map_or("", |(_, rest)| rest)] {
            if let Some((_, password)) = rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
                self.add(password);
            }
        }
    }

    fn add(&mut self, secret: &str) {
        let decoded = percent_decode_str(secret).decode_utf8_lossy().into_owned();
        for secret in [secret.to_owned(), decoded] {
            if secret.len() >= SHORTEST {
                self.0.insert(secret);
            }
        }
    }

    /// The text without any of them, without what stands before the `@` of any URL, and without its arguments that are secret,
    /// however short they are.
    pub(crate) fn masked(&self, text: &str) -> String {
        let mut secrets: Vec<_> = self.0.iter().collect();
        // one may be part of another
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let text = secrets.iter().fold(text.to_owned(), |text, secret| {
            // as `{:?}` writes it, too
            let quoted = format!("{secret:?}");
            text.replace(secret.as_str(), MASK).replace(quoted.trim_matches('"'), MASK)
        });
        without_parameters(without_users(&text))
    }
}

fn without_parameters(text: String) -> String {
    PARAMETERS.iter().fold(text, |text, name| {
        let name = format!("{name}=");
        let mut pieces = text.split(&name);
        let mut shown = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| c == '&' || ends_url(c)).unwrap_or(piece.len());
            shown.push_str(&name);
            shown.push_str(MASK);
            shown.push_str(&piece[end..]);
        }
        shown
    })
}

/// Whether it cannot stand in a URL, so the URL ends before it.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`')
}

fn without_users(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(ends_url).unwrap_or(after.len());
        let (url, more) = after.split_at(end);
        match url.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str(MASK);
                shown.push('@');
                shown.push_str(host);
            }
            None => shown.push_str(url),
        }
        rest = more;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(arguments: &[&str], text: &str) -> String {
        Secrets::of(arguments.iter().map(|it| (*it).to_owned())).masked(text)
    }

    #[test]
    fn a_password_is_masked_as_it_was_written_and_as_it_is_meant() {
        let url = "redis://cache:p%40ss%2Fword@h:1/0";
        for text in
            ["said p@ss/word", "said p%40ss%2Fword", "at redis://cache:p%40ss%2Fword@h:1/0", "\"p@ss/word\""]
        {
            let shown = masked(&[url], text);
            assert!(
                !shown.contains("ss/word") && !shown.contains("ss%2Fword") && shown.contains("***"),
                "{shown}"
            );
        }
        assert_eq!(
            masked(&["--url=redis://:HUNTER2@h"], "redis://:HUNTER2@h is none"),
            "redis://***@h is none"
        );
        assert_eq!(masked(&["redis://h?tls=true&password=HUN%54ER"], "HUN%54ER or HUNTER"), "*** or ***");
        assert_eq!(masked(&["redis://u:a@HUNTER@h"], "a@HUNTER"), "***");
        assert_eq!(masked(&["redis://:HUN?TER@h"], "HUN?TER"), "***");
        assert_eq!(masked(&["redis://:HU\"NTER@h"], "HU\\\"NTER HU\"NTER"), "*** ***");
    }

    #[test]
    fn a_password_that_is_an_argument_is_masked_however_short_it_is() {
        let url = "redis-sentinel://h/m?sentinel_password=HUNTER2&password=ab&tls=true";
        let shown = "redis-sentinel://h/m?sentinel_password=***&password=***&tls=true";
        assert_eq!(masked(&[url], &format!("HUNTER2: '{url}' is none")), format!("***: '{shown}' is none"));
        assert_eq!(masked(&[], "redis://h?sentinel_password=a"), "redis://h?sentinel_password=***");
    }

    #[test]
    fn what_is_no_password_stays() {
        let text = "redis at h:1 cannot be reached; the form is redis://host:6379, say `redis://h`";
        assert_eq!(
            masked(&["redis://h:1?password=abc", "--json", "redis@host", "redis://cannot@h"], text),
            text
        );
        assert_eq!(masked(&[], "redis://u:p@h:1 and redis://:q@i"), "redis://***@h:1 and redis://***@i");
    }
}
