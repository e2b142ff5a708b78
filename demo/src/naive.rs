//! The same work as it is written without a cache: one select per object, when it is met, and no memory.
//!
//! It reads the same database, and its statements are counted where they are executed.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::Result;
use crate::database::Database;
use crate::sources::{
    AuthorsOf, DependenciesOf, FeaturesOf, KeywordsOf, Package, PackageById, PackageId, Select,
};
use crate::tree::{Tree, TreeBranch};

/// A reader that asks for every object by itself.
pub(crate) struct NaiveTour(pub(crate) Database);

impl NaiveTour {
    pub(crate) async fn package(&self, id: PackageId) -> Result<Option<Arc<Package>>> {
        Ok(self.0.one::<PackageById>(id).await?.map(Arc::new))
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
        let select = "select id from package where name = $1 and version = $2";
        let mut ids = Vec::new();
        for (name, version) in names {
            let values = [name.as_str().into(), version.as_str().into()];
            let rows: Vec<(i64,)> = self.0.select(select, &values).await?;
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
            for dependency in self.of::<DependenciesOf>(package.id).await? {
                let package = match &dependency.package {
                    Some(package) if levels > 2 => self.package(*package.key()).await?,
                    _ => None,
                };
                let package = match &package {
                    Some(package) => Some(self.tree(package, levels - 2).await?),
                    None => None,
                };
                dependencies.push(TreeBranch { name: dependency.name, req: dependency.req, package });
            }
            Ok(Tree {
                name: package.name.clone(),
                version: package.version.clone(),
                description: package.description.clone(),
                authors: self.of::<AuthorsOf>(package.id).await?,
                features: self.of::<FeaturesOf>(package.id).await?,
                keywords: self.of::<KeywordsOf>(package.id).await?,
                dependencies,
            })
        }
        .boxed()
    }

    async fn of<S: Select<Key = PackageId, Value: Default>>(&self, id: PackageId) -> Result<S::Value> {
        Ok(self.0.one::<S>(id).await?.unwrap_or_default())
    }
}
