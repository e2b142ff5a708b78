//! What a page has cost, and what it cost the last time in the other modes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mastaba::{Outcomes, Report};

use super::reader::{Loading, Mode, Naive, Reader};
use super::views::counted;
use crate::Result;
use crate::database::Database;

/// How many pages are remembered.
const PAGES: usize = 256;

/// What gathering one page cost. Rendering is not part of it: it is the same in every mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    /// Statements that the database executed for it.
    pub(crate) statements: usize,
    /// Times that it waited for another program or for the cache file: statements, and trips to the shared tier.
    pub(crate) trips: usize,
    /// How long it took.
    pub(crate) took: Duration,
    /// Which tier knew what; with Mastaba alone.
    pub(crate) tiers: Option<Tiers>,
}

/// How many objects each tier answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tiers {
    pub(crate) request: u64,
    pub(crate) near: u64,
    pub(crate) shared: u64,
    pub(crate) source: u64,
    pub(crate) shared_trips: usize,
}

impl Tiers {
    fn of(report: &Report) -> Self {
        let sum = |which: fn(&Outcomes) -> u64| report.outcomes.iter().map(which).sum();
        Self {
            request: sum(|of| of.request_hits),
            near: sum(|of| of.near_hits),
            shared: sum(|of| of.shared_hits),
            source: sum(|of| of.loaded),
            shared_trips: report.shared_trips(),
        }
    }
}

/// The figures of one page, by mode.
pub(crate) type Versus = [Option<Figures>; 3];

/// The last figures of the pages that were looked at.
#[derive(Default)]
pub(crate) struct Costs(Mutex<HashMap<String, Versus>>);

impl Costs {
    /// Remembers what a page cost, and says what is known of it.
    pub(crate) fn record(&self, page: &str, mode: Mode, figures: Figures) -> Versus {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= PAGES && !pages.contains_key(page) {
            // any of them: it is back after one look at it
            let some = pages.keys().next().cloned();
            some.and_then(|some| pages.remove(&some));
        }
        let versus = pages.entry(page.to_owned()).or_default();
        versus[mode as usize] = Some(figures);
        *versus
    }
}

/// One page to gather, whatever the reader.
pub(crate) trait Gather: Sync {
    /// What it comes to.
    type Page: Send;

    /// Gathers it.
    fn gather<R: Reader>(&self, reader: &R) -> impl Future<Output = Result<Self::Page>> + Send;

    /// How many statements it made past its reader: a search, which no reader can answer.
    fn aside(&self) -> usize {
        0
    }
}

/// The report, and what it cannot know of: statements past the cache.
fn told(report: &Report, aside: usize) -> String {
    let mut text = report.to_string();
    if aside > 0 {
        let statements = counted(aside, "statement", "statements");
        text.push_str(&format!("  and {statements} past the cache: the search\n"));
    }
    text
}

/// What one page has cost: figures to put beside those of the other modes, and with Mastaba the report.
pub(crate) struct Cost {
    pub(crate) figures: Figures,
    pub(crate) report: Option<String>,
}

/// Gathers a page in a mode, and says what that has cost.
pub(crate) async fn measured<G: Gather>(
    page: &G,
    mode: Mode,
    database: &Database,
    request: &mastaba::RequestCache,
) -> Result<(G::Page, Cost)> {
    let counted = database.counted_apart();
    let began = Instant::now();
    let gathered = match mode {
        Mode::Naive => page.gather(&Naive::new(counted.clone())).await?,
        Mode::DataLoader => page.gather(&Loading::new(counted.clone())).await?,
        Mode::Mastaba => page.gather(request).await?,
    };
    let took = began.elapsed();
    let cost = if mode == Mode::Mastaba {
        let report = request.report();
        let (statements, tiers) = (report.statements() + page.aside(), Tiers::of(&report));
        let figures =
            Figures { statements, trips: statements + tiers.shared_trips, took, tiers: Some(tiers) };
        Cost { figures, report: Some(told(&report, page.aside())) }
    } else {
        let statements = counted.statements() + page.aside();
        Cost { figures: Figures { statements, trips: statements, took, tiers: None }, report: None }
    };
    Ok((gathered, cost))
}
