//! A source at work: its keys, its codec, its policy, its flights and its near entries.

use std::any::{Any, type_name};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::carried::{Carried, Landed};
use crate::codec::{Codec, Refused, Untried, try_out};
use crate::entry::Format;
use crate::error::text_of;
use crate::event::{Event, Events, Seldom, write_more};
use crate::flight::Flights;
use crate::guarded::{Guarded, Panicked, guard, let_go};
use crate::key::KeySpace;
use crate::limits::millis;
use crate::near::{Near, NearEntry};
use crate::policy::Policy;
use crate::region::RegionCore;
use crate::source::{Fetched, LoadContext, Source};
use crate::worth::{number_of_tags, schema_number};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

mod pace;
mod refusals;

pub(crate) use pace::Pace;
use refusals::Refusals;

/// What stands for a key that may not be shown.
pub(crate) const HIDDEN: &str = "(a key that is not shown)";

/// A source as registered with a cache.
pub(crate) struct Registered<S: Source> {
    pub(crate) source: S,
    pub(crate) region: Arc<RegionCore>,
    pub(crate) keys: KeySpace,
    pub(crate) codec: Codec,
    /// For the names of the fixed tags, in their order.
    tag_names: u8,
    pub(crate) policy: Policy,
    pub(crate) flights: Arc<Flights<S::Key, Landed<S>>>,
    pub(crate) near: Option<Near<S::Key, Carried<S>>>,
    /// Whether it has an `after_fetch` hook; known once the cache is built.
    hooked: OnceLock<bool>,
    near_ttl: Option<Duration>,
    /// How fast its loads are; `None`: all of them take leases.
    pub(crate) pace: Option<Pace>,
    /// Whether a value of it has ever had tags of its own: then fills have to prove them.
    pub(crate) tagged: AtomicBool,
    /// A record of this very schema was met that does not decode: from then on values are read back before they are stored.
    doubted: AtomicBool,
    /// What was said of it, one bit each.
    said: AtomicU8,
    /// What is said again after a while.
    pub(crate) seldom: Seldom,
    /// Where nobody need wait for a fill.
    pub(crate) refusals: Refusals,
}

/// Why bytes are not read back as a value.
pub(crate) struct Undecoded {
    /// Of a few, to say each of them seldom.
    pub(crate) cause: &'static str,
    pub(crate) why: String,
}

/// What is said once per source.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Once {
    /// The clocks of two processes differ.
    Clocks = 1,
    /// A value cannot be stored, for one of three reasons.
    TooDeep = 2,
    Differs = 4,
    Failed = 8,
    /// Fields of its values are read and never written.
    Unread = 16,
    /// The shared tier has entries in another shape of the type.
    OtherShape = 32,
    /// Its rows depend on the request, and it is not private.
    NotPrivate = 64,
}

impl<S: Source> Registered<S> {
    pub(crate) fn new(
        source: S,
        region: Arc<RegionCore>,
        keys: KeySpace,
        codec: Codec,
        policy: Policy,
        near: Option<Near<S::Key, Carried<S>>>,
        near_ttl: Option<Duration>,
    ) -> Self {
        region.keep_stamps_for(&policy);
        let unleased = policy.fill_without_lease && !S::PRIVATE && region.fill_without_lease();
        if !S::SHOW_KEYS {
            region.hides_keys.store(true, Ordering::Relaxed);
        }
        Self {
            source,
            region,
            keys,
            codec,
            tag_names: number_of_tags(S::TAGS),
            policy,
            flights: Flights::new(),
            near,
            hooked: OnceLock::new(),
            near_ttl,
            pace: unleased.then(Pace::default),
            tagged: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            said: AtomicU8::new(0),
            seldom: Seldom::default(),
            refusals: Refusals::default(),
        }
    }

    /// Whether the shared tier has anything of it.
    pub(crate) fn is_stored(&self) -> bool {
        self.region.stores() && !S::PRIVATE
    }

    /// The schema number that stands in entries of a format: 40 bits for the type, and 8 for the names of the fixed tags.
    /// In the stamps of an entry the fixed tags cannot be distinguished, so with others the entry has another shape.
    pub(crate) fn schema(&self, format: Format) -> u64 {
        schema_number(self.codec.schema(format), self.tag_names)
    }

    /// A key, for an event or an error.
    pub(crate) fn show(&self, key: &S::Key) -> String {
        if S::SHOW_KEYS { self.keys.show(key) } else { HIDDEN.to_owned() }
    }

    /// Some keys, for an event; none where they may not be shown.
    pub(crate) fn sample<'k>(&self, keys: impl Iterator<Item = &'k S::Key>) -> Vec<String> {
        if S::SHOW_KEYS { keys.map(|key| self.keys.show(key)).collect() } else { Vec::new() }
    }

    pub(crate) fn hooked(&self) -> bool {
        self.hooked.get().copied().unwrap_or(true)
    }

    /// Whether its hook is the one that stands in the trait, as was seen when it was called. Without having been seen,
    /// it counts as one of the user's.
    pub(crate) fn learn_hooked(&self, hooked: bool) {
        let _ = self.hooked.set(hooked);
    }

    /// Near may be set to forget sooner than the shared tier does.
    pub(crate) fn near_entry(&self, mut entry: NearEntry<Carried<S>>, now_ms: u64) -> NearEntry<Carried<S>> {
        if let Some(ttl) = self.near_ttl {
            entry.until_ms = entry.until_ms.min(now_ms.saturating_add(millis(ttl)));
        }
        entry
    }

    /// Whether this is still to be said; it counts as said then.
    pub(crate) fn says(&self, what: Once) -> bool {
        self.said.fetch_or(what as u8, Ordering::Relaxed) & what as u8 == 0
    }

    /// Says that a value cannot be stored, once per reason: a type that cannot would say so at every load.
    fn cannot_store(&self, events: &Events, why: &Refused) {
        let reason = match why {
            Refused::TooDeep => Once::TooDeep,
            Refused::Differs(_) => Once::Differs,
            Refused::Failed(_) => Once::Failed,
        };
        if self.says(reason) {
            let (value, why) = (type_name::<S::Value>(), why.to_string());
            events.tell(Event::CannotBeStored { source: S::name(), value, why });
        }
    }

    /// Reads a value. What does not decode, or panics while it does, raises a doubt in what is stored.
    pub(crate) fn decode(&self, format: Format, payload: &[u8]) -> Result<Arc<S::Value>, Undecoded> {
        // put where it stays within the guard: it would be copied once more on its way out
        let undecoded = match guard(|| self.codec.decode(format, payload).map(Arc::new)) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(why)) => Undecoded { cause: "does not decode", why: text_of(&why) },
            Err(why) => {
                Undecoded { cause: "panics", why: format!("`Deserialize` of the value panicked: {why}") }
            }
        };
        self.doubted.store(true, Ordering::Relaxed);
        Err(undecoded)
    }

    /// Appends the encoding of a value, which is to stand under the key `record` of the shared tier. `None`: it cannot be
    /// stored, which was said. Once there is a doubt, what was written is also read.
    pub(crate) fn encode(
        &self,
        events: &Events,
        record: &[u8],
        value: &S::Value,
        out: &mut Vec<u8>,
    ) -> Option<Format> {
        let start = out.len();
        let encoded = guard(|| {
            let format = self.codec.encode(value, out)?;
            let unread = self.codec.unread(value, format, &out[start..]);
            Ok::<_, Refused>((format, unread))
        });
        let encoded = match encoded {
            Ok(encoded) => encoded.and_then(|(format, unread)| {
                // with names it was read already
                if format == Format::Postcard && self.doubted.load(Ordering::Relaxed) {
                    self.read_back(format, &out[start..])?;
                }
                Ok((format, unread))
            }),
            Err(why) => {
                out.truncate(start);
                // with names it is read at once
                let what = "`Serialize` of the value, or `Deserialize` of what it wrote,";
                self.say_panicked(events, record, what, &why);
                return None;
            }
        };
        match encoded {
            Ok((format, unread)) => {
                if let Some(fields) = unread
                    && self.says(Once::Unread)
                {
                    let value = type_name::<S::Value>();
                    events.tell(Event::FieldsNotStored { source: S::name(), value, fields });
                }
                Some(format)
            }
            Err(why) => {
                out.truncate(start);
                self.cannot_store(events, &why);
                self.refusals.note(record);
                None
            }
        }
    }

    fn read_back(&self, format: Format, bytes: &[u8]) -> Result<(), Refused> {
        match self.decode(format, bytes) {
            Ok(again) => {
                let_go(again);
                Ok(())
            }
            Err(Undecoded { why, .. }) => Err(Refused::Differs(format!("reading it back failed: {why}"))),
        }
    }

    /// The tags of a value, beside those of its source.
    pub(crate) fn tags(&self, key: &S::Key, value: &S::Value) -> Result<Vec<String>, Panicked> {
        let mut tags = guard(|| self.source.tags(key, value))?;
        tags.sort_unstable();
        tags.dedup();
        tags.retain(|tag| !S::TAGS.contains(&tag.as_str()));
        Ok(tags)
    }

    /// Says that a value is not stored because the user's code panicked: `what` of it.
    pub(crate) fn say_panicked(&self, events: &Events, record: &[u8], what: &'static str, why: &Panicked) {
        self.refusals.note(record);
        let Some(more) = self.seldom.is_due(what) else { return };
        let mut why = format!("{what} panicked: {why}");
        let _ = write_more(&mut why, more);
        events.tell(Event::NotStored { source: S::name(), why });
    }

    pub(crate) fn set_tagged(&self) {
        if !self.tagged.load(Ordering::Relaxed) {
            self.tagged.store(true, Ordering::Relaxed);
        }
    }
}

/// A source whose type is not known.
pub(crate) trait AnySource: Any + Send + Sync {
    fn region(&self) -> &Arc<RegionCore>;
    /// After an invalidation by tag or of the region: no later read joins a flight that is under way.
    fn void_all(&self);
    /// Finds out whether there is a hook, by calling it with nothing.
    fn probe(&self, cx: &LoadContext<'_>);
    /// What is wrong with what it loads from: see [`Source::check`].
    fn check(&self) -> BoxFuture<'_, Vec<String>>;
    /// Says, once, that its rows depend on what its loader read there, and that it is not private.
    fn say_not_private(&self, events: &Events, reads: String);
}

impl<S: Source> AnySource for Registered<S> {
    fn region(&self) -> &Arc<RegionCore> {
        &self.region
    }

    fn void_all(&self) {
        self.flights.void_all();
    }

    fn say_not_private(&self, events: &Events, reads: String) {
        if self.says(Once::NotPrivate) {
            events.tell(Event::NotPrivate { source: S::name(), reads });
        }
    }

    fn probe(&self, cx: &LoadContext<'_>) {
        let mut nothing = Fetched::<S>::new(Vec::new());
        // the hook that stands in the trait marks its rows; one of the user's does not, and may panic
        let tried = try_out(|| drop(self.source.after_fetch(cx, &mut nothing).now_or_never()));
        // where it may not be called with nothing, the first batch that enters a request shows it
        if tried != Err(Untried::PanicsAbort) {
            self.learn_hooked(nothing.hooked);
        }
    }

    fn check(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let name = S::name();
            let budget = self.policy.source_budget;
            let looked = Guarded::new(|| self.source.check());
            // a cache may be built where there is no runtime, and so no clock
            let looked = match tokio::runtime::Handle::try_current() {
                Ok(_) => timeout(budget, looked).await,
                Err(_) => Ok(looked.await),
            };
            let problems = match looked {
                Ok(Ok(problems)) => problems,
                Ok(Err(why)) => vec![format!("`check` panicked: {why}")],
                Err(_) => vec![format!("`check` took longer than its source_budget of {budget:?}")],
            };
            problems.into_iter().map(|problem| format!("source {name}: {problem}")).collect()
        })
    }
}
