//! The search: one statement that finds ids. What they stand for is read like anything else.

use super::cost::Gather;
use super::pages::{self, ENTRIES, Listing};
use super::reader::Reader;
use crate::Result;
use crate::database::Database;
use crate::sources::PackageId;

/// A search, and which page of it.
pub(crate) struct Search {
    database: Database,
    text: String,
    page: usize,
}

impl Search {
    pub(crate) fn new(database: &Database, text: &str, page: usize) -> Self {
        Self { database: database.counted_apart(), text: text.to_lowercase(), page }
    }

    /// What was found: first by its whole name, then by how its name begins, then by what is in it. Where nothing
    /// was searched for, what most is built on comes first.
    async fn found(&self) -> Result<(Vec<PackageId>, usize)> {
        let select = r"
            select id, count(*) over () from package where lower(name) like $1 escape '\'
            order by case
                when $2 = '' then -(select count(distinct package_id) from dependency where resolved_id = package.id)
                when lower(name) = $2 then 0
                when lower(name) like $3 escape '\' then 1
                else 2 end,
                lower(name), version, id
            limit $4 offset $5";
        let text = pattern(&self.text);
        let (within, before) = (format!("%{text}%"), format!("{text}%"));
        let offset = ENTRIES.saturating_mul(self.page - 1);
        let values = [
            within.as_str().into(),
            self.text.as_str().into(),
            before.as_str().into(),
            i64::try_from(ENTRIES)?.into(),
            i64::try_from(offset)?.into(),
        ];
        let rows: Vec<(i64, i64)> = self.database.select(select, &values).await?;
        let all = rows.first().map_or(0, |(_, all)| *all);
        Ok((rows.into_iter().map(|(id, _)| PackageId(id)).collect(), usize::try_from(all)?))
    }
}

/// Text as it is, and not as a pattern.
fn pattern(text: &str) -> String {
    text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

impl Gather for Search {
    type Page = Listing;

    async fn gather<R: Reader>(&self, reader: &R) -> Result<Listing> {
        let (ids, all) = self.found().await?;
        Ok(Listing { cards: pages::cards(reader, &ids).await?, all })
    }

    fn aside(&self) -> usize {
        self.database.statements()
    }
}
