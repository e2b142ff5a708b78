//! Puts in what cargo says: packages and all that belongs to them.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Database, Transaction, Value};
use crate::Result;
use crate::metadata::{self, ManifestPackage, Metadata};

/// What was put in.
pub(crate) struct Filled {
    pub(crate) packages: usize,
    pub(crate) rows: usize,
}

impl Database {
    /// Asks cargo for the data and puts it in. On a terminal a bar tells how far it is.
    pub(crate) async fn build(&self) -> Result<Filled> {
        // hidden by itself where stderr is not a terminal
        let bar = ProgressBar::new_spinner().with_message("asking cargo metadata");
        bar.enable_steady_tick(Duration::from_millis(100));
        let built = self.fill(&bar).await;
        bar.finish_and_clear();
        built
    }

    async fn fill(&self, bar: &ProgressBar) -> Result<Filled> {
        let metadata = tokio::task::spawn_blocking(metadata::read).await??;
        let style = format!("{{bar:30}} {{pos}}/{{len}} packages into {}", self.kind());
        bar.set_style(ProgressStyle::with_template(&style)?);
        bar.set_length(metadata.packages.len() as u64);
        let mut transaction = self.begin().await?;
        transaction.make_tables().await?;
        let mut inserting = Inserting::new(transaction, &metadata);
        for package in &metadata.packages {
            inserting.package(package).await?;
            bar.inc(1);
        }
        inserting.transaction.commit().await?;
        Ok(Filled { packages: metadata.packages.len(), rows: inserting.rows })
    }
}

/// Puts packages in, all in one transaction.
struct Inserting<'m> {
    transaction: Transaction,
    ids: HashMap<&'m str, i64>,
    /// By package: what its dependencies became, as (name in the code, name, id).
    chosen: HashMap<&'m str, Vec<(&'m str, &'m str, i64)>>,
    rows: usize,
}

impl<'m> Inserting<'m> {
    fn new(transaction: Transaction, metadata: &'m Metadata) -> Self {
        let by_id: HashMap<_, _> =
            (1..).zip(&metadata.packages).map(|(id, package)| (package.id.as_str(), (id, package))).collect();
        let chosen = metadata.resolve.nodes.iter().map(|node| {
            let deps = node.deps.iter().filter_map(|chosen| {
                let (id, package) = by_id.get(chosen.pkg.as_str())?;
                Some((chosen.name.as_str(), package.name.as_str(), *id))
            });
            (node.id.as_str(), deps.collect())
        });
        let chosen = chosen.collect();
        let ids = by_id.into_iter().map(|(key, (id, _))| (key, id)).collect();
        Self { transaction, ids, chosen, rows: 0 }
    }

    async fn package(&mut self, package: &'m ManifestPackage) -> Result<()> {
        let id = self.ids[package.id.as_str()];
        let description = package.description.as_ref().map(|text| text.trim().replace('\n', " "));
        let insert = "insert into package (id, name, version, description, license, repository) \
                      values ($1, $2, $3, $4, $5, $6)";
        let values = [
            id.into(),
            package.name.as_str().into(),
            package.version.as_str().into(),
            description.as_deref().into(),
            package.license.as_deref().into(),
            package.repository.as_deref().into(),
        ];
        self.execute(insert, &values).await?;
        let authors = package.authors.iter().map(String::as_str);
        self.linked(id, authors, &AUTHOR).await?;
        let keywords = package.keywords.iter().map(String::as_str);
        self.linked(id, keywords, &KEYWORD).await?;
        self.linked(id, licenses(package.license.as_deref().unwrap_or("")), &LICENSE).await?;
        let mut features: Vec<_> = package.features.iter().collect();
        features.sort_unstable();
        for (name, enables) in features {
            let insert = "insert into feature (package_id, name, enables) values ($1, $2, $3)";
            let enables = enables.join(" ");
            self.execute(insert, &[id.into(), name.as_str().into(), enables.as_str().into()]).await?;
        }
        for dependency in &package.dependencies {
            let insert = "insert into dependency (package_id, name, req, kind, optional, resolved_id) \
                          values ($1, $2, $3, $4, $5, $6)";
            let values = [
                id.into(),
                dependency.name.as_str().into(),
                dependency.req.as_str().into(),
                dependency.kind.as_deref().into(),
                dependency.optional.into(),
                self.resolved(package, dependency).into(),
            ];
            self.execute(insert, &values).await?;
        }
        Ok(())
    }

    /// Words that many packages may share, in their order.
    async fn linked<'w>(
        &mut self,
        package: i64,
        words: impl IntoIterator<Item = &'w str>,
        [insert, link]: &[&'static str; 2],
    ) -> Result<()> {
        for (position, word) in (0i64..).zip(words) {
            self.execute(insert, &[word.into()]).await?;
            self.execute(link, &[package.into(), position.into(), word.into()]).await?;
        }
        Ok(())
    }

    /// The package that a dependency became; none, where it is optional and unused or for another platform.
    fn resolved(&self, package: &ManifestPackage, dependency: &metadata::ManifestDependency) -> Option<i64> {
        let same_name = |(_, name, _): &&(&str, &str, i64)| *name == dependency.name;
        let chosen: Vec<_> = self.chosen.get(package.id.as_str())?.iter().filter(same_name).collect();
        // two versions of one package go by different names in the code
        let called = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
        let exact = chosen.iter().find(|(in_code, ..)| *in_code == called);
        exact.or(chosen.first()).map(|(_, _, id)| *id)
    }

    async fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<()> {
        self.rows += usize::try_from(self.transaction.execute(sql, values).await?)?;
        Ok(())
    }
}

// A conflict would use up a number of Postgres each time, and numbers are addresses: so it is looked for first.

const AUTHOR: [&str; 2] = [
    "insert into author (name) select $1 where not exists (select 1 from author where name = $1) \
     on conflict do nothing",
    "insert into package_author select $1, id, $2 from author where name = $3",
];

/// Puts a keyword in, and a package under it.
pub(super) const KEYWORD: [&str; 2] = [
    "insert into keyword (word) select $1 where not exists (select 1 from keyword where word = $1) \
     on conflict do nothing",
    "insert into package_keyword select $1, id, $2 from keyword where word = $3",
];

const LICENSE: [&str; 2] = [
    "insert into license (name) select $1 where not exists (select 1 from license where name = $1) \
     on conflict do nothing",
    "insert into package_license select $1, id, $2 from license where name = $3",
];

/// The licences that an expression names, each once: `(MIT OR Apache-2.0) AND Unicode-3.0`.
fn licenses(expression: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let split =
        expression.split('/').flat_map(|part| part.split(" OR ")).flat_map(|part| part.split(" AND "));
    for name in split.map(|name| name.trim().trim_matches(['(', ')']).trim()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::licenses;

    #[test]
    fn an_expression_names_each_license_once() {
        assert_eq!(licenses("(MIT OR Apache-2.0) AND Unicode-3.0"), ["MIT", "Apache-2.0", "Unicode-3.0"]);
        assert_eq!(licenses("MIT/Apache-2.0 OR MIT"), ["MIT", "Apache-2.0"]);
        assert_eq!(licenses("Apache-2.0 WITH LLVM-exception"), ["Apache-2.0 WITH LLVM-exception"]);
        assert!(licenses("").is_empty());
    }
}
