//! A place for whatever belongs to a request.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// Values by type, for as long as the request lives. See [`RequestCache::stash`](crate::RequestCache::stash).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let cache = mastaba::Cache::builder().build().await?;
/// struct CurrentUser(&'static str);
///
/// let request = cache.request();
/// request.stash().insert(CurrentUser("ada"));
/// assert_eq!(request.stash().get::<CurrentUser>().unwrap().0, "ada");
/// assert!(request.stash().get::<String>().is_none());
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Default)]
pub struct Stash {
    // boxed: most requests stash nothing
    values: Mutex<Option<Box<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>>,
}

impl Stash {
    /// Puts a value, and gives back the one of its type that was there.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        let mut values = lock(&self.values);
        let values = values.get_or_insert_with(Box::default);
        values.insert(TypeId::of::<T>(), Arc::new(value)).and_then(|old| old.downcast().ok())
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        lock(&self.values).as_ref()?.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// The value of a type, or a new one.
    pub fn get_or_insert_with<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.get() {
            return value;
        }
        // made without the lock, as making may use the stash; whoever puts first wins
        let made = Arc::new(make());
        let mut values = lock(&self.values);
        let slot =
            values.get_or_insert_with(Box::default).entry(TypeId::of::<T>()).or_insert_with(|| made.clone());
        slot.clone().downcast().unwrap_or(made)
    }

    /// Takes a value out.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        lock(&self.values).as_mut()?.remove(&TypeId::of::<T>())?.downcast().ok()
    }
}

impl fmt::Debug for Stash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = lock(&self.values).as_ref().map_or(0, |values| values.len());
        f.debug_struct("Stash").field("values", &values).finish()
    }
}
