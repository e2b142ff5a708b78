//! What a page shows, gathered level by level. Nothing here knows of batches or of how its reader reads.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::reader::Reader;
use crate::Result;
use crate::sources::{
    Author, AuthorById, AuthorId, CreditsOf, DependenciesOf, Dependency, DependentsOf, Feature, FeaturesOf,
    KeywordsOf, License, LicenseById, LicenseId, LicensesOf, Package, PackageById, PackageId, PackagesBy,
    PackagesUnder, Select,
};

/// How many entries a list shows at once.
pub(crate) const ENTRIES: usize = 24;

/// How many other packages of an author are shown beside a package.
const OTHERS: usize = 6;

/// A package in a list, with one level of what belongs to it.
pub(crate) struct Card {
    pub(crate) package: Arc<Package>,
    pub(crate) licenses: Vec<Arc<License>>,
    pub(crate) authors: Vec<Arc<Author>>,
    pub(crate) dependents: usize,
}

/// An author of a package, and what else is from the same hand.
pub(crate) struct Credit {
    pub(crate) author: Arc<Author>,
    pub(crate) others: Vec<Arc<Package>>,
    /// How many more there are.
    pub(crate) more: usize,
}

/// A line of `[dependencies]`, and the package that it became.
pub(crate) struct Branch {
    pub(crate) name: String,
    pub(crate) req: String,
    pub(crate) kind: Option<String>,
    pub(crate) optional: bool,
    pub(crate) built: Option<Built>,
}

/// The package of a dependency, three levels down from the page.
pub(crate) struct Built {
    pub(crate) package: Arc<Package>,
    pub(crate) licenses: Vec<Arc<License>>,
    pub(crate) features: usize,
    pub(crate) credits: Vec<Credit>,
}

/// A package with everything around it.
pub(crate) struct PackagePage {
    pub(crate) package: Arc<Package>,
    pub(crate) keywords: Vec<String>,
    pub(crate) features: Vec<Feature>,
    pub(crate) licenses: Vec<Arc<License>>,
    pub(crate) credits: Vec<Credit>,
    pub(crate) branches: Vec<Branch>,
    pub(crate) dependents: Vec<Card>,
}

/// Some of the packages of a longer list.
pub(crate) struct Listing {
    pub(crate) cards: Vec<Card>,
    pub(crate) all: usize,
}

/// A package; what belongs to it; the packages that leads to; what belongs to these; and their authors' other
/// packages.
pub(crate) async fn package<R: Reader>(reader: &R, id: PackageId) -> Result<Option<PackagePage>> {
    let Some(package) = reader.get::<PackageById>(id).await? else { return Ok(None) };
    let (keywords, features, licenses, credits, branches, dependents) = tokio::try_join!(
        reader.get::<KeywordsOf>(id),
        reader.get::<FeaturesOf>(id),
        licenses(reader, id),
        credits(reader, id),
        branches(reader, id),
        dependents(reader, id),
    )?;
    Ok(Some(PackagePage {
        package,
        keywords: keywords.as_deref().cloned().unwrap_or_default(),
        features: features.as_deref().cloned().unwrap_or_default(),
        licenses,
        credits,
        branches,
        dependents,
    }))
}

/// A package as its form shows it.
pub(crate) async fn package_form<R: Reader>(
    reader: &R,
    id: PackageId,
) -> Result<Option<(Arc<Package>, Vec<String>)>> {
    let (package, keywords) = tokio::try_join!(reader.get::<PackageById>(id), reader.get::<KeywordsOf>(id))?;
    Ok(package.map(|package| (package, keywords.as_deref().cloned().unwrap_or_default())))
}

/// An author, and the packages of one page.
pub(crate) async fn author<R: Reader>(
    reader: &R,
    id: AuthorId,
    page: usize,
) -> Result<Option<(Arc<Author>, Listing)>> {
    let (author, packages) = tokio::try_join!(reader.get::<AuthorById>(id), reader.get::<PackagesBy>(id))?;
    let Some(author) = author else { return Ok(None) };
    let packages = packages.as_deref().map_or(&[][..], Vec::as_slice);
    Ok(Some((author, listing(reader, packages, page).await?)))
}

/// A licence, and the packages of one page.
pub(crate) async fn license<R: Reader>(
    reader: &R,
    id: LicenseId,
    page: usize,
) -> Result<Option<(Arc<License>, Listing)>> {
    let (license, packages) =
        tokio::try_join!(reader.get::<LicenseById>(id), reader.get::<PackagesUnder>(id))?;
    let Some(license) = license else { return Ok(None) };
    let packages = packages.as_deref().map_or(&[][..], Vec::as_slice);
    Ok(Some((license, listing(reader, packages, page).await?)))
}

/// The cards of packages that a search has found.
pub(crate) async fn cards<R: Reader>(reader: &R, ids: &[PackageId]) -> Result<Vec<Card>> {
    let cards = try_join_all(ids.iter().map(|id| card(reader, *id))).await?;
    Ok(cards.into_iter().flatten().collect())
}

async fn listing<R: Reader>(reader: &R, ids: &[PackageId], page: usize) -> Result<Listing> {
    let from = ENTRIES.saturating_mul(page - 1).min(ids.len());
    let to = from.saturating_add(ENTRIES).min(ids.len());
    Ok(Listing { cards: cards(reader, &ids[from..to]).await?, all: ids.len() })
}

async fn card<R: Reader>(reader: &R, id: PackageId) -> Result<Option<Card>> {
    let (package, licenses, authors, dependents) = tokio::try_join!(
        reader.get::<PackageById>(id),
        licenses(reader, id),
        authors(reader, id),
        reader.get::<DependentsOf>(id),
    )?;
    let dependents = dependents.map_or(0, |all| all.len());
    Ok(package.map(|package| Card { package, licenses, authors, dependents }))
}

async fn licenses<R: Reader>(reader: &R, id: PackageId) -> Result<Vec<Arc<License>>> {
    let ids = reader.get::<LicensesOf>(id).await?;
    every::<R, LicenseById>(reader, ids.as_deref()).await
}

async fn authors<R: Reader>(reader: &R, id: PackageId) -> Result<Vec<Arc<Author>>> {
    let ids = reader.get::<CreditsOf>(id).await?;
    every::<R, AuthorById>(reader, ids.as_deref()).await
}

async fn credits<R: Reader>(reader: &R, package: PackageId) -> Result<Vec<Credit>> {
    let ids = reader.get::<CreditsOf>(package).await?;
    let ids = ids.as_deref().map_or(&[][..], Vec::as_slice);
    let credits = try_join_all(ids.iter().map(|id| credit(reader, *id, package))).await?;
    Ok(credits.into_iter().flatten().collect())
}

async fn credit<R: Reader>(reader: &R, id: AuthorId, except: PackageId) -> Result<Option<Credit>> {
    let (author, packages) = tokio::try_join!(reader.get::<AuthorById>(id), reader.get::<PackagesBy>(id))?;
    let mut others = packages.as_deref().cloned().unwrap_or_default();
    others.retain(|other| *other != except);
    let more = others.len().saturating_sub(OTHERS);
    others.truncate(OTHERS);
    let others = every::<R, PackageById>(reader, Some(&others)).await?;
    Ok(author.map(|author| Credit { author, others, more }))
}

async fn branches<R: Reader>(reader: &R, id: PackageId) -> Result<Vec<Branch>> {
    let dependencies = reader.get::<DependenciesOf>(id).await?;
    let dependencies = dependencies.as_deref().map_or(&[][..], Vec::as_slice);
    try_join_all(dependencies.iter().map(|dependency| branch(reader, dependency))).await
}

async fn branch<R: Reader>(reader: &R, dependency: &Dependency) -> Result<Branch> {
    let built = match &dependency.package {
        Some(package) => built(reader, *package.key()).await?,
        None => None,
    };
    Ok(Branch {
        name: dependency.name.clone(),
        req: dependency.req.clone(),
        kind: dependency.kind.clone(),
        optional: dependency.optional,
        built,
    })
}

async fn built<R: Reader>(reader: &R, id: PackageId) -> Result<Option<Built>> {
    let (package, licenses, features, credits) = tokio::try_join!(
        reader.get::<PackageById>(id),
        licenses(reader, id),
        reader.get::<FeaturesOf>(id),
        credits(reader, id),
    )?;
    let features = features.map_or(0, |all| all.len());
    Ok(package.map(|package| Built { package, licenses, features, credits }))
}

async fn dependents<R: Reader>(reader: &R, id: PackageId) -> Result<Vec<Card>> {
    let ids = reader.get::<DependentsOf>(id).await?;
    cards(reader, ids.as_deref().map_or(&[][..], Vec::as_slice)).await
}

async fn every<R: Reader, S: Select>(reader: &R, keys: Option<&Vec<S::Key>>) -> Result<Vec<Arc<S::Value>>> {
    let keys = keys.map_or(&[][..], Vec::as_slice);
    let values = try_join_all(keys.iter().map(|key| reader.get::<S>(*key))).await?;
    Ok(values.into_iter().flatten().collect())
}
