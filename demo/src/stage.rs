//! The cache over the database, and how a step is measured: ours and the naive way, over the same data.

use std::path::Path;
use std::time::{Duration, Instant};

use mastaba::{Cache, NearConfig, Outcomes, Region, Report, RequestCache};

use crate::Result;
use crate::database::Database;
use crate::figures::Step;
use crate::naive::NaiveTour;
use crate::sources::{AuthorsOf, DependenciesOf, FeaturesOf, KeywordsOf, PackageById, PackageNamed};

/// The cache, the database under it, and the naive reader beside it.
pub(crate) struct Stage {
    pub(crate) cache: Cache,
    pub(crate) database: Database,
    naive: NaiveTour,
}

impl Stage {
    /// The cache of a folder: what an earlier process has put there is warm.
    pub(crate) async fn open(folder: &Path, database: Database) -> Result<Self> {
        let region = || {
            Region::embedded(folder)
                .ttl(Duration::from_secs(3600))
                .absent_ttl(Duration::from_secs(3600))
                // the tour shows the same figures on a machine that is busy
                .early_refresh(0.0)
                .source_soft_budget(Duration::from_secs(5))
                .shared_budget(Duration::from_secs(5))
        };
        let cache = Cache::builder()
            .region("packages", region())
            .region("names", region().near(NearConfig::entries(10_000)))
            .source(PackageById(database.clone()))
            .source(PackageNamed(database.clone()))
            .source(DependenciesOf(database.clone()))
            .source(AuthorsOf(database.clone()))
            .source(FeaturesOf(database.clone()))
            .source(KeywordsOf(database.clone()))
            .build()
            .await?;
        let naive = NaiveTour(database.counted_apart());
        Ok(Self { cache, database, naive })
    }

    /// Does a piece of work through a request and again without any cache, and tells what both have cost.
    ///
    /// Fails if they do not come to the same, or if the report of the request and the database differ on
    /// the number of statements.
    pub(crate) async fn measure<T: PartialEq>(
        &self,
        step: &str,
        asked: &str,
        request: &RequestCache,
        ours: impl AsyncFnOnce() -> Result<T>,
        naive: impl AsyncFnOnce(&NaiveTour) -> Result<T>,
    ) -> Result<(Step, T)> {
        let (before, executed) = (request.report(), self.database.statements());
        let began = Instant::now();
        let answer = ours().await?;
        let took = began.elapsed();
        // fills are not waited for; they belong to this step and not to the next
        self.cache.idle().await;
        let (after, executed) = (request.report(), self.database.statements() - executed);

        let naive_before = self.naive.0.statements();
        let began = Instant::now();
        let same = naive(&self.naive).await?;
        let naive_took = began.elapsed();

        let reported = after.statements() - before.statements();
        if reported != executed {
            return Err(format!(
                "step {step}: the request reports {reported} statements, and the database executed {executed}\n{after}"
            )
            .into());
        }
        if answer != same {
            return Err(format!("step {step}: the cache and the naive reader do not agree\n{after}").into());
        }
        let more = |which: fn(&Outcomes) -> u64| sum(&after, which) - sum(&before, which);
        let figures = Step {
            step: step.to_owned(),
            asked: asked.to_owned(),
            request_hits: more(|of| of.request_hits),
            near_hits: more(|of| of.near_hits),
            shared_hits: more(|of| of.shared_hits),
            loaded: more(|of| of.loaded),
            absent: more(|of| of.absent),
            shared_trips: after.shared_trips() - before.shared_trips(),
            statements: executed,
            naive_statements: self.naive.0.statements() - naive_before,
            micros: micros(took),
            shared_reads: after.shared_reads() - before.shared_reads(),
            naive_micros: micros(naive_took),
        };
        Ok((figures, answer))
    }

    /// Lets go of the files: another process may have them.
    pub(crate) async fn close(self) -> Result<()> {
        self.cache.close().await?;
        self.database.close().await;
        Ok(())
    }
}

fn sum(report: &Report, which: fn(&Outcomes) -> u64) -> u64 {
    report.outcomes.iter().map(which).sum()
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
