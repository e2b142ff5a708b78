//! The tour: each tier in front of the reader, step by step.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures_util::future::try_join_all;
use mastaba::{Force, RequestCache};
use tempfile::TempDir;

use crate::Result;
use crate::database::{Cast, Database, describe};
use crate::figures::{Sheet, Step, number};
use crate::naive::NaiveTour;
use crate::sources::{Package, PackageById, PackageId, PackageNamed};
use crate::stage::Stage;
use crate::tree::{Tree, trees};

/// The argument that makes this program the second process.
pub(crate) const RESTARTED: &str = "restarted";

/// How many packages the larger steps are about, where there are as many.
const PACKAGES: u32 = 100;

/// How many levels of relations: dependencies and their like, the packages these became, and theirs.
const LEVELS: usize = 3;

/// How the tour is to be given.
#[derive(Default)]
pub(crate) struct TourOptions {
    /// JSON instead of a table.
    pub(crate) json: bool,
    /// Where to put the files; otherwise where temporary files go.
    pub(crate) data_dir: Option<PathBuf>,
    /// Whether to leave them there.
    pub(crate) keep: bool,
}

/// Gives the tour.
pub(crate) async fn tour(options: TourOptions) -> Result<()> {
    let mut sheet = Sheet::new(options.json);
    let folder = folder(&options)?;
    let database = Database::open(folder.path()).await?;
    let built = database.build().await?;
    let cast = Cast::of(&database, PACKAGES).await?;
    sheet.say(&format!(
        "The packages that this workspace is built from, {} of them, as {} rows of a SQLite database;\nover it \
         a cache in one file a region. Each step is done through the cache, and again by one select per object\n\
         (naive), and both have to come to the same.\n",
        number(built.packages as u64),
        number(built.rows as u64),
    ))?;
    sheet.header()?;
    let stage = Stage::open(folder.path(), database).await?;
    let mut walk = Walk { stage, sheet, cast };
    walk.one_package().await?;
    walk.nobody().await?;
    walk.many().await?;
    walk.names().await?;
    walk.force().await?;
    walk.writes().await?;
    let mut sheet = walk.restart(folder.path()).await?;
    sheet.say("")?;
    sheet.summary()?;
    sheet.say("Every answer was equal to that of the naive reader.\n")?;
    if options.keep || options.data_dir.is_some() {
        sheet.say(&format!("The database and the cache are in {}\n", folder.keep().display()))?;
    }
    sheet.say(
        "Where to look next: demo/src/tour.rs for these steps, demo/src/sources.rs for the loaders, README.md to\n\
         begin with a program of your own, ARCHITECTURE.md for how it works, `cargo doc --open -p mastaba`.",
    )
}

/// A new folder, so that cold is cold.
fn folder(options: &TourOptions) -> Result<TempDir> {
    let name = tempfile::Builder::new().prefix("mastaba-tour-").to_owned();
    let made = match &options.data_dir {
        Some(parent) => std::fs::create_dir_all(parent).and_then(|()| name.tempdir_in(parent)),
        None => name.tempdir(),
    };
    made.map_err(|why| {
        let parent = options.data_dir.clone().unwrap_or_else(std::env::temp_dir);
        format!("no folder can be made in {}: {why}", parent.display()).into()
    })
}

/// The second process: the same hundred packages, three levels deep, over the file of the first.
pub(crate) async fn restarted(folder: PathBuf) -> Result<()> {
    let database = Database::open(&folder).await?;
    let cast = Cast::of(&database, PACKAGES).await?;
    let stage = Stage::open(&folder, database).await?;
    let asked = format!("a new process: {} packages, three levels", cast.packages.len());
    let step = everything("restart", &asked, &stage, &cast.packages).await?;
    stage.close().await?;
    let mut sheet = Sheet::new(true);
    sheet.step(&step, "")
}

/// Packages and their relations, by a request that knows nothing.
async fn everything(step: &str, asked: &str, stage: &Stage, ids: &[PackageId]) -> Result<Step> {
    let request = stage.cache.request();
    let ours = async || -> Result<Vec<Tree>> {
        let packages = request.get_many::<PackageById>(ids.iter().copied()).await?;
        let packages: Vec<_> = packages.found().map(|(_, package)| package.clone()).collect();
        Ok(trees(&request, &packages, LEVELS).await?)
    };
    let naive = async |naive: &NaiveTour| {
        let packages: Vec<_> = naive.packages(ids).await?.into_iter().flatten().collect();
        naive.trees(&packages, LEVELS).await
    };
    Ok(stage.measure(step, asked, &request, ours, naive).await?.0)
}

/// The tour on its way.
struct Walk {
    stage: Stage,
    sheet: Sheet,
    cast: Cast,
}

impl Walk {
    /// One package, and how each tier comes to know it.
    async fn one_package(&mut self) -> Result<()> {
        let asked = format!("{}, for the first time", self.star());
        let request = self.stage.cache.request();
        self.get("cold-get", &asked, &request, "Nobody knew it: a read, a lease to fill, one select.")
            .await?;
        let see = "The request has it already: no trip, no statement.";
        self.get("same-get", "the same, by the same request", &request, see).await?;
        let request = self.stage.cache.request();
        let see = "The shared tier has it: one trip, no statement.";
        self.get("warm-request", "the same, by another request", &request, see).await
    }

    /// A key without a row.
    async fn nobody(&mut self) -> Result<()> {
        let nobody = self.cast.nobody;
        for (step, asked, see) in [
            (
                "absent",
                "a package that does not exist",
                "Absent, which is an answer like any other. Cheap loads take no lease: one trip less.",
            ),
            (
                "absent-again",
                "the same, by another request",
                "Absence is remembered: the database is not asked.",
            ),
        ] {
            let request = self.stage.cache.request();
            let ours = async || Ok(request.get::<PackageById>(nobody).await?);
            let naive = async |naive: &NaiveTour| naive.package(nobody).await;
            let (figures, _) = self.stage.measure(step, asked, &request, ours, naive).await?;
            self.sheet.step(&figures, see)?;
        }
        Ok(())
    }

    /// Batches, and relations.
    async fn many(&mut self) -> Result<()> {
        let ids = self.cast.packages.clone();
        let some = &ids[..ids.len().div_ceil(5)];
        let request = self.stage.cache.request();
        let ours = async || {
            let gets = some.iter().map(|id| request.get::<PackageById>(*id));
            Ok(try_join_all(gets).await?)
        };
        let naive = async |naive: &NaiveTour| naive.packages(some).await;
        let asked = format!("{} single gets, awaited together", some.len());
        let (figures, _) = self.stage.measure("joined-gets", &asked, &request, ours, naive).await?;
        self.sheet.step(&figures, "What is awaited together travels together, without being told.")?;

        let request = self.stage.cache.request();
        let mut wanted = ids.clone();
        wanted.push(self.cast.nobody);
        let ours = async || {
            let answers = request.get_many::<PackageById>(wanted.iter().copied()).await?;
            Ok(answers.into_iter().map(|(_, package)| package).collect::<Vec<_>>())
        };
        let naive = async |naive: &NaiveTour| naive.packages(&wanted).await;
        let asked = format!("{} packages and one that is not, in a batch", ids.len());
        let (figures, found) = self.stage.measure("batch", &asked, &request, ours, naive).await?;
        self.sheet.step(&figures, "Part hit, part miss: one select for the misses alone.")?;

        let packages: Vec<Arc<Package>> = found.into_iter().flatten().collect();
        let ours = async || Ok(trees(&request, &packages, LEVELS).await?);
        let naive = async |naive: &NaiveTour| naive.trees(&packages, LEVELS).await;
        let asked = format!("relations of the {}, three levels deep", packages.len());
        let (figures, _) = self.stage.measure("three-levels", &asked, &request, ours, naive).await?;
        let see = format!(
            "Each level is one read, and a select per source: {} reads for {LEVELS} levels.",
            figures.shared_reads
        );
        self.sheet.step(&figures, &see)?;

        let asked = format!("all of it, {} packages, by another request", ids.len());
        let figures = everything("three-levels-warm", &asked, &self.stage, &ids).await?;
        let see = "Packages and three levels of relations: a read for each, and no statement.";
        self.sheet.step(&figures, see)
    }

    /// A composite key, and near.
    async fn names(&mut self) -> Result<()> {
        let names = self.cast.names.clone();
        for (step, asked, see) in [
            (
                "names",
                "ids by name and version",
                "A key of two parts, in a region that has near in front of it.",
            ),
            ("near", "the same, by another request", "Near has them, in this process: not even a trip."),
        ] {
            let request = self.stage.cache.request();
            let ours = async || {
                let ids = request.get_many::<PackageNamed>(names.iter().cloned()).await?;
                Ok(ids.into_iter().map(|(_, id)| id.map(|id| *id.key())).collect::<Vec<_>>())
            };
            let naive = async |naive: &NaiveTour| naive.named(&names).await;
            let asked = if step == "names" { format!("{} {asked}", names.len()) } else { asked.to_owned() };
            let (figures, _) = self.stage.measure(step, &asked, &request, ours, naive).await?;
            self.sheet.step(&figures, see)?;
        }
        Ok(())
    }

    /// Past what is known.
    async fn force(&mut self) -> Result<()> {
        let request = self.stage.cache.request();
        request.get::<PackageById>(self.id()).await?;
        let forced = request.with(Force::PastRequest);
        let see = "The request knew it, and was passed over: the shared tier answers.";
        self.get("force-past-request", "force, past the request", &forced, see).await?;
        self.change("changed behind the cache's back").await?;
        let forced = request.with(Force::PastShared);
        let see =
            "The row was changed behind the cache's back; this request sees the new one, and stores nothing.";
        self.get("force-past-shared", "force, past the shared tier too", &forced, see).await
    }

    /// What voids and what renews.
    async fn writes(&mut self) -> Result<()> {
        let id = self.id();
        let request = self.stage.cache.request();
        let stage = &self.stage;
        let ours = async || {
            let write = request.write();
            write.invalidate::<PackageById>([id]).await?;
            let mut transaction = stage.database.begin().await?;
            describe(&mut transaction, id, "changed by a write").await?;
            write.commit(transaction.commit()).await?;
            Ok(())
        };
        let naive = async |_: &NaiveTour| Ok(());
        let (figures, ()) =
            stage.measure("invalidate", "a write: invalidated, published", &request, ours, naive).await?;
        self.sheet.step(&figures, "Voided in every tier once the transaction has committed, and on disk.")?;

        let request = self.stage.cache.request();
        let see = "Nobody sees what was there before.";
        self.get("after-invalidate", "the same package, by another request", &request, see).await?;

        self.change("changed behind the cache's back once more").await?;
        let request = self.stage.cache.request();
        let refreshing = request.with(Force::Refresh);
        let see = "Loaded although it was there, and stored for all.";
        self.get("refresh", "refresh, after a change", &refreshing, see).await?;
        let request = self.stage.cache.request();
        let see = "What the refresh has stored.";
        self.get("after-refresh", "the same package, by another request", &request, see).await
    }

    /// This process lets go of the file; another one opens it.
    async fn restart(mut self, folder: &Path) -> Result<Sheet> {
        self.stage.close().await?;
        let program = std::env::current_exe()?;
        let output = Command::new(program).args([RESTARTED, "--data-dir"]).arg(folder).output()?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the second process failed: {}", told.trim()).into());
        }
        let figures: Step = serde_json::from_slice(&output.stdout)?;
        let see = "The cache is a file: the next process starts warm, and loads nothing.";
        self.sheet.step(&figures, see)?;
        Ok(self.sheet)
    }

    async fn get(&mut self, step: &str, asked: &str, request: &RequestCache, see: &str) -> Result<()> {
        let id = self.id();
        let ours = async || Ok(request.get::<PackageById>(id).await?);
        let naive = async |naive: &NaiveTour| naive.package(id).await;
        let (figures, _) = self.stage.measure(step, asked, request, ours, naive).await?;
        self.sheet.step(&figures, see)
    }

    /// Changes the package of the single gets, and tells the cache nothing.
    async fn change(&self, description: &str) -> Result<()> {
        let mut transaction = self.stage.database.begin().await?;
        describe(&mut transaction, self.id(), description).await?;
        Ok(transaction.commit().await?)
    }

    /// The package of the single gets.
    fn id(&self) -> PackageId {
        self.cast.packages[self.star_at()]
    }

    fn star(&self) -> String {
        let (name, version) = &self.cast.names[self.star_at()];
        format!("package {name} {version}")
    }

    fn star_at(&self) -> usize {
        self.cast.names.iter().position(|(name, _)| name == "mastaba").unwrap_or(0)
    }
}
