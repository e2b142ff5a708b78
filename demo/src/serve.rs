//! The crate explorer: the database of the tour as a web application, `cargo run -- serve`.

mod app;
mod asked;
mod cost;
mod edit;
mod pages;
mod reader;
mod refusal;
mod search;
mod shared;
mod views;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::ListenerExt;
use mastaba::{Cache, Coherence, Event, NearConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;

use self::app::App;
use crate::Result;
use crate::database::Database;
use crate::figures;
use crate::sources::{
    AuthorById, CreditsOf, DependenciesOf, DependentsOf, FeaturesOf, KeywordsOf, LicenseById, LicensesOf,
    PackageById, PackagesBy, PackagesUnder,
};

/// The port that is taken where none is given.
pub(crate) const PORT: u16 = 3000;

/// How long requests may go on after it was told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Where it listens and what it reads from.
pub(crate) struct ServeOptions {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Where the database and the cache are kept; otherwise in a temporary folder, removed at the end.
    pub(crate) data_dir: Option<PathBuf>,
    /// A Postgres database instead of SQLite.
    pub(crate) postgres: Option<String>,
    /// A shared tier in Redis instead of the embedded one.
    pub(crate) redis: Option<String>,
    /// Entries of a cache in this process, before the shared tier.
    pub(crate) near: Option<u64>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        let host = "127.0.0.1".to_owned();
        Self { host, port: PORT, data_dir: None, postgres: None, redis: None, near: None }
    }
}

/// Serves until it is told to stop.
pub(crate) async fn serve(options: ServeOptions) -> Result<()> {
    // from here on a signal ends it in order, and what was made goes with it
    let mut stop = std::pin::pin!(stopped()?);
    let started = tokio::select! {
        started = start(&options) => started?,
        () = &mut stop => return Ok(()),
    };
    let Started { listener, app, _folder } = started;
    let (cache, database) = (app.cache.clone(), app.database.clone());
    figures::say(&format!("http://{}/", listener.local_addr()?))?;
    figures::say(&format!("{} Ctrl-C stops it.", app.tiers))?;

    let (tell, told) = tokio::sync::watch::channel(false);
    let until = {
        let mut told = told.clone();
        async move { drop(told.wait_for(|told| *told).await) }
    };
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let server = axum::serve(listener, app::router(app)).with_graceful_shutdown(until);
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        served = &mut server => served?,
        () = stop => {
            tell.send_replace(true);
            // a browser may hold a connection open that it never uses
            if let Ok(served) = tokio::time::timeout(GRACE, server).await {
                served?;
            }
        }
    }
    cache.close().await?;
    drop(tokio::time::timeout(GRACE, database.close()).await);
    Ok(())
}

/// What serves, before it does.
struct Started {
    listener: TcpListener,
    app: App,
    /// Removed when it is dropped, unless it is to be kept.
    _folder: Option<TempDir>,
}

async fn start(options: &ServeOptions) -> Result<Started> {
    // what most often fails comes first
    let listener = listen(&options.host, options.port).await?;
    let (folder, temporary) = folder(options)?;
    let database = database(options, &folder).await?;
    let cache = cache(options, &folder, &database).await?;
    let shared = if options.redis.is_some() { "Redis" } else { "an embedded file" };
    let near = if options.near.is_some() { ", near in front of it" } else { "" };
    let tiers = format!("Rows from {}, cached in {shared}{near}.", database.kind());
    let app = App { cache, database, costs: cost::Costs::default(), tiers };
    Ok(Started { listener, app, _folder: temporary })
}

async fn listen(host: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((host, port)).await.map_err(|why| {
        let what = match why.kind() {
            ErrorKind::AddrInUse => "is taken; --port 0 finds a free one".to_owned(),
            ErrorKind::PermissionDenied => "is not for everybody; take one above 1023".to_owned(),
            _ => format!("cannot be listened on: {why}"),
        };
        format!("port {port} of {host} {what}").into()
    })
}

/// The folder of the files, and whether it is to be removed.
fn folder(options: &ServeOptions) -> Result<(PathBuf, Option<TempDir>)> {
    match &options.data_dir {
        Some(folder) => {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|why| format!("--data-dir: {} cannot be used: {why}", folder.display()))?;
            Ok((folder.clone(), None))
        }
        None => {
            let made = tempfile::Builder::new().prefix("mastaba-explorer-").tempdir();
            let made = made.map_err(|why| format!("no temporary folder can be made: {why}"))?;
            Ok((made.path().to_owned(), Some(made)))
        }
    }
}

async fn database(options: &ServeOptions, folder: &Path) -> Result<Database> {
    let database = match &options.postgres {
        Some(url) => Database::connect(url).await?,
        None => {
            let opened = Database::open(folder).await;
            opened.map_err(|why| format!("the database in {} cannot be opened: {why}", folder.display()))?
        }
    };
    if database.identity().await?.is_none() {
        let built = database.build().await;
        // another process may have been at it too, and then its tables stand in the way of ours: one transaction fills
        // the database, so what has an identity has everything
        if built.is_err() && database.identity().await?.is_none() {
            built?;
        }
    }
    Ok(database)
}

async fn cache(options: &ServeOptions, folder: &Path, database: &Database) -> Result<Cache> {
    let identity = database.identity().await?.ok_or("the database does not say which one it is")?;
    // a shared tier, or a folder, may be used for one database after the other
    let builder = Cache::builder().namespace(identity).on_event(told);
    let (builder, mut region) = shared::tier(builder, options.redis.as_deref(), folder);
    region = region.ttl(Duration::from_secs(3600)).absent_ttl(Duration::from_secs(60));
    if let Some(entries) = options.near {
        let near = NearConfig::entries(entries);
        // others write to Redis too, and an edit shows at once: one ping per page, beside its first read. A file
        // belongs to this process alone, which knows of its own edits
        let coherence = if options.redis.is_some() { Coherence::Fenced } else { Coherence::default() };
        region = region.near(near.coherence(coherence));
    }
    let cache = builder
        .region("packages", region)
        .source(PackageById(database.clone()))
        .source(DependenciesOf(database.clone()))
        .source(DependentsOf(database.clone()))
        .source(FeaturesOf(database.clone()))
        .source(KeywordsOf(database.clone()))
        .source(LicensesOf(database.clone()))
        .source(LicenseById(database.clone()))
        .source(CreditsOf(database.clone()))
        .source(AuthorById(database.clone()))
        .source(PackagesBy(database.clone()))
        .source(PackagesUnder(database.clone()))
        .build()
        .await?;
    if options.postgres.is_some() && options.redis.is_none() {
        // others may have written to the database since this file was last in use
        cache.region("packages").clear().await?;
    }
    Ok(cache)
}

/// What the cache has to say to whoever runs it: what went wrong. Not what was slow, nor that an edit was refused.
fn told(event: &Event) {
    if !matches!(event, Event::SharedSlow { .. } | Event::WriteDropped { .. }) {
        anstream::eprintln!("demo: {event}");
    }
}

/// Comes back when it is to stop: Ctrl-C, or what a service manager sends.
fn stopped() -> Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
