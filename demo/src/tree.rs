//! What a page about packages would show, gathered through the cache: relations, as deep as one likes.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use mastaba::{Error, RequestCache};

use crate::sources::{Feature, Package};

/// A package and what it leads to. The naive reader makes the same, to be compared.
#[derive(Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) authors: Vec<String>,
    pub(crate) features: Vec<Feature>,
    pub(crate) keywords: Vec<String>,
    pub(crate) dependencies: Vec<TreeBranch>,
}

/// A dependency, and its package where the tree goes that deep.
#[derive(Debug, PartialEq)]
pub(crate) struct TreeBranch {
    pub(crate) name: String,
    pub(crate) req: String,
    pub(crate) package: Option<Tree>,
}

/// The trees of many packages: this many levels of relations, of which each costs one read of the shared
/// tier and, per source, one statement at the most.
pub(crate) async fn trees(
    request: &RequestCache,
    packages: &[Arc<Package>],
    levels: usize,
) -> Result<Vec<Tree>, Error> {
    try_join_all(packages.iter().map(|package| tree(request, package, levels))).await
}

/// The tree of one package. Nothing here knows of batches: what is awaited together travels together, also
/// with what the trees beside it await.
fn tree<'a>(
    request: &'a RequestCache,
    package: &'a Package,
    levels: usize,
) -> BoxFuture<'a, Result<Tree, Error>> {
    async move {
        let (dependencies, authors, features, keywords) = tokio::try_join!(
            package.dependencies.get(request),
            package.authors.get(request),
            package.features.get(request),
            package.keywords.get(request),
        )?;
        let dependencies = dependencies.iter().flat_map(|all| all.iter()).map(async |dependency| {
            // a package and its own relations are two levels
            let package = match &dependency.package {
                Some(package) if levels > 2 => package.get(request).await?,
                _ => None,
            };
            let package = match &package {
                Some(package) => Some(tree(request, package, levels - 2).await?),
                None => None,
            };
            Ok::<_, Error>(TreeBranch { name: dependency.name.clone(), req: dependency.req.clone(), package })
        });
        Ok(Tree {
            name: package.name.clone(),
            version: package.version.clone(),
            description: package.description.clone(),
            authors: authors.as_deref().cloned().unwrap_or_default(),
            features: features.as_deref().cloned().unwrap_or_default(),
            keywords: keywords.as_deref().cloned().unwrap_or_default(),
            dependencies: try_join_all(dependencies).await?,
        })
    }
    .boxed()
}
