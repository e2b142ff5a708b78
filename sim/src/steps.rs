//! Await points, and futures that are dropped at one.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use shuttle::rand::{Rng, thread_rng};

/// A trip to a tier: mostly as long as any step, sometimes so long that all others can do their part.
///
/// Not shuttle's own `yield_now`: PCT takes that for a wish to be last, and so would never try what happens
/// when one task runs through several trips while another one waits.
pub(crate) async fn trip() {
    let mut polls = if thread_rng().gen_range(0..8) == 0 { 16 } else { 1 };
    poll_fn(move |cx| {
        if polls == 0 {
            return Poll::Ready(());
        }
        polls -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The future, dropped when it has been polled so many times without an end; then `None`.
pub(crate) fn cut_after<F: Future>(polls: Option<usize>, future: F) -> Cut<F> {
    Cut { future: Some(Box::pin(future)), polls }
}

pub(crate) struct Cut<F> {
    future: Option<Pin<Box<F>>>,
    polls: Option<usize>,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        match &mut self.polls {
            None => Poll::Pending,
            Some(0) => {
                self.future = None;
                Poll::Ready(None)
            }
            Some(left) => {
                *left -= 1;
                Poll::Pending
            }
        }
    }
}
