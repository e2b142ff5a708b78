//! A piece of work that says at its end what it cost: a request of a web service, a job, a command.

use std::fmt;
use std::ops::Deref;

use tracing::{Instrument, Level, Span};

use crate::cache::Cache;
use crate::guarded::guard;
use crate::report::{Budget, Report, counted};
use crate::request::RequestCache;

/// A [`RequestCache`] that says at its end what it cost. See [`Cache::scope`].
///
/// The end is its drop, or the end of [`run`](Scope::run). It then gives `tracing` one line at level `DEBUG`
/// (target `mastaba::request`: `method`, `route`, `status`, `end`, `trips`, `statements`, `near`, `shared`, `loaded`,
/// `elapsed_us`), and, if a [`Budget`] was exceeded, one at level `WARN` that begins with `N+1?`. The whole table of that
/// report is a line at level `DEBUG` of its own (target `mastaba::report`).
///
/// `end` says how the work ended: see [`ScopeEnd`].
///
/// Both are said inside of the scope's [`span`](Scope::span). Clones of the request that outlive the scope
/// go on to work; what they cost after its end is not in its line.
pub struct Scope {
    request: RequestCache,
    span: Span,
    method: Option<String>,
    status: Option<u16>,
    end: ScopeEnd,
    budget: Option<Budget>,
    on_over_budget: Option<Box<Listener>>,
}

/// How the work of a [`Scope`] ended, for its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeEnd {
    /// It was done.
    #[default]
    Complete,
    /// It was dropped before: the client went away, or a time-out was over.
    CutOff,
    /// It failed: there is no response, or its body ended with an error.
    Failed,
    /// It panicked. Nobody has to say this one: a scope that is dropped by a panic knows.
    Panicked,
}

impl fmt::Display for ScopeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::CutOff => "cut off",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
        })
    }
}

/// So many of the worst sources stand in the warning.
const SHOWN: usize = 3;

type Listener = dyn Fn(&OverBudget) + Send + Sync;

/// A piece of work that cost more than it may. See [`Scope::on_over_budget`].
///
/// `Display` gives the sentence of the warning: one line, with the worst sources. All of it is in the report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OverBudget {
    /// The route, or the name of the job.
    pub name: String,
    /// What it may cost.
    pub budget: Budget,
    /// What it cost.
    pub report: Report,
}

impl Cache {
    /// A request cache that says at its end what it cost, for work with a name: a job, a command.
    ///
    /// Costs what [`request`](Cache::request) costs. The layers for web frameworks open one per request.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Budget;
    ///
    /// let cache = World::new().await.cache;
    /// let names = cache
    ///     .scope("remind everybody")
    ///     .budget(Budget { trips: 2, statements: 1 })
    ///     .run(|request| async move {
    ///         let users = request.get_many::<UserById>(1..=20).await?;
    ///         Ok::<_, mastaba::Error>(users.found().map(|(_, user)| user.name.clone()).collect::<Vec<_>>())
    ///     })
    ///     .await?;
    /// assert_eq!(names.len(), 20);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use = "a scope ends where it is dropped"]
    pub fn scope(&self, name: impl Into<String>) -> Scope {
        let name = name.into();
        Scope {
            span: tracing::debug_span!(target: "mastaba", "request_cache", route = name),
            request: self.request_named(name),
            method: None,
            status: None,
            end: ScopeEnd::Complete,
            budget: None,
            on_over_budget: None,
        }
    }
}

impl Scope {
    /// What the work may cost. A [`Budget`] in the [stash](RequestCache::stash) of the request counts before
    /// this one: so a handler, or a layer further in, sets its own.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Is called at the end, once, if the budget was exceeded. A panic in it is caught.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Budget;
    /// use std::sync::{Arc, Mutex};
    ///
    /// let cache = World::new().await.cache;
    /// let worst = Arc::new(Mutex::new(None));
    /// let seen = worst.clone();
    /// let scope = cache
    ///     .scope("one by one")
    ///     .budget(Budget { trips: 10, statements: 1 })
    ///     .on_over_budget(move |over| *seen.lock().unwrap() = Some(over.to_string()));
    /// for id in 1..=3 {
    ///     scope.get::<UserById>(id).await?;
    /// }
    /// drop(scope);
    /// assert_eq!(
    ///     worst.lock().unwrap().as_deref(),
    ///     Some("N+1? one by one cost 4 trips and 3 statements, and may cost 10 and 1; most by user: 3")
    /// );
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn on_over_budget(mut self, listener: impl Fn(&OverBudget) + Send + Sync + 'static) -> Self {
        self.on_over_budget = Some(Box::new(listener));
        self
    }

    /// The method of an HTTP request, for the line.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// The status of the response, for the line. Without one the line has none: there was no response.
    pub fn set_status(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// How the work has ended, or will have if the scope is dropped now; [`ScopeEnd::Complete`] unless something else is said.
    ///
    /// Who may be dropped in the middle says [`ScopeEnd::CutOff`] at the start and [`ScopeEnd::Complete`] at the end, as
    /// [`run`](Scope::run) and the layers for web frameworks do.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::World;
    /// use mastaba::ScopeEnd;
    ///
    /// let mut scope = World::new().await.cache.scope("a stream");
    /// scope.set_end(ScopeEnd::CutOff);
    /// // .. whatever may be dropped, and then:
    /// scope.set_end(ScopeEnd::Complete);
    /// assert_eq!(scope.end(), ScopeEnd::Complete);
    /// # });
    /// ```
    pub fn set_end(&mut self, end: ScopeEnd) {
        self.end = end;
    }

    /// How the work ended, as [`set_end`](Scope::set_end) has said last.
    pub fn end(&self) -> ScopeEnd {
        self.end
    }

    /// The span of the work, a child of the one that was current when the scope was made. Reads that are made
    /// while it is current are its children.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Runs a piece of work inside of the span, with the request. The scope ends with it, or with this future: dropped in
    /// the middle, its line says that it was cut off.
    pub async fn run<T, F: Future<Output = T>>(mut self, work: impl FnOnce(RequestCache) -> F) -> T {
        let span = self.span.clone();
        self.set_end(ScopeEnd::CutOff);
        async move {
            let mut scope = self; // whole, and not only its fields
            let done = work(scope.request.clone()).await;
            scope.set_end(ScopeEnd::Complete);
            done
        }
        .instrument(span)
        .await
    }

    fn name(&self) -> &str {
        &self.request.inner.name
    }

    fn close(&self) {
        let budget = self.request.stash().get::<Budget>().map(|budget| *budget).or(self.budget);
        let told = tracing::event_enabled!(target: "mastaba::request", Level::DEBUG);
        if !told && budget.is_none() {
            return; // a report is a copy of every trip
        }
        let _inside = self.span.enter();
        let report = self.request.report();
        let end = if std::thread::panicking() { ScopeEnd::Panicked } else { self.end };
        tracing::debug!(
            target: "mastaba::request",
            method = self.method,
            route = self.name(),
            status = self.status,
            end = %end,
            trips = report.shared_trips(),
            statements = report.statements(),
            near = report.sum(|outcomes| outcomes.near_hits),
            shared = report.sum(|outcomes| outcomes.shared_hits),
            loaded = report.sum(|outcomes| outcomes.loaded),
            elapsed_us = report.elapsed.as_micros() as u64,
            "{}",
            if end == ScopeEnd::Complete { "request".to_owned() } else { format!("request, {end}") }
        );
        if let Some(budget) = budget.filter(|budget| !report.is_within(*budget)) {
            self.warn(&OverBudget { name: self.name().to_owned(), budget, report });
        }
    }

    fn warn(&self, over: &OverBudget) {
        let (worst, most) = over.report.worst_source().unzip();
        tracing::warn!(
            target: "mastaba::request",
            method = self.method,
            route = over.name,
            trips = over.report.shared_trips(),
            statements = over.report.statements(),
            worst,
            worst_statements = most,
            "{over}"
        );
        tracing::debug!(target: "mastaba::report", route = over.name, "{}", over.report);
        if let Some(listener) = &self.on_over_budget {
            // this may be a drop in the middle of a panic
            let _ = guard(|| listener(over));
        }
    }
}

impl Deref for Scope {
    type Target = RequestCache;

    fn deref(&self) -> &RequestCache {
        &self.request
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "a request" } else { &self.name };
        let over = self.budget.over(self.report.shared_trips(), self.report.statements());
        write!(f, "N+1? {name} {}", over.unwrap_or_default())?;
        let worst = self.report.worst_sources();
        for (nth, (source, statements)) in worst.iter().take(SHOWN).enumerate() {
            write!(f, "{}{source}: {statements}", if nth == 0 { "; most by " } else { ", " })?;
        }
        match worst.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {}", counted(more, "more source")),
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("name", &self.name())
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
