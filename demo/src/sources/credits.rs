//! Who wrote what under which licence, and who builds on whom: relations that lead on to packages.

use mastaba::{LoadContext, Rows, Source};
use serde::{Deserialize, Serialize};

use super::{PackageId, Select, grouped, id};
use crate::database::{Database, Statement, by_key};

/// The key of an author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct AuthorId(pub(crate) i64);

id!(AuthorId);

/// An author, as manifests write it: `Name <address>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Author {
    pub(crate) id: AuthorId,
    pub(crate) name: String,
}

impl Author {
    /// The name without the address.
    pub(crate) fn display(&self) -> &str {
        match self.name.split_once('<') {
            Some((name, _)) if !name.trim().is_empty() => name.trim(),
            _ => self.name.trim_matches(['<', '>']),
        }
    }
}

/// The key of a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct LicenseId(pub(crate) i64);

id!(LicenseId);

/// A licence.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct License {
    pub(crate) id: LicenseId,
    pub(crate) name: String,
}

/// Authors by id.
pub(crate) struct AuthorById(pub(crate) Database);

impl Source for AuthorById {
    type Key = AuthorId;
    type Value = Author;
    type Error = sqlx::Error;
    const NAME: &'static str = "author.by_id";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[AuthorId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for AuthorById {
    type Row = (i64, String);
    const STATEMENT: Statement = by_key!("select id, name from author", "id");

    fn gather(rows: Vec<(i64, String)>) -> Vec<(AuthorId, Author)> {
        rows.into_iter().map(|(id, name)| (AuthorId(id), Author { id: AuthorId(id), name })).collect()
    }
}

/// Licences by id.
pub(crate) struct LicenseById(pub(crate) Database);

impl Source for LicenseById {
    type Key = LicenseId;
    type Value = License;
    type Error = sqlx::Error;
    const NAME: &'static str = "license.by_id";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[LicenseId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for LicenseById {
    type Row = (i64, String);
    const STATEMENT: Statement = by_key!("select id, name from license", "id");

    fn gather(rows: Vec<(i64, String)>) -> Vec<(LicenseId, License)> {
        rows.into_iter().map(|(id, name)| (LicenseId(id), License { id: LicenseId(id), name })).collect()
    }
}

/// Who wrote a package, as keys: a name that changes is kept in one place.
pub(crate) struct CreditsOf(pub(crate) Database);

impl Source for CreditsOf {
    type Key = PackageId;
    type Value = Vec<AuthorId>;
    type Error = sqlx::Error;
    const NAME: &'static str = "credits.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for CreditsOf {
    type Row = (i64, i64);
    const STATEMENT: Statement = by_key!(
        "select package_id, author_id from package_author",
        "package_id",
        "order by package_id, position"
    );

    fn gather(rows: Vec<(i64, i64)>) -> Vec<(PackageId, Vec<AuthorId>)> {
        grouped(rows.into_iter().map(|(id, other)| (id, AuthorId(other))))
    }
}

/// What licences a package names.
pub(crate) struct LicensesOf(pub(crate) Database);

impl Source for LicensesOf {
    type Key = PackageId;
    type Value = Vec<LicenseId>;
    type Error = sqlx::Error;
    const NAME: &'static str = "licenses.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for LicensesOf {
    type Row = (i64, i64);
    const STATEMENT: Statement = by_key!(
        "select package_id, license_id from package_license",
        "package_id",
        "order by package_id, position"
    );

    fn gather(rows: Vec<(i64, i64)>) -> Vec<(PackageId, Vec<LicenseId>)> {
        grouped(rows.into_iter().map(|(id, other)| (id, LicenseId(other))))
    }
}

/// The packages that are built with a package.
pub(crate) struct DependentsOf(pub(crate) Database);

impl Source for DependentsOf {
    type Key = PackageId;
    type Value = Vec<PackageId>;
    type Error = sqlx::Error;
    const NAME: &'static str = "dependents.of";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[PackageId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for DependentsOf {
    type Row = (i64, i64);
    const STATEMENT: Statement = by_key!(
        "select distinct resolved_id, package_id from dependency",
        "resolved_id",
        "order by resolved_id, package_id"
    );

    fn gather(rows: Vec<(i64, i64)>) -> Vec<(PackageId, Vec<PackageId>)> {
        grouped(rows.into_iter().map(|(id, other)| (id, PackageId(other))))
    }
}

/// The packages of an author.
pub(crate) struct PackagesBy(pub(crate) Database);

impl Source for PackagesBy {
    type Key = AuthorId;
    type Value = Vec<PackageId>;
    type Error = sqlx::Error;
    const NAME: &'static str = "packages.by";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[AuthorId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for PackagesBy {
    type Row = (i64, i64);
    const STATEMENT: Statement = by_key!(
        "select distinct author_id, package_id from package_author",
        "author_id",
        "order by author_id, package_id"
    );

    fn gather(rows: Vec<(i64, i64)>) -> Vec<(AuthorId, Vec<PackageId>)> {
        grouped(rows.into_iter().map(|(id, other)| (id, PackageId(other))))
    }
}

/// The packages under a licence.
pub(crate) struct PackagesUnder(pub(crate) Database);

impl Source for PackagesUnder {
    type Key = LicenseId;
    type Value = Vec<PackageId>;
    type Error = sqlx::Error;
    const NAME: &'static str = "packages.under";
    const REGION: &'static str = "packages";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[LicenseId]) -> Result<Rows<Self>, sqlx::Error> {
        Ok(self.0.many::<Self>(ids).await?.into_iter().collect())
    }
}

impl Select for PackagesUnder {
    type Row = (i64, i64);
    const STATEMENT: Statement = by_key!(
        "select license_id, package_id from package_license",
        "license_id",
        "order by license_id, package_id"
    );

    fn gather(rows: Vec<(i64, i64)>) -> Vec<(LicenseId, Vec<PackageId>)> {
        grouped(rows.into_iter().map(|(id, other)| (id, PackageId(other))))
    }
}
