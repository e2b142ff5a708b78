//! The SQLite database: made from the metadata, and read through one place that counts statements.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Sqlite, Transaction};

use crate::Result;
use crate::metadata::{self, Metadata, Package};
use crate::sources::PackageId;

const SCHEMA: &str = "
create table package (
    id integer primary key, name text not null, version text not null,
    description text, license text, repository text,
    unique (name, version));
create table author (id integer primary key, name text not null unique);
create table package_author (
    package_id integer not null references package, author_id integer not null references author,
    position integer not null, primary key (package_id, position)) without rowid;
create table keyword (id integer primary key, word text not null unique);
create table package_keyword (
    package_id integer not null references package, keyword_id integer not null references keyword,
    position integer not null, primary key (package_id, position)) without rowid;
create table feature (
    id integer primary key, package_id integer not null references package,
    name text not null, enables text not null);
create index feature_of on feature (package_id);
create table dependency (
    id integer primary key, package_id integer not null references package,
    name text not null, req text not null, kind text, optional integer not null,
    -- packages come in any order
    resolved_id integer references package deferrable initially deferred);
create index dependency_of on dependency (package_id);
";

/// The database, and how many statements were made through this handle.
#[derive(Clone)]
pub(crate) struct Database {
    pool: SqlitePool,
    statements: Arc<AtomicUsize>,
}

impl Database {
    /// Opens the database of a folder, or makes an empty one.
    pub(crate) async fn open(folder: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("packages.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        Ok(Self { pool, statements: Arc::default() })
    }

    /// The same database with a count of its own.
    pub(crate) fn counted_apart(&self) -> Self {
        Self { pool: self.pool.clone(), statements: Arc::default() }
    }

    /// How many statements were made through this handle and its clones.
    pub(crate) fn statements(&self) -> usize {
        self.statements.load(Ordering::SeqCst)
    }

    /// Executes one select, and counts it: nothing reads in any other way.
    ///
    /// `keys` is its one parameter, as JSON: SQLite has no arrays, but it has `json_each`.
    pub(crate) async fn select<T>(
        &self,
        sql: &'static str,
        keys: &(impl Serialize + ?Sized + Sync),
    ) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        self.statements.fetch_add(1, Ordering::SeqCst);
        let keys = serde_json::to_string(keys).map_err(|why| sqlx::Error::Encode(why.into()))?;
        sqlx::query_as(sql).bind(keys).fetch_all(&self.pool).await
    }

    /// A transaction, to write in.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.pool.begin().await
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Asks cargo for the data and puts it in. On a terminal a bar tells how far it is.
    pub(crate) async fn build(&self) -> Result<Built> {
        // hidden by itself where stderr is not a terminal
        let bar = ProgressBar::new_spinner().with_message("asking cargo metadata");
        bar.enable_steady_tick(Duration::from_millis(100));
        let built = self.fill(&bar).await;
        bar.finish_and_clear();
        built
    }

    async fn fill(&self, bar: &ProgressBar) -> Result<Built> {
        let metadata = tokio::task::spawn_blocking(metadata::read).await??;
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} packages into SQLite")?);
        bar.set_length(metadata.packages.len() as u64);
        let mut inserting = Inserting::begin(self, &metadata).await?;
        for package in &metadata.packages {
            inserting.package(package).await?;
            bar.inc(1);
        }
        inserting.transaction.commit().await?;
        Ok(Built { packages: metadata.packages.len(), rows: inserting.rows })
    }
}

/// What was put in.
pub(crate) struct Built {
    pub(crate) packages: usize,
    pub(crate) rows: usize,
}

/// Puts packages in, all in one transaction.
struct Inserting<'m> {
    transaction: Transaction<'static, Sqlite>,
    ids: HashMap<&'m str, i64>,
    /// By package: what its dependencies became, as (name in the code, name, id).
    chosen: HashMap<&'m str, Vec<(&'m str, &'m str, i64)>>,
    rows: usize,
}

impl<'m> Inserting<'m> {
    async fn begin(database: &Database, metadata: &'m Metadata) -> Result<Self> {
        let mut transaction = database.begin().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
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
        Ok(Self { transaction, ids, chosen, rows: 0 })
    }

    async fn package(&mut self, package: &'m Package) -> Result<()> {
        let id = self.ids[package.id.as_str()];
        let insert = "insert into package (id, name, version, description, license, repository) \
                      values (?, ?, ?, ?, ?, ?)";
        let description = package.description.as_ref().map(|text| text.trim().replace('\n', " "));
        let row = sqlx::query(insert)
            .bind(id)
            .bind(&package.name)
            .bind(&package.version)
            .bind(description)
            .bind(&package.license)
            .bind(&package.repository);
        self.execute(row).await?;
        for (position, author) in (0i64..).zip(&package.authors) {
            self.execute(sqlx::query("insert or ignore into author (name) values (?)").bind(author)).await?;
            let link = "insert into package_author select ?, id, ? from author where name = ?";
            self.execute(sqlx::query(link).bind(id).bind(position).bind(author)).await?;
        }
        for (position, word) in (0i64..).zip(&package.keywords) {
            self.execute(sqlx::query("insert or ignore into keyword (word) values (?)").bind(word)).await?;
            let link = "insert into package_keyword select ?, id, ? from keyword where word = ?";
            self.execute(sqlx::query(link).bind(id).bind(position).bind(word)).await?;
        }
        let mut features: Vec<_> = package.features.iter().collect();
        features.sort_unstable();
        for (name, enables) in features {
            let insert = "insert into feature (package_id, name, enables) values (?, ?, ?)";
            self.execute(sqlx::query(insert).bind(id).bind(name).bind(enables.join(" "))).await?;
        }
        for dependency in &package.dependencies {
            let insert = "insert into dependency (package_id, name, req, kind, optional, resolved_id) \
                          values (?, ?, ?, ?, ?, ?)";
            let row = sqlx::query(insert)
                .bind(id)
                .bind(&dependency.name)
                .bind(&dependency.req)
                .bind(&dependency.kind)
                .bind(dependency.optional)
                .bind(self.resolved(package, dependency));
            self.execute(row).await?;
        }
        Ok(())
    }

    /// The package that a dependency became; none, where it is optional and unused or for another platform.
    fn resolved(&self, package: &Package, dependency: &metadata::Dependency) -> Option<i64> {
        let same_name = |(_, name, _): &&(&str, &str, i64)| *name == dependency.name;
        let chosen: Vec<_> = self.chosen.get(package.id.as_str())?.iter().filter(same_name).collect();
        // two versions of one package go by different names in the code
        let called = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
        let exact = chosen.iter().find(|(in_code, ..)| *in_code == called);
        exact.or(chosen.first()).map(|(_, _, id)| *id)
    }

    async fn execute(
        &mut self,
        query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<()> {
        self.rows += usize::try_from(query.execute(&mut *self.transaction).await?.rows_affected())?;
        Ok(())
    }
}

/// What the tour asks for.
pub(crate) struct Cast {
    /// The first packages, in the order of the database.
    pub(crate) packages: Vec<PackageId>,
    /// Their names and versions.
    pub(crate) names: Vec<(String, String)>,
    /// A key that no package has.
    pub(crate) nobody: PackageId,
}

impl Cast {
    /// So many packages; all of them, where there are fewer.
    pub(crate) async fn of(database: &Database, most: u32) -> Result<Self> {
        let select = "select id, name, version from package order by id limit ?";
        let all: Vec<(i64, String, String)> =
            sqlx::query_as(select).bind(most).fetch_all(&database.pool).await?;
        if all.is_empty() {
            return Err("the database has no packages".into());
        }
        let (last,): (i64,) = sqlx::query_as("select max(id) from package").fetch_one(&database.pool).await?;
        Ok(Self {
            packages: all.iter().map(|(id, ..)| PackageId(*id)).collect(),
            names: all.into_iter().map(|(_, name, version)| (name, version)).collect(),
            nobody: PackageId(last + 1),
        })
    }
}

/// Changes the description of a package: somebody writes.
pub(crate) async fn describe(
    transaction: &mut Transaction<'static, Sqlite>,
    id: PackageId,
    description: &str,
) -> Result<()> {
    let update = sqlx::query("update package set description = ? where id = ?").bind(description).bind(id.0);
    update.execute(&mut **transaction).await?;
    Ok(())
}
