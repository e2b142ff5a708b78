//! What is kept and by what it is asked for. Every load is one grouped select.

use std::collections::BTreeMap;

use mastaba::{Lazy, LoadContext, Rows, Source};
use serde::{Deserialize, Serialize};

use crate::database::Database;

/// The key of a package. Not a bare number: it fits nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PackageId(pub(crate) i64);

/// A package. What it leads to is stored as keys alone.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: PackageId,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) dependencies: Lazy<DependenciesOf>,
    pub(crate) authors: Lazy<AuthorsOf>,
    pub(crate) features: Lazy<FeaturesOf>,
    pub(crate) keywords: Lazy<KeywordsOf>,
}

/// A line of `[dependencies]`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) req: String,
    pub(crate) kind: Option<String>,
    pub(crate) optional: bool,
    /// None where it is not part of this build.
    pub(crate) package: Option<Lazy<PackageById>>,
}

/// A feature and what it turns on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Feature {
    pub(crate) name: String,
    pub(crate) enables: Vec<String>,
}

/// A row of `package`: (id, name, version, description, license, repository).
pub(crate) type PackageRow = (i64, String, String, Option<String>, Option<String>, Option<String>);

impl From<PackageRow> for Package {
    fn from((id, name, version, description, license, repository): PackageRow) -> Self {
        let id = PackageId(id);
        Self {
            id,
            name,
            version,
            description,
            license,
            repository,
            dependencies: Lazy::new(id),
            authors: Lazy::new(id),
            features: Lazy::new(id),
            keywords: Lazy::new(id),
        }
    }
}

/// A row of `dependency`: (package, name, req, kind, optional, resolved).
pub(crate) type DependencyRow = (i64, String, String, Option<String>, bool, Option<i64>);

impl From<DependencyRow> for Dependency {
    fn from((_, name, req, kind, optional, resolved): DependencyRow) -> Self {
        Self { name, req, kind, optional, package: resolved.map(|id| Lazy::new(PackageId(id))) }
    }
}

/// A row of `feature`: (package, name, enables).
pub(crate) type FeatureRow = (i64, String, String);

impl From<FeatureRow> for Feature {
    fn from((_, name, enables): FeatureRow) -> Self {
        Self { name, enables: enables.split_whitespace().map(str::to_owned).collect() }
    }
}

/// Packages by id.
pub(crate) struct PackageById(pub(crate) Database);

impl Source for PackageById {
    type Key = PackageId;
    type Value = Package;
    type Error = sqlx::Error;
    const NAME: &'static str = "package.by_id";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        let select = "select id, name, version, description, license, repository from package \
                      where id in (select value from json_each(?))";
        let rows: Vec<PackageRow> = self.0.select(select, ids).await?;
        Ok(rows.into_iter().map(|row| (PackageId(row.0), row.into())).collect())
    }
}

/// Packages by name and version: a key of two parts, and a region with near in front of it.
pub(crate) struct PackageNamed(pub(crate) Database);

impl Source for PackageNamed {
    type Key = (String, String);
    type Value = Lazy<PackageById>;
    type Error = sqlx::Error;
    const NAME: &'static str = "package.named";
    const REGION: &'static str = "names";

    async fn load_many(&self, _: &LoadContext<'_>, names: &[Self::Key]) -> Result<Rows<Self>, sqlx::Error> {
        let select = "select id, name, version from package where (name, version) in \
                      (select value ->> 0, value ->> 1 from json_each(?))";
        let rows: Vec<(i64, String, String)> = self.0.select(select, names).await?;
        Ok(rows.into_iter().map(|(id, name, version)| ((name, version), Lazy::new(PackageId(id)))).collect())
    }
}

/// What a package depends on.
pub(crate) struct DependenciesOf(pub(crate) Database);

impl Source for DependenciesOf {
    type Key = PackageId;
    type Value = Vec<Dependency>;
    type Error = sqlx::Error;
    const NAME: &'static str = "dependencies.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        let select = "select package_id, name, req, kind, optional, resolved_id from dependency \
                      where package_id in (select value from json_each(?)) order by id";
        let rows: Vec<DependencyRow> = self.0.select(select, ids).await?;
        Ok(grouped(rows.into_iter().map(|row| (row.0, row.into()))))
    }
}

/// Who wrote a package.
pub(crate) struct AuthorsOf(pub(crate) Database);

impl Source for AuthorsOf {
    type Key = PackageId;
    type Value = Vec<String>;
    type Error = sqlx::Error;
    const NAME: &'static str = "authors.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        let select = "select package_id, name from package_author join author on author.id = author_id \
                      where package_id in (select value from json_each(?)) order by package_id, position";
        Ok(grouped(self.0.select(select, ids).await?))
    }
}

/// The features of a package.
pub(crate) struct FeaturesOf(pub(crate) Database);

impl Source for FeaturesOf {
    type Key = PackageId;
    type Value = Vec<Feature>;
    type Error = sqlx::Error;
    const NAME: &'static str = "features.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        let select = "select package_id, name, enables from feature \
                      where package_id in (select value from json_each(?)) order by id";
        let rows: Vec<FeatureRow> = self.0.select(select, ids).await?;
        Ok(grouped(rows.into_iter().map(|row| (row.0, row.into()))))
    }
}

/// The keywords of a package.
pub(crate) struct KeywordsOf(pub(crate) Database);

impl Source for KeywordsOf {
    type Key = PackageId;
    type Value = Vec<String>;
    type Error = sqlx::Error;
    const NAME: &'static str = "keywords.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        let select = "select package_id, word from package_keyword join keyword on keyword.id = keyword_id \
                      where package_id in (select value from json_each(?)) order by package_id, position";
        Ok(grouped(self.0.select(select, ids).await?))
    }
}

/// Rows of many packages, per package and in their order. A package without any is absent.
fn grouped<S, T>(rows: impl IntoIterator<Item = (i64, T)>) -> Rows<S>
where
    S: Source<Key = PackageId, Value = Vec<T>>,
{
    let mut groups: BTreeMap<PackageId, Vec<T>> = BTreeMap::new();
    for (id, row) in rows {
        groups.entry(PackageId(id)).or_default().push(row);
    }
    groups.into_iter().collect()
}
