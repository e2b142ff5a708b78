//! What the events of a write tell of what it has collected.

/// So many keys are shown, and so many routes.
pub(crate) const SAMPLE: usize = 5;

/// How much a write, or a step of it, has collected, and of what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// How many keys, tags and regions.
    pub(crate) count: usize,
    /// The sources of its keys; none for tags and regions.
    pub(crate) sources: Vec<&'static str>,
    /// Some of its keys, as text.
    pub(crate) sample: Vec<String>,
}

impl Extent {
    pub(crate) fn add(&mut self, more: &Self) {
        self.count = self.count.saturating_add(more.count);
        for source in &more.sources {
            if !self.sources.contains(source) {
                self.sources.push(source);
            }
        }
        let room = SAMPLE.saturating_sub(self.sample.len());
        self.sample.extend(more.sample.iter().take(room).cloned());
    }
}
