//! Work in a task of its own, as a server runs a handler: the future that a runtime itself blocks on is woken by a
//! system call each time, which no handler pays.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

/// One call.
pub(crate) type Job = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Microseconds per call of calls that follow each other in one task.
pub(crate) fn per_call(runtime: &Runtime, calls: u32, job: &Job) -> f64 {
    let job = job.clone();
    within(runtime, async move {
        let began = Instant::now();
        for _ in 0..calls {
            job().await;
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
    })
}

/// Runs a future in a task.
pub(crate) fn within<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(async move { tokio::spawn(work).await }).expect("no panic")
}
