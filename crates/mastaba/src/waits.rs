//! Which load waits for which: one that waits for itself gets an error, instead of hanging until its budget is over.
//!
//! A loader or a hook that reads through the cache waits for the load of what it reads. That is an edge from its own
//! [`Load`] to the other one, for as long as it waits. Whoever adds an edge looks whether it closes a circle.
//!
//! An edge is added first and looked at then: of two that would close a circle together, at least one sees the other.

use std::sync::atomic::AtomicU32;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};

/// So many loads may be inside of each other. A loader that loads itself anew, past everything that is known, waits for
/// no load twice, and would never end.
const DEEPEST: u32 = 64;

/// The load of the keys of one part, and what it waits for.
pub(crate) struct Load {
    /// The name of its source, or of what a request works out once.
    pub(crate) source: &'static str,
    waits_for: Mutex<Vec<Arc<Load>>>,
    awaited: AtomicBool,
    depth: AtomicU32,
}

/// Why a load cannot wait for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endless {
    /// That one waits for it.
    Circle,
    /// It is inside of too many others.
    TooDeep,
}

impl Load {
    pub(crate) fn new(source: &'static str) -> Arc<Self> {
        Arc::new(Self {
            source,
            waits_for: Mutex::new(Vec::new()),
            awaited: AtomicBool::new(false),
            depth: AtomicU32::new(0),
        })
    }

    /// This load waits for another one, for as long as the wait lives.
    pub(crate) fn wait_for(self: &Arc<Self>, other: &Arc<Self>) -> Result<Wait, Endless> {
        other.awaited.store(true, Ordering::Release);
        other.depth.fetch_max(self.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        lock(&self.waits_for).push(other.clone());
        let wait = Wait { by: self.clone(), on: other.clone() };
        if other.leads_to(self) { Err(Endless::Circle) } else { Ok(wait) }
    }

    /// Whether there may be one more load inside of it.
    pub(crate) fn has_room(&self) -> Result<(), Endless> {
        if self.depth.load(Ordering::Relaxed) < DEEPEST { Ok(()) } else { Err(Endless::TooDeep) }
    }

    /// Whether another load waits for it, or has.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// Whether this load is that one, or waits for it, by itself or through others.
    pub(crate) fn leads_to(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut reached = vec![self.clone()];
        let mut next = 0;
        while let Some(load) = reached.get(next).cloned() {
            if Arc::ptr_eq(&load, other) {
                return true;
            }
            for on in lock(&load.waits_for).iter() {
                if !reached.iter().any(|each| Arc::ptr_eq(each, on)) {
                    reached.push(on.clone());
                }
            }
            next += 1;
        }
        false
    }
}

/// A load waits for another one; dropped, it does no longer.
pub(crate) struct Wait {
    by: Arc<Load>,
    on: Arc<Load>,
}

impl Wait {
    /// Whether it is for this load.
    pub(crate) fn is_for(&self, load: &Arc<Load>) -> bool {
        Arc::ptr_eq(&self.on, load)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = lock(&self.by.waits_for);
        if let Some(at) = waits.iter().position(|each| Arc::ptr_eq(each, &self.on)) {
            waits.swap_remove(at);
        }
    }
}
