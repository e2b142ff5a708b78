//! Writes down what `tracing` is told: events with their fields and the spans around them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Scope};

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) target: String,
    pub(crate) level: Level,
    pub(crate) fields: BTreeMap<String, String>,
    /// From the root to the innermost.
    pub(crate) spans: Vec<String>,
}

impl Line {
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    pub(crate) fn message(&self) -> &str {
        self.get("message").unwrap_or_default()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Log {
    /// Listens to this thread, which a test of one thread does everything on.
    pub(crate) fn start() -> (Self, DefaultGuard) {
        Self::at(LevelFilter::TRACE)
    }

    /// Listens to what is at least of this level, spans too.
    pub(crate) fn at(level: LevelFilter) -> (Self, DefaultGuard) {
        // Whether anybody is interested in an event is remembered for the whole process. Where tests are threads of one
        // process, somebody has to be interested for good, or what one test does not look at is kept from another.
        static INTERESTED: Once = Once::new();
        INTERESTED.call_once(|| {
            // or somebody is already
            let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        });
        let log = Self::default();
        let guard = tracing::subscriber::set_default(
            tracing_subscriber::registry().with(log.clone().with_filter(level)),
        );
        (log, guard)
    }

    pub(crate) fn all(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// The lines that requests have ended with.
    pub(crate) fn requests(&self) -> Vec<Line> {
        let ended = |line: &Line| line.target == "mastaba::request" && line.level == Level::DEBUG;
        self.all().into_iter().filter(ended).collect()
    }

    pub(crate) fn warnings(&self) -> Vec<Line> {
        self.all().into_iter().filter(|line| line.level == Level::WARN).collect()
    }

    pub(crate) fn trips(&self) -> Vec<Line> {
        self.all().into_iter().filter(|line| line.message() == "trip").collect()
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = cx.event_scope(event).into_iter().flat_map(Scope::from_root);
        self.lines.lock().unwrap().push(Line {
            target: event.metadata().target().to_owned(),
            level: *event.metadata().level(),
            fields: fields.0,
            spans: spans.map(|span| span.name().to_owned()).collect(),
        });
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
