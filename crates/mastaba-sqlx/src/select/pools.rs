//! Where a select takes its connection from.

use std::future::Future;
use std::sync::Arc;

use mastaba::{Checked, LoadContext, Positions, Replicated};
use sqlx::{Database, Pool};

/// A pool, or several that are one database: [`Replicated`], and [`Checked`] in an `Arc`.
pub trait Pools<DB: Database>: Clone + Send + Sync + 'static {
    /// The pool to load from.
    fn pick(&self, cx: &LoadContext<'_>) -> impl Future<Output = &Pool<DB>> + Send;

    /// The pool of the writing database.
    fn writer(&self) -> &Pool<DB>;
}

impl<DB: Database> Pools<DB> for Pool<DB> {
    async fn pick(&self, _: &LoadContext<'_>) -> &Pool<DB> {
        self
    }

    fn writer(&self) -> &Pool<DB> {
        self
    }
}

impl<DB: Database> Pools<DB> for Replicated<Pool<DB>> {
    async fn pick(&self, cx: &LoadContext<'_>) -> &Pool<DB> {
        Self::pick(self, cx)
    }

    fn writer(&self) -> &Pool<DB> {
        Self::writer(self)
    }
}

impl<DB: Database, C: Positions<Pool<DB>> + Send + Sync + 'static> Pools<DB> for Arc<Checked<Pool<DB>, C>> {
    async fn pick(&self, cx: &LoadContext<'_>) -> &Pool<DB> {
        Checked::pick(self, cx).await
    }

    fn writer(&self) -> &Pool<DB> {
        Checked::writer(self)
    }
}
