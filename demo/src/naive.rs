//! The same work as it is written without a cache: one select per object, when it is met, and no memory.
//!
//! It reads the same database, and its statements are counted where they are executed.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::Result;
use crate::database::Database;
use crate::sources::{Dependency, DependencyRow, Feature, FeatureRow, Package, PackageId, PackageRow};
use crate::tree::{Branch, Tree};

/// A reader that asks for every object by itself.
pub(crate) struct Naive(pub(crate) Database);

impl Naive {
    pub(crate) async fn package(&self, id: PackageId) -> Result<Option<Arc<Package>>> {
        let select = "select id, name, version, description, license, repository from package where id = ?";
        let rows: Vec<PackageRow> = self.0.select(select, &id).await?;
        Ok(rows.into_iter().next().map(|row| Arc::new(row.into())))
    }

    /// One after the other.
    pub(crate) async fn packages(&self, ids: &[PackageId]) -> Result<Vec<Option<Arc<Package>>>> {
        let mut packages = Vec::new();
        for id in ids {
            packages.push(self.package(*id).await?);
        }
        Ok(packages)
    }

    /// One after the other.
    pub(crate) async fn named(&self, names: &[(String, String)]) -> Result<Vec<Option<PackageId>>> {
        let select = "select id from package where name = ?1 ->> 0 and version = ?1 ->> 1";
        let mut ids = Vec::new();
        for name in names {
            let rows: Vec<(i64,)> = self.0.select(select, name).await?;
            ids.push(rows.into_iter().next().map(|(id,)| PackageId(id)));
        }
        Ok(ids)
    }

    pub(crate) async fn trees(&self, packages: &[Arc<Package>], levels: usize) -> Result<Vec<Tree>> {
        let mut trees = Vec::new();
        for package in packages {
            trees.push(self.tree(package, levels).await?);
        }
        Ok(trees)
    }

    fn tree<'a>(&'a self, package: &'a Package, levels: usize) -> BoxFuture<'a, Result<Tree>> {
        async move {
            let mut dependencies = Vec::new();
            for dependency in self.dependencies(package.id).await? {
                let package = match &dependency.package {
                    Some(package) if levels > 2 => self.package(*package.key()).await?,
                    _ => None,
                };
                let package = match &package {
                    Some(package) => Some(self.tree(package, levels - 2).await?),
                    None => None,
                };
                dependencies.push(Branch { name: dependency.name, req: dependency.req, package });
            }
            Ok(Tree {
                name: package.name.clone(),
                version: package.version.clone(),
                description: package.description.clone(),
                authors: self.authors(package.id).await?,
                features: self.features(package.id).await?,
                keywords: self.keywords(package.id).await?,
                dependencies,
            })
        }
        .boxed()
    }

    async fn dependencies(&self, id: PackageId) -> Result<Vec<Dependency>> {
        let select = "select package_id, name, req, kind, optional, resolved_id from dependency \
                      where package_id = ? order by id";
        let rows: Vec<DependencyRow> = self.0.select(select, &id).await?;
        Ok(rows.into_iter().map(Dependency::from).collect())
    }

    async fn authors(&self, id: PackageId) -> Result<Vec<String>> {
        let select = "select name from package_author join author on author.id = author_id \
                      where package_id = ? order by position";
        self.words(select, id).await
    }

    async fn features(&self, id: PackageId) -> Result<Vec<Feature>> {
        let select = "select package_id, name, enables from feature where package_id = ? order by id";
        let rows: Vec<FeatureRow> = self.0.select(select, &id).await?;
        Ok(rows.into_iter().map(Feature::from).collect())
    }

    async fn keywords(&self, id: PackageId) -> Result<Vec<String>> {
        let select = "select word from package_keyword join keyword on keyword.id = keyword_id \
                      where package_id = ? order by position";
        self.words(select, id).await
    }

    async fn words(&self, select: &'static str, id: PackageId) -> Result<Vec<String>> {
        let rows: Vec<(String,)> = self.0.select(select, &id).await?;
        Ok(rows.into_iter().map(|(word,)| word).collect())
    }
}
