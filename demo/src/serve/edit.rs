//! Edits: checked, written in a transaction, and published once that has committed.

use std::time::Duration;

use mastaba::{RequestCache, Write};
use serde::Deserialize;

use super::asked::readable;
use super::refusal::Refusal;
use crate::Result;
use crate::database::{Database, Transaction};
use crate::sources::{Author, AuthorById, AuthorId, KeywordsOf, Package, PackageById, PackageId};

/// The longest description.
pub(crate) const DESCRIPTION: usize = 500;
/// The longest line of keywords.
pub(crate) const KEYWORDS: usize = 200;
/// The longest name of an author.
pub(crate) const NAME: usize = 100;

/// What can be changed of a package.
#[derive(Debug, Deserialize)]
pub(crate) struct PackageForm {
    pub(crate) description: String,
    /// With spaces between them.
    pub(crate) keywords: String,
}

/// What can be changed of an author.
#[derive(Debug, Deserialize)]
pub(crate) struct AuthorForm {
    pub(crate) name: String,
}

impl PackageForm {
    pub(crate) fn of(package: &Package, keywords: &[String]) -> Self {
        Self { description: package.description.clone().unwrap_or_default(), keywords: keywords.join(" ") }
    }

    /// What is wrong with it: one sentence each. A description is one line, however it was typed.
    pub(crate) fn check(&mut self) -> Vec<String> {
        self.description = self.description.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut problems = Vec::new();
        let mut check = |wrong: bool, sentence: &str| {
            if wrong {
                problems.push(sentence.to_owned());
            }
        };
        check(
            self.description.chars().count() > DESCRIPTION,
            "A description has 500 characters at the most.",
        );
        check(!readable(&self.description), "The description holds characters that cannot be shown.");
        let words: Vec<_> = self.words().collect();
        check(words.len() > 10, "Ten keywords are the most.");
        check(words.iter().any(|word| word.chars().count() > 30), "A keyword has 30 characters at the most.");
        check(words.iter().any(|word| !readable(word)), "A keyword holds characters that cannot be shown.");
        problems
    }

    /// The keywords, each once.
    fn words(&self) -> impl Iterator<Item = &str> {
        let words: Vec<_> = self.keywords.split_whitespace().collect();
        let first = |(nth, word): &(usize, &str)| !words[..*nth].contains(word);
        let distinct: Vec<_> =
            words.iter().copied().enumerate().filter(first).map(|(_, word)| word).collect();
        distinct.into_iter()
    }
}

impl AuthorForm {
    pub(crate) fn of(author: &Author) -> Self {
        Self { name: author.name.clone() }
    }

    /// What is wrong with it.
    pub(crate) fn check(&mut self) -> Vec<String> {
        self.name = self.name.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut problems = Vec::new();
        if self.name.is_empty() {
            problems.push("An author has a name.".to_owned());
        }
        if self.name.chars().count() > NAME {
            problems.push("A name has 100 characters at the most.".to_owned());
        }
        if !readable(&self.name) {
            problems.push("The name holds characters that cannot be shown.".to_owned());
        }
        problems
    }
}

/// What became of an edit.
pub(crate) enum Edited {
    Done,
    /// Nothing has this key.
    Nothing,
    /// Something else has this name.
    Taken,
}

/// How long an editor waits until other processes cannot show any longer what was there before.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes a package.
pub(crate) async fn package(
    database: Database,
    request: RequestCache,
    id: PackageId,
    form: PackageForm,
) -> Result<Edited, Refusal> {
    let mut transaction = database.begin().await?;
    let update = "update package set description = $1 where id = $2";
    let changed = transaction.execute(update, &[form.description.as_str().into(), id.0.into()]).await?;
    if changed == 0 {
        return Ok(Edited::Nothing);
    }
    let forget = "delete from package_keyword where package_id = $1";
    transaction.execute(forget, &[id.0.into()]).await?;
    for (position, word) in (0i64..).zip(form.words()) {
        transaction.keyword(id.0, position, word).await?;
    }
    let write = request.write();
    write.invalidate::<PackageById>([id]).await?;
    write.invalidate::<KeywordsOf>([id]).await?;
    committed(write, transaction).await
}

/// Writes an author.
pub(crate) async fn author(
    database: Database,
    request: RequestCache,
    id: AuthorId,
    form: AuthorForm,
) -> Result<Edited, Refusal> {
    let mut transaction = database.begin().await?;
    let update = "update author set name = $1 where id = $2";
    match transaction.execute(update, &[form.name.as_str().into(), id.0.into()]).await {
        Ok(0) => return Ok(Edited::Nothing),
        Ok(_) => {}
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(Edited::Taken),
        Err(error) => return Err(error.into()),
    }
    let write = request.write();
    write.invalidate::<AuthorById>([id]).await?;
    committed(write, transaction).await
}

/// Commits, and voids what was there before, whether the browser waits for it or not.
async fn committed(write: Write, transaction: Transaction) -> Result<Edited, Refusal> {
    let committed = write.commit(transaction.commit()).await.map_err(mastaba::BoxError::from)?;
    // Written it is. What the shared cache has not confirmed by then goes on being sent, and this process shows it already.
    if let Err(error) = committed.published.confirmed(PATIENCE).await {
        anstream::eprintln!("demo: {error}");
    }
    Ok(Edited::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(description: &str, keywords: &str) -> (PackageForm, Vec<String>) {
        let mut form = PackageForm { description: description.to_owned(), keywords: keywords.to_owned() };
        let problems = form.check();
        (form, problems)
    }

    #[test]
    fn lines_become_one_and_keywords_are_each_there_once() {
        let (form, problems) = checked("a\r\nb  c", " x y x ");
        assert_eq!((form.description.as_str(), problems.len()), ("a b c", 0));
        assert_eq!(form.words().collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn what_is_too_long_or_cannot_be_shown_is_told_in_one_sentence_each() {
        assert_eq!(checked(&"x".repeat(501), "").1.len(), 1);
        assert_eq!(checked("\0", &"x ".repeat(3)).1.len(), 1);
        assert_eq!(checked("", "1 2 3 4 5 6 7 8 9 10 11").1.len(), 1);
        assert_eq!(checked("", &"x".repeat(31)).1.len(), 1);
        assert_eq!(checked("", "\u{fffd}").1.len(), 1);
        assert_eq!(checked(&"x".repeat(500), "1 2 3 4 5 6 7 8 9 10").1.len(), 0);
    }
}
