//! The code of the book.
//!
//! Every Rust block of a page is compiled as a test of this crate, and run, unless it says `no_run` because it needs a
//! server. `cargo xtask test --only sources` looks that no page is left out here, and that no block is left out of a page.

use std::future::Future;

pub mod accounts;
pub mod blog;

/// Runs what a block of the book awaits, on one thread.
///
/// # Panics
/// If it fails: then the page is wrong.
pub fn run(work: impl Future<Output = Result<(), mastaba::BoxError>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work).expect("the code of the page");
}

/// One module per page, whose documentation is the page.
macro_rules! pages {
    ($($name:ident: $path:literal;)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../", $path))]
            pub mod $name {}
        )*
    };
}

pages! {
    readme: "../../README.md";
    introduction: "src/README.md";
    start_axum: "src/start/axum.md";
    start_plain: "src/start/plain.md";
    start_sea_orm: "src/start/sea-orm.md";
    guide_sources: "src/guide/sources.md";
    guide_batching: "src/guide/batching.md";
    guide_relations: "src/guide/relations.md";
    guide_indexes: "src/guide/indexes.md";
    guide_values: "src/guide/values.md";
    guide_writes: "src/guide/writes.md";
    guide_tags: "src/guide/tags.md";
    guide_near: "src/guide/near.md";
    guide_staleness: "src/guide/staleness.md";
    guide_tenants: "src/guide/tenants.md";
    guide_reports: "src/guide/reports.md";
    guide_testing: "src/guide/testing.md";
    from_by_hand: "src/from/by-hand.md";
    from_dataloader: "src/from/dataloader.md";
    from_cached: "src/from/cached.md";
    from_dogpile: "src/from/dogpile.md";
    from_identity_cache: "src/from/identity-cache.md";
    from_fusioncache: "src/from/fusioncache.md";
    operations_memcached: "src/operations/memcached.md";
    operations_redis: "src/operations/redis.md";
    operations_alerts: "src/operations/alerts.md";
    reference_settings: "src/reference/settings.md";
}
