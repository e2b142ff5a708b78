//! What is kept and by what it is asked for. Every load is one grouped select.
//!
//! A source says its [`Statement`] once; [`Database`] knows how to ask for many keys, or for one.

mod credits;

use std::collections::BTreeMap;
use std::hash::Hash;

use mastaba::{Lazy, LoadContext, Rows, Source};
use serde::{Deserialize, Serialize};

pub(crate) use self::credits::{
    Author, AuthorById, AuthorId, CreditsOf, DependentsOf, License, LicenseById, LicenseId, LicensesOf,
    PackagesBy, PackagesUnder,
};
use crate::database::{Database, Row, Statement, by_key};

/// A key that is a number in the database. Not a bare number: it fits nothing else.
pub(crate) trait Id: Copy + Ord + Hash + Send + Sync + 'static {
    /// The key of a number.
    fn of(number: i64) -> Self;
    /// The number of the key.
    fn number(self) -> i64;
}

/// A newtype over the number.
macro_rules! id {
    ($name:ident) => {
        impl $crate::sources::Id for $name {
            fn of(number: i64) -> Self {
                Self(number)
            }

            fn number(self) -> i64 {
                self.0
            }
        }
    };
}
use id;

/// A source whose rows one statement gives, by one key or by many.
pub(crate) trait Select: Source<Key: Id, Error = sqlx::Error> {
    /// What the statement gives.
    type Row: Row;
    /// The statement.
    const STATEMENT: Statement;
    /// Values by key, from the rows of any number of keys in the order of the statement.
    fn gather(rows: Vec<Self::Row>) -> Vec<(Self::Key, Self::Value)>;
}

/// The key of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PackageId(pub(crate) i64);

id!(PackageId);

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
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for PackageById {
    type Row = PackageRow;
    const STATEMENT: Statement =
        by_key!("select id, name, version, description, license, repository from package", "id");

    fn gather(rows: Vec<PackageRow>) -> Vec<(PackageId, Package)> {
        rows.into_iter().map(|row| (PackageId(row.0), row.into())).collect()
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
        let rows: Vec<(i64, String, String)> = self.0.named(names).await?;
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
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for DependenciesOf {
    type Row = DependencyRow;
    const STATEMENT: Statement = by_key!(
        "select package_id, name, req, kind, optional, resolved_id from dependency",
        "package_id",
        "order by id"
    );

    fn gather(rows: Vec<DependencyRow>) -> Vec<(PackageId, Vec<Dependency>)> {
        grouped(rows.into_iter().map(|row| (row.0, row.into())))
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
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for AuthorsOf {
    type Row = (i64, String);
    const STATEMENT: Statement = by_key!(
        "select package_id, name from package_author join author on author.id = author_id",
        "package_id",
        "order by package_id, position"
    );

    fn gather(rows: Vec<(i64, String)>) -> Vec<(PackageId, Vec<String>)> {
        grouped(rows)
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
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for FeaturesOf {
    type Row = FeatureRow;
    const STATEMENT: Statement =
        by_key!("select package_id, name, enables from feature", "package_id", "order by id");

    fn gather(rows: Vec<FeatureRow>) -> Vec<(PackageId, Vec<Feature>)> {
        grouped(rows.into_iter().map(|row| (row.0, row.into())))
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
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for KeywordsOf {
    type Row = (i64, String);
    const STATEMENT: Statement = by_key!(
        "select package_id, word from package_keyword join keyword on keyword.id = keyword_id",
        "package_id",
        "order by package_id, position"
    );

    fn gather(rows: Vec<(i64, String)>) -> Vec<(PackageId, Vec<String>)> {
        grouped(rows)
    }
}

/// Rows of many keys, per key and in their order. A key without any is absent.
fn grouped<K: Id, T>(rows: impl IntoIterator<Item = (i64, T)>) -> Vec<(K, Vec<T>)> {
    let mut groups: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for (id, row) in rows {
        groups.entry(K::of(id)).or_default().push(row);
    }
    groups.into_iter().collect()
}
