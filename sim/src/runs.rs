//! Runs a model over many schedules.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// How many schedules each scheduler tries, unless `SIM_ITERATIONS` says otherwise: enough to see at every change that
/// nothing is badly wrong. A long run tries a hundred times as many.
pub const ITERATIONS: usize = 1000;

/// How many a control has at least, which has to be found whatever the number of schedules of a short run.
const OF_A_CONTROL: usize = 10_000;

/// A run takes a few hundred steps. One that has not ended after so many turns in circles.
const MOST_STEPS: usize = 5_000;

/// Preemptions that PCT looks for together.
const DEPTH: usize = 4;

/// Runs a model under a random scheduler and under PCT, each over [`ITERATIONS`] schedules.
///
/// # Panics
/// If the model does, or if a schedule ends in a deadlock or never.
pub fn always<F: Fn() + Send + Sync + Clone + 'static>(model: F) {
    let iterations = iterations();
    run(RandomScheduler::new(iterations), FailurePersistence::Print, model.clone());
    run(PctScheduler::new(DEPTH, iterations), FailurePersistence::Print, model);
}

/// What the first of many schedules under which a model fails says, if there is one.
pub fn violation<F: Fn() + Send + Sync + Clone + 'static>(model: F) -> Option<String> {
    let iterations = (iterations() * 4).max(OF_A_CONTROL);
    let random = || run(RandomScheduler::new(iterations), FailurePersistence::None, model.clone());
    let pct = || run(PctScheduler::new(DEPTH, iterations), FailurePersistence::None, model.clone());
    let failed = catch_unwind(AssertUnwindSafe(random)).and_then(|()| catch_unwind(AssertUnwindSafe(pct)));
    failed.err().map(|panic| text(panic.as_ref()))
}

fn run<F: Fn() + Send + Sync + 'static>(
    scheduler: impl Scheduler + 'static,
    persistence: FailurePersistence,
    model: F,
) {
    let mut config = Config::new();
    config.failure_persistence = persistence;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model);
}

fn iterations() -> usize {
    match std::env::var("SIM_ITERATIONS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("SIM_ITERATIONS is no number: {text}")),
        Err(_) => ITERATIONS,
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}
