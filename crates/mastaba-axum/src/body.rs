//! The response body, which the scope of the request lives as long as.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use mastaba::Scope;
use pin_project_lite::pin_project;

pin_project! {
    /// A response body that closes the request's cache when it has ended or is dropped.
    ///
    /// Data, trailers, errors and the size are those of the body inside. It is polled inside of the request's
    /// span, so that what a stream reads is told as a part of its request.
    #[derive(Debug)]
    pub struct ScopedBody<B> {
        // dropped before the scope: the stream may hold the request
        #[pin]
        inner: B,
        scope: Option<Scope>,
    }
}

impl<B> ScopedBody<B> {
    pub(crate) fn new(inner: B, scope: Option<Scope>) -> Self {
        Self { inner, scope }
    }
}

impl<B: Body> Body for ScopedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let polled = {
            let _inside = this.scope.as_ref().map(|scope| scope.span().enter());
            this.inner.as_mut().poll_frame(cx)
        };
        let frame = ready!(polled);
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            drop(this.scope.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
